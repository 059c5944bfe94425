"""Pictures with person boxes: YOLO labels, frames of unlabelled videos, and a held-out part.

Many pictures of a corpus are frames of a few videos. They are split by groups of near-duplicates, so no scene is on
both sides.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import imagehash
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse.csgraph import connected_components

from pipeline.arrays import Picture
from pipeline.corpora.mot import read_mot
from pipeline.errors import UserError, absent

PICTURE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
THUMBNAIL_PX = 24
MIN_CORRELATION = 0.8
MAX_HASH_DISTANCE = 12
"""Two pictures are near-duplicates if their grey thumbnails (one of them possibly mirrored) correlate by more than
MIN_CORRELATION, or their 64-bit perceptual hashes differ in at most MAX_HASH_DISTANCE bits."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelledPicture:
    """A picture and the people in it.

    path: where the picture came from.
    picture: (H, W, 3) uint8 RGB.
    boxes: (N, 4) float32 xyxy px.
    """

    path: Path
    picture: Picture
    boxes: NDArray[np.float32]


def read_people(folder: Path) -> list[LabelledPicture]:
    """Return the pictures of `folder`/images with the boxes of `folder`/labels, ordered by name.

    Labels have the YOLO form: class x y width height, as shares of the picture. Every class counts as a person. A
    picture without a label file has no people. Raises UserError.
    """
    return [_labelled(path, folder / "labels" / f"{path.stem}.txt") for path in list_pictures(folder / "images")]


def _labelled(path: Path, labels: Path) -> LabelledPicture:
    picture = read_rgb(path)
    rows = np.zeros((0, 5), np.float32)
    if labels.exists():
        try:
            table = [[float(word) for word in line.split()] for line in labels.read_text().splitlines() if line.strip()]
            rows = np.array(table, np.float32).reshape(-1, 5)
        except ValueError:
            raise UserError(f"{labels} is not in YOLO form; each line must be `class x y width height`") from None
    height, width = picture.shape[:2]
    centre, half = rows[:, 1:3], rows[:, 3:5] / 2
    boxes = np.hstack([centre - half, centre + half]).clip(0, 1) * np.array([width, height] * 2, np.float32)
    return LabelledPicture(path, picture, boxes.astype(np.float32))


def read_rgb(path: Path) -> Picture:
    """Return an image file as (H, W, 3) uint8 RGB. Raises UserError."""
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    if picture is None:
        raise UserError(f"{path} cannot be decoded as a picture; remove it or repair it")
    return np.asarray(picture, np.uint8)


def read_frames(path: Path, *, per_second: float, long_side: int) -> list[Picture]:
    """Return frames of a video, at most `per_second` of them per second, scaled down to `long_side` px.

    Raises UserError if the file is not a video.
    """
    fps = cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FPS)
    step = max(1.0, fps / per_second)
    frames: list[Picture] = []
    for index, frame in enumerate(frames_of(path)):
        if index >= len(frames) * step:
            frames.append(_scaled_down(frame, long_side))
    return frames


def _scaled_down(picture: Picture, long_side: int) -> Picture:
    height, width = picture.shape[:2]
    scale = long_side / max(height, width)
    if scale >= 1:
        return np.ascontiguousarray(picture)
    size = (round(width * scale), round(height * scale))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def read_unlabelled(paths: list[Path], *, per_second: float, long_side: int) -> list[Picture]:
    """Return the pictures and frames of files and folders, ordered by name. Raises UserError."""
    pictures: list[Picture] = []
    for path in paths:
        if not path.exists():
            raise absent(path, "file or folder", "--unlabelled takes videos, pictures and folders of them")
        for file in sorted(entry for entry in path.rglob("*") if entry.is_file()) if path.is_dir() else [path]:
            if file.suffix.lower() in PICTURE_SUFFIXES:
                pictures.append(_scaled_down(read_rgb(file), long_side))
            else:
                pictures += read_frames(file, per_second=per_second, long_side=long_side)
    return pictures


def read_named(paths: list[Path], *, per_second: float) -> Iterator[tuple[str, Picture]]:
    """Yield pictures and frames at full size, each with a unique name that is fit for a file. Raises UserError."""
    for number, path in enumerate(paths):
        if not path.exists():
            raise absent(path, "file or folder", "name pictures, videos, or folders of them")
        root = path if path.is_dir() else path.parent
        for file in sorted(entry for entry in path.rglob("*") if entry.is_file()) if path.is_dir() else [path]:
            name = f"{number}_" + "_".join(file.relative_to(root).parts)
            if file.suffix.lower() in PICTURE_SUFFIXES:
                yield name, read_rgb(file)
            else:
                step = max(1.0, cv2.VideoCapture(str(file)).get(cv2.CAP_PROP_FPS) / per_second)
                taken = 0
                for index, frame in enumerate(frames_of(file)):
                    if index >= taken * step:
                        taken += 1
                        yield f"{name}_{index + 1}", frame


