"""Splits that never put one person, or two copies of one picture, on both sides.

A split depends only on the pictures: the same files give the same split on every machine. A new picture moves no
other picture, unless it joins two groups.
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
from pipeline.media.pictures import read_picture_file

SHARES: Mapping[str, float] = {"train": 0.8, "validation": 0.1, "test": 0.1}

_THUMBNAIL_PX = 64
_HASHED_PX = 32  # the size to which imagehash.phash shrinks a picture for 8 x 8 bits
_MAX_SHIFT_PX = 6
_BLOCK = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyThresholds:
    """Thresholds for two pictures to be copies: re-compressed, scaled, cropped, re-coloured, marked or mirrored.

    max_bits: candidate pairs differ in at most this many bits of their 64-bit perceptual hashes.
    min_correlation: least correlation of the fine detail at the best shift.
    retry_correlation: from here on a pair gets a second try with rotation, shear and scale.

    The values were set by eye on UTKFace. All 51 pairs with a correlation of .90 to .95 are copies, and so are all 13
    pairs that the second try adds. Three in four pairs from .85 to .89 are different photographs.
    """

    max_bits: int = 12
    min_correlation: float = 0.90
    retry_correlation: float = 0.75


def split(names: Sequence[str], groups: NDArray[np.int64], shares: Mapping[str, float] = SHARES) -> NDArray[np.str_]:
    """Return the side of each of N pictures, (N,) str: a key of `shares`.

    names: (N,) names of the pictures, or of the people they show. The smallest name of a group decides, by its SHA-256.
    groups: (N,) int64. Pictures of one group stay together.
    shares: share of the pictures by side. They sum to 1.
    """
    if abs(sum(shares.values()) - 1) > 1e-9 or min(shares.values()) < 0:
        raise ValueError(f"shares must be at least 0 and sum to 1, got {dict(shares)}")
    keys = pd.Series(list(names), dtype=object).groupby(np.asarray(groups)).transform("min")
    position_by_key = {key: _position(key) for key in keys.unique()}
    ends = np.cumsum(list(shares.values()))
    sides = np.searchsorted(ends, keys.map(position_by_key).to_numpy(np.float64), side="right")
    return np.array(list(shares))[np.minimum(sides, len(shares) - 1)]


def split_faces(table: pd.DataFrame, shares: Mapping[str, float] = SHARES) -> NDArray[np.str_]:
    """Return the `split` of a table of labelled faces.

    All pictures of a person, and all copies of a picture, get the same split.

    Pictures are opened to find copies only if the corpus does not name every person.

    """
    known = table["person"].notna().to_numpy()
    copies = np.arange(len(table), dtype=np.int64) if known.all() else groups(table["path"].tolist())
    people = np.where(known, "person " + table["person"].astype(str), "picture " + table["name"].astype(str))
    return split(people.tolist(), joined(copies, people.tolist()), shares)


def joined(groups: NDArray[np.int64], others: Sequence[Hashable]) -> NDArray[np.int64]:
    """Return (N,) groups that join what `groups` or `others` join, also through chains of both."""
    second = pd.factorize(np.asarray(others))[0]
    first = np.unique(groups, return_inverse=True)[1]
    num = int(first.max(initial=-1)) + 1
    labels = _components(first, num + second, num + int(second.max(initial=-1)) + 1)[first]
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


def groups(paths: Sequence[Path | str], thresholds: CopyThresholds = CopyThresholds()) -> NDArray[np.int64]:
    """Return (N,) int64 groups of copies, numbered from 0 by first appearance.

    Perceptual hashes (imagehash.phash) of the picture and of its mirror image give candidate pairs. The correlation of
    fine detail decides, so faces that merely look alike stay apart. The time grows with N²: 20,811 faces take a minute
    on one core.

    Raises UserError for a file that is not a picture.
    """
    hashes, thumbnails = _read(paths)
    firsts, seconds = copies(hashes, thumbnails, thresholds)
    labels = _components(firsts, seconds, len(paths))
    first = np.unique(labels, return_index=True)[1]
    order = np.argsort(np.argsort(first))
    return order[labels].astype(np.int64)


def copies(
    hashes: NDArray[np.uint64], thumbnails: NDArray[np.uint8], thresholds: CopyThresholds
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the pairs of copies as two (P,) arrays of indices, the smaller index first.

    hashes: (N, 2) uint64. The picture's hash and that of its mirror image.
    thumbnails: (N, 64, 64) uint8 grey.
    """
    details: dict[int, NDArray[np.float32]] = {}

    def detail(index: int) -> NDArray[np.float32]:
        if index not in details:
            details[index] = fine_detail(thumbnails[index])
        return details[index]

    pairs_found: list[tuple[int, int]] = []
    for start in range(0, len(hashes), _BLOCK):
        block = hashes[start : start + _BLOCK, :1]
        for mirrored in (0, 1):
            bits = np.bitwise_count(block ^ hashes[None, start:, mirrored])
            rows, columns = np.nonzero(np.triu(bits <= thresholds.max_bits, k=1))
            for row, column in zip((rows + start).tolist(), (columns + start).tolist(), strict=True):
                second = np.ascontiguousarray(detail(column)[:, ::-1]) if mirrored else detail(column)
                if are_copies(detail(row), second, thresholds):
                    pairs_found.append((row, column))
    pairs = np.unique(np.array(pairs_found, np.int64).reshape(-1, 2), axis=0)
    return pairs[:, 0], pairs[:, 1]


