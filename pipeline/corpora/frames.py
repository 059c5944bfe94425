"""Read pictures, and frames of videos, from files and folders."""

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from pipeline.arrays import Picture
from pipeline.errors import UserError, absent
from pipeline.media.pictures import read_picture_file

PICTURE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}


def list_pictures(folder: Path) -> list[Path]:
    """Return the pictures of a folder, ordered by name. Raises UserError if there are none."""
    if not folder.exists():
        raise absent(folder, "folder", "name a folder of pictures")
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


def read_named(
    paths: list[Path],
    *,
    per_second: float,
    is_source: Callable[[str], bool],
    leave_out: Callable[[UserError], None],
) -> Iterator[tuple[str, Picture]]:
    """Return pictures and frames at full size, each with a unique name that is fit for a file.

    is_source: whether a file in a folder is taken, by its name.
    leave_out: called for each file that cannot be read, with the reason. The others go on.

    Raises UserError at once if a path does not exist or nothing is there to be read.
    """
    for path in paths:
        if not path.exists():
            raise absent(path, "file or folder", "name pictures, videos, or folders of them")
    files = [
        (f"{number}_" + "_".join(file.relative_to(path if path.is_dir() else path.parent).parts), file)
        for number, path in enumerate(paths)
        for file in ([path] if not path.is_dir() else sorted(path.rglob("*")))
        if file == path or (file.is_file() and is_source(file.name))
    ]
    if not files:
        where = ", ".join(map(str, paths))
        raise UserError(f"there is no picture or video in {where}; name pictures, videos, or folders of them")
    return _read_named(files, per_second, leave_out)


def _read_named(
    files: list[tuple[str, Path]], per_second: float, leave_out: Callable[[UserError], None]
) -> Iterator[tuple[str, Picture]]:
    for name, file in files:
        try:
            if file.suffix.lower() in PICTURE_SUFFIXES:
                pictures = iter([(name, read_rgb(file))])
            else:
                pictures = _some_frames(name, file, per_second)
            yield from pictures
        except UserError as error:
            leave_out(error)


def _some_frames(name: str, file: Path, per_second: float) -> Iterator[tuple[str, Picture]]:
    step = max(1.0, cv2.VideoCapture(str(file)).get(cv2.CAP_PROP_FPS) / per_second)
    taken = 0
    for index, frame in enumerate(frames_of(file)):
        if index >= taken * step:
            taken += 1
            yield f"{name}_{index + 1}", frame