def near_duplicates(pictures: list[Picture]) -> NDArray[np.int64]:
    """Return (N,) int64 group numbers from 0. Near-duplicates share a group, also through third pictures."""
    thumbnails = np.stack([_thumbnail(picture) for picture in pictures])
    flat, mirrored = (stack.reshape(len(stack), -1) for stack in (thumbnails, thumbnails[:, :, ::-1]))
    alike = (flat @ flat.T > MIN_CORRELATION) | (flat @ mirrored.T > MIN_CORRELATION)
    hashes = np.stack([imagehash.phash(Image.fromarray(picture)).hash.ravel() for picture in pictures])
    bits = hashes.astype(np.float32)
    alike |= bits @ (1 - bits.T) + (1 - bits) @ bits.T <= MAX_HASH_DISTANCE
    return connected_components(alike, directed=False)[1].astype(np.int64)


def _thumbnail(picture: Picture) -> NDArray[np.float32]:
    """Return (24, 24) float32 grey with mean 0 and norm 1 for an (H, W, 3) picture."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (THUMBNAIL_PX, THUMBNAIL_PX), interpolation=cv2.INTER_AREA).astype(np.float32)
    small -= small.mean()
    return small / max(float(np.linalg.norm(small)), 1e-6)


def held_out(groups: NDArray[np.int64], share: float, seed: int) -> NDArray[np.bool_]:
    """Return which pictures are held out, (N,) bool: whole groups in seeded order, at most `share` of all pictures."""
    chosen = np.zeros(len(groups), bool)
    sizes = np.bincount(groups)
    left = round(share * len(groups))
    for group in np.random.default_rng(seed).permutation(len(sizes)):
        if sizes[group] <= left:
            chosen |= groups == group
            left -= sizes[group]
    return chosen


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """The labelled boxes of one picture.

    boxes: (N, 4) float32 xyxy px.
    ignored: (M, 4) float32 xyxy px. Detections on these count neither as right nor as wrong.
    """

    boxes: NDArray[np.float32]
    ignored: NDArray[np.float32]


def read_truth_csv(path: Path, names: list[str]) -> list[Truth]:
    """Return the boxes of pictures by name from rows `image,xmin,ymin,xmax,ymax`.

    A picture without rows has no boxes. Raises UserError.
    """
    columns = ["image", "xmin", "ymin", "xmax", "ymax"]
    try:
        table = pd.read_csv(path, dtype={"image": str})
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read as CSV: {error}; it must have the columns {','.join(columns)}"
        ) from None
    if absent := [name for name in columns if name not in table.columns]:
        raise UserError(f"{path} lacks the column {absent[0]}; it must have the columns {','.join(columns)}")
    if unknown := sorted(set(table["image"].dropna()) - set(names)):
        raise UserError(f"{path} names {unknown[0]}, which is not in --images; {len(unknown)} pictures are not there")
    table = table.dropna()
    try:
        boxes = table[columns[1:]].to_numpy(np.float32)
    except ValueError as error:
        raise UserError(f"{path} has a box that is no number: {error}; correct it") from None
    if (boxes[:, 2:] <= boxes[:, :2]).any():
        wrong = table.iloc[int((boxes[:, 2:] <= boxes[:, :2]).any(1).argmax())]
        raise UserError(f"{path} has a box of {wrong['image']} that ends before it begins; correct it")
    none = np.zeros((0, 4), np.float32)
    of_image = table["image"].to_numpy()
    return [Truth(boxes[of_image == name], none) for name in names]


def read_truth_mot(path: Path) -> list[Truth]:
    """Return the boxes of each frame of a MOT text file, up to the last frame with a row.

    Rows whose seventh column is 0 become ignored boxes. Raises UserError.
    """
    rows = read_mot(path)
    here = [rows[rows.frames == frame] for frame in range(1, rows.frames.max(initial=0) + 1)]
    return [Truth(in_frame.boxes[in_frame.counts], in_frame.boxes[~in_frame.counts]) for in_frame in here]


def list_pictures(folder: Path) -> list[Path]:
    """Return the pictures of a folder, ordered by name. Raises UserError if there are none."""
    paths = sorted(path for path in folder.glob("*") if path.suffix.lower() in PICTURE_SUFFIXES)
    if not paths:
        raise UserError(f"{folder} has no pictures ({', '.join(sorted(PICTURE_SUFFIXES))}); name a folder of them")
    return paths


def frames_of(path: Path) -> Iterator[Picture]:
    """Yield all frames of a video as (H, W, 3) uint8 RGB. Raises UserError if the file is not a video."""
    video = cv2.VideoCapture(str(path))
    empty = True
    while (read := video.read())[0]:
        empty = False
        yield np.asarray(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB), np.uint8)
    video.release()
    if empty:
        raise UserError(f"{path} cannot be read as a video; name a video file or a folder of pictures")
