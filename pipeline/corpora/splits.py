"""Splits that never put one person, or two copies of one picture, on both sides.

They are a function of the pictures alone: the same files give the same split on every machine, and a picture that comes
later moves no other one, unless it joins two groups.
"""

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import imagehash
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pipeline.errors import UserError

SHARES: Mapping[str, float] = {"train": 0.8, "validation": 0.1, "test": 0.1}

_THUMBNAIL_PX = 64
_HASHED_PX = 32  # what imagehash.phash shrinks to, for 8 x 8 bits
_MAX_SHIFT_PX = 6
_BLOCK = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyThresholds:
    """When two pictures are copies: re-compressed, re-scaled, re-cropped, re-coloured, marked or mirrored.

    max_bits: candidates are pairs whose perceptual hashes (64 bits) differ in so many bits at most.
    min_correlation: least correlation of their fine detail, where the one lies best on the other.
    retry_correlation: from here on a pair gets a second try, turned, sheared and scaled onto each other.

    Set by eye on UTKFace: all 51 pairs of a correlation of .90 to .95, and all 13 that the second try adds, are copies;
    of those from .85 to .89, three in four are strangers.
    """

    max_bits: int = 12
    min_correlation: float = 0.90
    retry_correlation: float = 0.75


def split(names: Sequence[str], groups: NDArray[np.int64], shares: Mapping[str, float] = SHARES) -> NDArray[np.str_]:
    """The side of each of N pictures, (N,) str: a key of `shares`, which sum to 1.

    names: a picture's name in its data set, or who it shows: of a group the smallest counts, by its SHA-256.
    groups: (N,) pictures of one group stay together.
    """
    if abs(sum(shares.values()) - 1) > 1e-9 or min(shares.values()) < 0:
        raise ValueError(f"shares must be at least 0 and sum to 1, got {dict(shares)}")
    keys = pd.Series(list(names), dtype=object).groupby(np.asarray(groups)).transform("min")
    position_by_key = {key: _position(key) for key in keys.unique()}
    ends = np.cumsum(list(shares.values()))
    sides = np.searchsorted(ends, keys.map(position_by_key).to_numpy(np.float64), side="right")
    return np.array(list(shares))[np.minimum(sides, len(shares) - 1)]


def split_faces(table: pd.DataFrame, shares: Mapping[str, float] = SHARES) -> NDArray[np.str_]:
    """`split` of a table of labelled faces: by person where the data set names people, else by copies of one picture.

    Both hold where it names some of them. Where everybody is named no picture is read.
    """
    known = table["person"].notna().to_numpy()
    copies = np.arange(len(table), dtype=np.int64) if known.all() else groups(table["path"].tolist())
    people = np.where(known, "person " + table["person"].astype(str), "picture " + table["name"].astype(str))
    return split(people.tolist(), joined(copies, people.tolist()), shares)


def joined(groups: NDArray[np.int64], others: Sequence[Hashable]) -> NDArray[np.int64]:
    """(N,) groups of what is together in `groups`, or in `others`, or by a chain of both."""
    second = pd.factorize(np.asarray(others))[0]
    first = np.unique(groups, return_inverse=True)[1]
    num = int(first.max(initial=-1)) + 1
    labels = _components(first, num + second, num + int(second.max(initial=-1)) + 1)[first]
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


def groups(paths: Sequence[Path | str], thresholds: CopyThresholds = CopyThresholds()) -> NDArray[np.int64]:
    """Which pictures are copies of one another, directly or by a chain: (N,) numbers from 0, by first appearance.

    Perceptual hashes (imagehash.phash) of the picture and of its mirror image give candidates; the correlation of fine
    detail decides, so that faces that merely look alike stay apart. Time grows with N²: 20,811 faces take a
    minute on one core. Raises UserError for a file that is no picture.
    """
    hashes, thumbnails = _read(paths)
    one, other = copies(hashes, thumbnails, thresholds)
    labels = _components(one, other, len(paths))
    first = np.unique(labels, return_index=True)[1]
    order = np.argsort(np.argsort(first))
    return order[labels].astype(np.int64)