def are_copies(first: NDArray[np.float32], second: NDArray[np.float32], thresholds: CopyThresholds) -> bool:
    """Return whether the fine details, (64, 64) each, show one photograph. A picture without detail has no copies."""
    edge = slice(_MAX_SHIFT_PX, -_MAX_SHIFT_PX)
    if first[edge, edge].std() < 0.05 or second[edge, edge].std() < 0.05:
        return False
    shifted = float(cv2.matchTemplate(first, second[edge, edge], cv2.TM_CCOEFF_NORMED).max())
    if shifted >= thresholds.min_correlation:
        return True
    return shifted >= thresholds.retry_correlation and _aligned_correlation(first, second) >= thresholds.min_correlation


def fine_detail(thumbnail: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the edges and texture of a (64, 64) grey picture at even strength, without shading and contrast."""
    grey = cv2.GaussianBlur(thumbnail.astype(np.float32), (0, 0), 1.0)
    high = grey - cv2.GaussianBlur(grey, (0, 0), 4.0)
    strength = np.sqrt(cv2.GaussianBlur(high * high, (0, 0), 6.0))
    return (high / (strength + 4.0)).astype(np.float32)


def _aligned_correlation(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Return the correlation after the best affine alignment (ECC: Evangelidis, Psarakis 2008); -1 if there is none."""
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 1e-3)
    start = np.eye(2, 3, dtype=np.float32)
    everywhere = np.full(first.shape, 255, np.uint8)
    try:
        _, turn = cv2.findTransformECC(first, second, start, cv2.MOTION_AFFINE, stop, everywhere, 3)
    except cv2.error:  # no convergence: the pictures have nothing in common
        return -1.0
    flags = cv2.WARP_INVERSE_MAP
    laid = cv2.warpAffine(second, turn, first.shape[::-1], flags=flags | cv2.INTER_LINEAR)
    is_covered = cv2.warpAffine(everywhere, turn, first.shape[::-1], flags=flags | cv2.INTER_NEAREST) > 0
    if is_covered.mean() < 0.5 or laid[is_covered].std() < 0.05:
        return -1.0
    return float(np.corrcoef(first[is_covered], laid[is_covered])[0, 1])


def _read(paths: Sequence[Path | str]) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
    """Return (N, 2) hashes of the pictures and of their mirror images, and (N, 64, 64) grey thumbnails."""
    hashes = np.zeros((len(paths), 2), np.uint64)
    thumbnails = np.zeros((len(paths), _THUMBNAIL_PX, _THUMBNAIL_PX), np.uint8)
    for index, path in enumerate(paths):
        # OpenCV reads the file, because Ultralytics replaces PIL's `open` by one that asks for a plugin.
        read = read_picture_file(Path(path), cv2.IMREAD_GRAYSCALE)
        if read is None:
            cause = "cannot be read as a picture, or is too large" if Path(path).exists() else "does not exist"
            raise UserError(f"{path} {cause}; replace it, or take it out")
        grey = Image.fromarray(read).resize((_THUMBNAIL_PX, _THUMBNAIL_PX), Image.Resampling.BOX)
        thumbnails[index] = np.asarray(grey)
        small = grey.resize((_HASHED_PX, _HASHED_PX), Image.Resampling.BOX)
        mirrored = small.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        hashes[index] = [int(str(imagehash.phash(picture)), 16) for picture in (small, mirrored)]
    return hashes, thumbnails


def _components(first: NDArray[np.int64], second: NDArray[np.int64], num: int) -> NDArray[np.int64]:
    """Return (num,) labels of the connected components of the graph with these edges."""
    edges = coo_array((np.ones(len(first), np.int8), (first, second)), shape=(num, num))
    return np.asarray(connected_components(edges, directed=False)[1], np.int64)


def _position(key: str) -> float:
    """Return a number in [0, 1) from the key's SHA-256, evenly spread."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:6], "big") / 2**48
