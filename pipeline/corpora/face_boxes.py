"""Make training data for a face detector from pictures of people: person crops with face boxes.

The output has the YOLO form that `rollcall train detector` reads: images/NAME.jpg and labels/NAME.txt, with a line `0 x
y width height` per face, as shares of the crop. A crop without a face is an example too and gets an empty file.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.arrays import Detections, Faces, Picture
from pipeline.boxes import Boxes
from pipeline.errors import UserError
from pipeline.media.pictures import cut_out, encode_jpeg

_JPEG_QUALITY = 95
PARTIAL = ".partial"
"""Folder in the output that holds what an unfinished run has written so far. No training reads it."""
_LABELS, _IMAGES = "labels", "images"


@dataclass(frozen=True, slots=True)
class Counts:
    """How many crops and faces were written for one picture."""

    crops: int
    faces: int


@contextmanager
def appearing_whole(output: Path) -> Iterator[Path]:
    """Yield a folder for write_face_boxes. What it holds at the end of the block appears in `output` then, and nothing
    does if the block fails. What an earlier run left unfinished is removed.

    Raises UserError if `output` holds anything else.
    """
    draft = output / PARTIAL
    if (draft / _IMAGES).exists() and (output / _LABELS).exists() and not (output / _IMAGES).exists():
        _appear(draft, output)  # the earlier run was ended between its two last steps
    if output.exists() and any(path != draft for path in output.iterdir()):
        raise UserError(f"{output} must be empty, or crops of another run would be mixed in; give another --output")
    shutil.rmtree(draft, ignore_errors=True)
    is_new = not output.exists()
    try:
        yield draft
        if draft.exists():
            _appear(draft, output)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        if is_new and output.exists() and not any(output.iterdir()):
            output.rmdir()


def _appear(draft: Path, output: Path) -> None:
    for folder in (_LABELS, _IMAGES):  # nobody reads labels without pictures
        if (draft / folder).exists():
            (draft / folder).rename(output / folder)


def write_face_boxes(
    pictures: Iterator[tuple[str, Picture]],
    find_people: Callable[[Sequence[Picture]], list[Detections]],
    find_faces: Callable[[Sequence[Picture]], list[Faces]],
    output: Path,
    *,
    min_score: float,
    min_width_px: float,
    margin: float,
) -> Iterator[Counts]:
    """Cut every person out of each named picture, with `margin` (a share of the box) around, and label the faces.

    Yields the counts after each picture. A face that reaches over the border of its crop is cut there. The folders are
    made with the first crop.

    min_score, min_width_px: people below either are ignored.
    """
    for name, picture in pictures:
        (people,) = find_people([picture])
        wide = people.boxes[:, 2] - people.boxes[:, 0] >= min_width_px
        crops = [cut_out(picture, box) for box in _grown(people[wide & (people.scores >= min_score)].boxes, margin)]
        crops = [crop for crop in crops if crop.size]
        detections = find_faces(crops) if crops else []
        labels = [_yolo(faces.boxes, crop) for crop, faces in zip(crops, detections, strict=True)]
        for folder in (_IMAGES, _LABELS) if crops else ():
            (output / folder).mkdir(parents=True, exist_ok=True)
        for number, (crop, lines) in enumerate(zip(crops, labels, strict=True)):
            (output / _IMAGES / f"{name}_{number}.jpg").write_bytes(encode_jpeg(crop, _JPEG_QUALITY))
            (output / _LABELS / f"{name}_{number}.txt").write_text("".join(lines))
        yield Counts(len(crops), sum(map(len, labels)))


def _grown(boxes: Boxes, margin: float) -> Boxes:
    sides = boxes[:, 2:] - boxes[:, :2]
    return (boxes + margin * np.hstack([-sides, sides])).astype(np.float32)


def _yolo(boxes: Boxes, crop: Picture) -> list[str]:
    """Return one line per box of (N, 4) xyxy px: class 0, centre, width and height as shares of the crop. A box outside
    of the crop has none."""
    height, width = crop.shape[:2]
    corners = (boxes / np.array([width, height] * 2)).clip(0, 1)
    return [
        f"0 {(left + right) / 2:.6f} {(top + bottom) / 2:.6f} {right - left:.6f} {bottom - top:.6f}\n"
        for left, top, right, bottom in corners.tolist()
        if right > left and bottom > top
    ]
