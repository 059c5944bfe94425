"""Cut aligned face chips for training from raw pictures: one upright face of one size per picture.

A picture without a face, or with several, gets no chip, because nobody could say whose age it shows. The journal
`alignment.csv` gets a row when a picture is done, so a stopped run continues where it was.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.arrays import Faces, Picture
from pipeline.corpora import csv_labels
from pipeline.errors import UserError
from pipeline.media.faces import TEMPLATE, align_face
from pipeline.media.pictures import encode_jpeg, read_picture_file, resize_to_long_side

JOURNAL, LABELS = "alignment.csv", "labels.csv"
WRITTEN = "written"

_FACE_PX, _FACE_TOP_PX = 214.0, 172.0
"""Side and top of the square from the eyebrows to the lower lip, in the template's 512 px."""
_MAX_SIDE_PX = 2048
_BATCH = 8
_JPEG_QUALITY = 95


class FaceDetector(Protocol):
    """Finds the faces in each of several pictures."""

    def __call__(self, crops: Sequence[Picture], /) -> list[Faces]: ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result for one picture.

    name: the picture.
    reason: WRITTEN, or why there is no chip.
    num_faces: faces found. -1 if the picture could not be read.
    """

    name: str
    reason: str
    num_faces: int


def chip_template(padding: float) -> NDArray[np.float64]:
    """Return the (5, 2) positions of the landmarks in a chip, as shares of its side.

    The chip shows the square from the eyebrows to the lower lip, with `padding` of its side added all around. With a
    padding of .4 the eyes are a third of the side apart, at two fifths of its height.
    """
    side = _FACE_PX * (1 + 2 * padding)
    middle = np.array([TEMPLATE[:2, 0].mean(), _FACE_TOP_PX + _FACE_PX / 2])
    return (TEMPLATE - (middle - side / 2)) / side


def align(
    table: pd.DataFrame, detector: FaceDetector, output: Path, *, size: int, padding: float
) -> Iterator[list[Outcome]]:
    """Write a chip of `size` px below `output` for every picture of `table` that shows exactly one face.

    Yields the outcomes batch by batch, beginning with those of an earlier run. At the end it writes `labels.csv`, which
    holds the labels of the chips in the form of `csv_labels`.

    Raises UserError if `output` holds chips of another size, or if two pictures would get the same chip.
    """
    done = _resume(output, size)
    chips = table["name"].map(chip_name)
    if chips.duplicated().any():
        raise UserError(f"two pictures would be written as {chips[chips.duplicated()].iloc[0]}; rename one of them")
    known = [done[name] for name in table["name"] if name in done]
    if known:
        yield known
    template = chip_template(padding)
    left = table[~table["name"].isin(done.keys())]
    for start in range(0, len(left), _BATCH):
        batch = left.iloc[start : start + _BATCH]
        names, pictures = batch["name"].tolist(), [_read(Path(path)) for path in batch["path"]]
        readable = [picture for picture in pictures if picture is not None]
        detections = iter(detector(readable) if readable else [])
        outcomes = []
        for name, picture in zip(names, pictures, strict=True):
            if picture is None:
                outcomes.append(Outcome(name, "no picture that can be read", -1))
                continue
            faces = next(detections)
            if len(faces) == 1:
                _write(output / chip_name(name), align_face(picture, faces.landmarks[0], size, template))
            reason = {0: "no face", 1: WRITTEN}.get(len(faces), "several faces")
            outcomes.append(Outcome(name, reason, len(faces)))
        _log(output / JOURNAL, outcomes)
        done |= {outcome.name: outcome for outcome in outcomes}
        yield outcomes
    written = table[[done[name].reason == WRITTEN for name in table["name"]]]
    csv_labels.write(written.assign(path=[str(output / chip_name(name)) for name in written["name"]]), output / LABELS)


def chip_name(name: str) -> str:
    """Return the chip's name, which is always below the output folder.

    A JPEG keeps its name, so a corpus that is labelled by file names stays labelled. Absolute paths and `..` from a CSV
    are cut off.
    """
    path = PurePosixPath(name)
    inward = "/".join(part for part in path.parts if part not in (path.anchor, ".."))
    return inward if inward.lower().endswith((".jpg", ".jpeg")) else f"{inward}.jpg"


def _read(path: Path) -> Picture | None:
    """Return the picture upright, RGB, at most _MAX_SIDE_PX long, or None if it cannot be read."""
    picture = read_picture_file(path)
    return None if picture is None else resize_to_long_side(picture, _MAX_SIDE_PX)


def _write(path: Path, chip: Picture) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_jpeg(chip, _JPEG_QUALITY))


def _resume(output: Path, size: int) -> dict[str, Outcome]:
    """Return the outcomes of an earlier run, and cut off an unfinished last line of its journal."""
    journal = output / JOURNAL
    output.mkdir(parents=True, exist_ok=True)
    if not journal.exists():
        if any(output.iterdir()):
            raise UserError(f"{output} must be empty, or hold an {JOURNAL} to go on from; name another --output")
        _log(journal, [])
        return {}
    text = journal.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        journal.write_text(whole, encoding="utf-8")
    rows = list(csv.reader(whole.splitlines()))[1:]
    done = {name: Outcome(name, reason, int(num_faces)) for name, reason, num_faces in rows}
    first = next((output / chip_name(name) for name, outcome in done.items() if outcome.reason == WRITTEN), None)
    chip = None if first is None else cv2.imread(str(first))
    if chip is not None and chip.shape[:2] != (size, size):
        raise UserError(f"{output} holds chips of {chip.shape[0]} px, not {size}; name another --output")
    return done


def _log(journal: Path, outcomes: Sequence[Outcome]) -> None:
    is_new = not journal.exists()
    with journal.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        if is_new:
            writer.writerow(("path", "outcome", "faces"))
        writer.writerows(astuple(outcome) for outcome in outcomes)
