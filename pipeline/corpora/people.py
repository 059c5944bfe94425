"""Pictures with person boxes: YOLO labels, and the truth against which detections are measured."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.arrays import Picture
from pipeline.corpora.frames import list_pictures, read_rgb
from pipeline.corpora.mot import read_mot
from pipeline.errors import UserError, absent

YOLO = "name a folder with images/ and labels/ in YOLO form"
FACE_CROPS = "name a folder that `rollcall datasets faces` wrote, with images/ and labels/"
SLACK = 0.01
"""Share of a side by which rounding may bring a label over the border of its picture."""
NAMED = 5
"""Number of pictures that a message names."""


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
    picture without a label file has no people, but some picture must have one. Raises UserError.
    """
    return _read(folder, YOLO, of_every_picture=False)


def read_face_crops(folder: Path) -> list[LabelledPicture]:
    """Return the crops and faces that `rollcall datasets faces` wrote, ordered by name.

    It writes a label file for every crop, so a crop that lacks one is not taken for one without a face. Raises
    UserError.
    """
    return _read(folder, FACE_CROPS, of_every_picture=True)


def check_any_box(labelled: Iterable[LabelledPicture], noun: str, place: str) -> None:
    """Raise UserError if no picture has a box: nothing can be learned or measured then.

    noun: what the boxes hold. place: where the pictures come from, for the message.
    """
    if not any(len(labels.boxes) for labels in labelled):
        raise UserError(f"no {noun} in {place}: the labels have no box; name a folder in which some picture has one")


def _read(folder: Path, remedy: str, *, of_every_picture: bool) -> list[LabelledPicture]:
    if not folder.exists():
        raise absent(folder, "folder", remedy)
    for part in (folder / "images", folder / "labels"):
        if not part.is_dir():
            raise UserError(f"{folder} has no folder {part.name}; {remedy}")
    paths = list_pictures(folder / "images")
    labels = folder / "labels"
    if not any(labels.iterdir()):
        raise UserError(f"{labels} is empty, so no picture of {folder / 'images'} has labels; {remedy}")
    files = [labels / f"{path.stem}.txt" for path in paths]
    bare = [path.name for path, file in zip(paths, files, strict=True) if not file.exists()]
    if bare and (of_every_picture or len(bare) == len(paths)):
        more = f" and {len(bare) - NAMED} more" if len(bare) > NAMED else ""
        raise UserError(
            f"{len(bare)} of {len(paths)} pictures in {folder / 'images'} have no label file in {labels}: "
            f"{', '.join(bare[:NAMED])}{more}; add NAME.txt for each, empty if it shows none, or remove the picture"
        )
    return [_labelled(path, file) for path, file in zip(paths, files, strict=True)]


def _labelled(path: Path, file: Path) -> LabelledPicture:
    shares = _boxes_of(file) if file.exists() else np.zeros((0, 4))
    picture = read_rgb(path)
    height, width = picture.shape[:2]
    centre, half = shares[:, :2], shares[:, 2:] / 2
    corners = np.hstack([centre - half, centre + half]).clip(0, 1)
    corners = corners[(corners[:, 2:] > corners[:, :2]).all(1)]  # a box that rounding left without an area is none
    return LabelledPicture(path, picture, (corners * [width, height, width, height]).astype(np.float32))


def _boxes_of(file: Path) -> NDArray[np.float64]:
    """Return the (N, 4) boxes of a label file: centre, width and height as shares of the picture. Raises UserError."""
    form = "each line must be `class x y width height`, the last four as shares of the picture from 0 to 1"
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"{file} is not text in YOLO form; {form}") from None
    boxes: list[list[float]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            values = [float(word) for word in line.split()]
        except ValueError:
            values = []
        if not _is_yolo(values):
            raise UserError(f"{file}, line {number} is not in YOLO form: {line.strip()[:60]}; {form}")
        boxes.append(values[1:])
    return np.array(boxes, np.float64).reshape(-1, 4)


def _is_yolo(values: list[float]) -> bool:
    """Return whether the numbers of a line are a class and a box in YOLO form."""
    if len(values) != 5:
        return False
    object_class, *shares = values
    return (  # nan is in no interval
        object_class >= 0
        and object_class.is_integer()
        and all(-SLACK <= share <= 1 + SLACK for share in shares)
        and min(shares[2:]) >= 0
    )


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
