"""Face chips for training, from raw pictures: every face upright and of one size, one face to a picture.

A picture with no face, or with several, has no chip: nobody could say whose age it shows. The journal `alignment.csv`
has a row for every picture, written when it is done, so that a run that was stopped goes on.
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
from pipeline.media.pictures import encode_jpeg, resize_to_long_side

JOURNAL, LABELS = "alignment.csv", "labels.csv"
WRITTEN = "written"

_FACE_PX, _FACE_TOP_PX = 214.0, 172.0
"""Of the template's 512 px: side and upper edge of the square from the brows to the lower lip."""
_MAX_SIDE_PX = 2048
_BATCH = 8
_JPEG_QUALITY = 95


class FaceDetector(Protocol):
    def __call__(self, crops: Sequence[Picture]) -> list[Faces]: ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one picture: `reason` is WRITTEN, or says why there is no chip. num_faces: -1 if not looked at."""

    name: str
    reason: str
    num_faces: int


def chip_template(padding: float) -> NDArray[np.float64]:
    """(5, 2) where a chip has its landmarks, as shares of its side: brows to lower lip, with `padding` of that around.

    At .4, the eyes are a third of the side apart, at two fifths of its height.
    """
    side = _FACE_PX * (1 + 2 * padding)
    middle = np.array([TEMPLATE[:2, 0].mean(), _FACE_TOP_PX + _FACE_PX / 2])
    return (TEMPLATE - (middle - side / 2)) / side


def align(
    table: pd.DataFrame, detector: FaceDetector, output: Path, *, size: int, padding: float
) -> Iterator[list[Outcome]]:
    """Write a chip of `size` px for every picture of `table` that shows one face, below `output` under its name.

    Yields what became of the pictures, batch by batch, those of an earlier run first. At the end `labels.csv` names
    the chips with their labels (`csv_labels`). Raises UserError if `output` holds chips of another size, or if two
    pictures would have one chip.
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
        found = iter(detector(readable) if readable else [])
        outcomes = []
        for name, picture in zip(names, pictures, strict=True):
            if picture is None:
                outcomes.append(Outcome(name, "no picture that can be read", -1))
                continue
            faces = next(found)
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
    """The chip's name: the picture's own if it is a JPEG, so that a data set labelled by its names stays so.

    It is always below the output, also where a CSV names its pictures by absolute paths or by `..`.
    """
    path = PurePosixPath(name)
    inward = "/".join(part for part in path.parts if part not in (path.anchor, ".."))
    return inward if inward.lower().endswith((".jpg", ".jpeg")) else f"{inward}.jpg"


def _read(path: Path) -> Picture | None:
    """The picture, upright, RGB, at most _MAX_SIDE_PX long; None if there is none."""
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    return None if picture is None else resize_to_long_side(np.asarray(picture, np.uint8), _MAX_SIDE_PX)


def _write(path: Path, chip: Picture) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_jpeg(chip, _JPEG_QUALITY))


def _resume(output: Path, size: int) -> dict[str, Outcome]:
    """What an earlier run has done; a last line that it did not finish is taken back."""
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
    first = next((output / chip_name(name) for name, each in done.items() if each.reason == WRITTEN), None)
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
