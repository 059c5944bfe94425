"""Read pictures, and frames of videos, from files and folders."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from pipeline.arrays import Picture
from pipeline.errors import UserError, absent
from pipeline.media.pictures import read_picture_file

PICTURE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}


def list_pictures(folder: Path) -> list[Path]:
    """Return the pictures of a folder, ordered by name. Raises UserError if there are none."""
    paths = sorted(path for path in folder.glob("*") if path.suffix.lower() in PICTURE_SUFFIXES)
    if not paths:
        raise UserError(f"{folder} has no pictures ({', '.join(sorted(PICTURE_SUFFIXES))}); name a folder of them")
    return paths


def read_rgb(path: Path) -> Picture:
    """Return an image file as (H, W, 3) uint8 RGB. Raises UserError."""
    picture = read_picture_file(path)
    if picture is None:
        raise UserError(f"{path} cannot be decoded as a picture, or is too large; remove it or repair it")
    return picture


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
