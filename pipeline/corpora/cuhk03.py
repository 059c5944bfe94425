"""Crops of people under two cameras, named as CUHK03's: `person_index.jpg`, index 0-4 one camera, 5-9 the other.

Li et al., DeepReID, CVPR 2014. Licence: non-commercial research only. Who is held out depends on the person's number
alone: the `num_held_out` people whose sha256 of that number, in decimal without leading zeros, is smallest.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.corpora.people import PICTURE_SUFFIXES
from pipeline.errors import UserError

CAMERA_INDICES = 5
"""Crops of one camera at most; a higher index is of the other."""

_NAME = re.compile(r"(?P<person>\d+)_(?P<index>\d+)", re.ASCII)


@dataclass(frozen=True, slots=True, eq=False)
class PersonCrops:
    """N crops. paths: their files. people: (N,) int64 numbers. cameras: (N,) int64, 0 or 1."""

    paths: list[Path]
    people: NDArray[np.int64]
    cameras: NDArray[np.int64]

    def __getitem__(self, chosen: NDArray[np.bool_]) -> "PersonCrops":
        kept = [path for path, keep in zip(self.paths, chosen, strict=True) if keep]
        return PersonCrops(kept, self.people[chosen], self.cameras[chosen])


def load(folder: Path | str) -> PersonCrops:
    """All crops in `folder`, by name. UserError if there are none, or a picture has another name."""
    root = Path(folder)
    paths = sorted(path for path in root.glob("*") if path.suffix.lower() in PICTURE_SUFFIXES)
    if not paths:
        raise UserError(f"{root} has no pictures; name a folder of crops in CUHK03's form, person_index.jpg")
    names = [_NAME.fullmatch(path.stem) for path in paths]
    for path, name in zip(paths, names, strict=True):
        if name is None:
            raise UserError(f"{path} is not named person_index, as 0012_05.jpg is; remove or rename it")
    people, indices = np.array([[int(part) for part in name.groups()] for name in names if name], np.int64).T
    return PersonCrops(paths, people, (indices >= CAMERA_INDICES).astype(np.int64))


def held_out(people: Iterable[int], num_held_out: int) -> set[int]:
    """The people who are never trained on. UserError where that leaves nobody to train on."""
    ranked = sorted({int(person) for person in people}, key=lambda person: hashlib.sha256(b"%d" % person).hexdigest())
    if not 0 <= num_held_out < len(ranked):
        raise UserError(f"held-out people must be fewer than the {len(ranked)} there are, got {num_held_out}")
    return set(ranked[:num_held_out])
