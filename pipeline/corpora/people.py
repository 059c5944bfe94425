"""Pictures with person boxes: YOLO labels, and the truth against which detections are measured."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.arrays import Picture
from pipeline.corpora.frames import list_pictures, read_rgb
from pipeline.corpora.mot import read_mot
from pipeline.errors import UserError


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