def copies(
    hashes: NDArray[np.uint64], thumbnails: NDArray[np.uint8], thresholds: CopyThresholds
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The pairs (P,), (P,) of copies, the first always the smaller index.

    hashes: (N, 2), as it is and mirrored; thumbnails: (N, 64, 64) grey.
    """
    details: dict[int, NDArray[np.float32]] = {}

    def detail(index: int) -> NDArray[np.float32]:
        if index not in details:
            details[index] = fine_detail(thumbnails[index])
        return details[index]

    found: list[tuple[int, int]] = []
    for start in range(0, len(hashes), _BLOCK):
        block = hashes[start : start + _BLOCK, :1]
        for mirrored in (0, 1):
            bits = np.bitwise_count(block ^ hashes[None, start:, mirrored])
            rows, columns = np.nonzero(np.triu(bits <= thresholds.max_bits, k=1))
            for row, column in zip((rows + start).tolist(), (columns + start).tolist(), strict=True):
                second = np.ascontiguousarray(detail(column)[:, ::-1]) if mirrored else detail(column)
                if are_copies(detail(row), second, thresholds):
                    found.append((row, column))
    pairs = np.unique(np.array(found, np.int64).reshape(-1, 2), axis=0)
    return pairs[:, 0], pairs[:, 1]


def are_copies(one: NDArray[np.float32], other: NDArray[np.float32], thresholds: CopyThresholds) -> bool:
    """Whether two pictures' fine details, (64, 64), are of one photograph; what has no detail is a copy of nothing."""
    edge = slice(_MAX_SHIFT_PX, -_MAX_SHIFT_PX)
    if one[edge, edge].std() < 0.05 or other[edge, edge].std() < 0.05:
        return False
    shifted = float(cv2.matchTemplate(one, other[edge, edge], cv2.TM_CCOEFF_NORMED).max())
    if shifted >= thresholds.min_correlation:
        return True
    return shifted >= thresholds.retry_correlation and _aligned_correlation(one, other) >= thresholds.min_correlation


def fine_detail(thumbnail: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Edges and texture of a (64, 64) grey picture at even strength: what is left without shading and contrast."""
    grey = cv2.GaussianBlur(thumbnail.astype(np.float32), (0, 0), 1.0)
    high = grey - cv2.GaussianBlur(grey, (0, 0), 4.0)
    strength = np.sqrt(cv2.GaussianBlur(high * high, (0, 0), 6.0))
    return (high / (strength + 4.0)).astype(np.float32)


def _aligned_correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Correlation once `other` lies on `one` by the best affine map (ECC: Evangelidis, Psarakis 2008); -1 if none."""
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 1e-3)
    start = np.eye(2, 3, dtype=np.float32)
    everywhere = np.full(one.shape, 255, np.uint8)
    try:
        _, turn = cv2.findTransformECC(one, other, start, cv2.MOTION_AFFINE, stop, everywhere, 3)
    except cv2.error:  # it does not converge: they have nothing in common
        return -1.0
    flags = cv2.WARP_INVERSE_MAP
    laid = cv2.warpAffine(other, turn, one.shape[::-1], flags=flags | cv2.INTER_LINEAR)
    seen = cv2.warpAffine(everywhere, turn, one.shape[::-1], flags=flags | cv2.INTER_NEAREST) > 0
    if seen.mean() < 0.5 or laid[seen].std() < 0.05:
        return -1.0
    return float(np.corrcoef(one[seen], laid[seen])[0, 1])


def _read(paths: Sequence[Path | str]) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
    """Hashes (N, 2) of the pictures and of their mirror images, and grey thumbnails (N, 64, 64)."""
    hashes = np.zeros((len(paths), 2), np.uint64)
    thumbnails = np.zeros((len(paths), _THUMBNAIL_PX, _THUMBNAIL_PX), np.uint8)
    for index, path in enumerate(paths):
        # Not with PIL's open, which Ultralytics replaces by one that wants a plugin for what it does not know.
        read = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) if Path(path).exists() else None
        if read is None:
            cause = "cannot be read as a picture" if Path(path).exists() else "does not exist"
            raise UserError(f"{path} {cause}; replace it, or take it out")
        grey = Image.fromarray(read).resize((_THUMBNAIL_PX, _THUMBNAIL_PX), Image.Resampling.BOX)
        thumbnails[index] = np.asarray(grey)
        small = grey.resize((_HASHED_PX, _HASHED_PX), Image.Resampling.BOX)
        mirrored = small.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        hashes[index] = [int(str(imagehash.phash(picture)), 16) for picture in (small, mirrored)]
    return hashes, thumbnails


def _components(one: NDArray[np.int64], other: NDArray[np.int64], num: int) -> NDArray[np.int64]:
    """(num,) labels of the connected parts of the graph with these edges."""
    edges = coo_array((np.ones(len(one), np.int8), (one, other)), shape=(num, num))
    return np.asarray(connected_components(edges, directed=False)[1], np.int64)


def _position(key: str) -> float:
    """A number in [0, 1) that is spread evenly, by the key's SHA-256."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:6], "big") / 2**48
