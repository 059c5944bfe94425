"""Crops of people under two cameras, named like CUHK03's: `person_index.jpg`. Indices 0-4 are one camera, 5-9 the
other.

Li et al., DeepReID, CVPR 2014. Licence: non-commercial research only. The held-out people depend only on their
numbers: the `num_held_out` people with the smallest sha256 of the number (decimal, without leading zeros).
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.corpora.frames import PICTURE_SUFFIXES
from pipeline.errors import UserError

CAMERA_INDICES = 5
"""The most crops per camera. A higher index belongs to the other camera."""

_NAME = re.compile(r"(?P<person>\d+)_(?P<index>\d+)", re.ASCII)


@dataclass(frozen=True, slots=True, eq=False)
class PersonCrops:
    """N crops of people.

    paths: N files.
    people: (N,) int64. Number of the person.
    cameras: (N,) int64. 0 or 1.
    """

    paths: list[Path]
    people: NDArray[np.int64]
    cameras: NDArray[np.int64]

    def __getitem__(self, chosen: NDArray[np.bool_]) -> "PersonCrops":
        kept = [path for path, keep in zip(self.paths, chosen, strict=True) if keep]
        return PersonCrops(kept, self.people[chosen], self.cameras[chosen])


def load(folder: Path | str) -> PersonCrops:
    """Return all crops in `folder`, ordered by name. Raises UserError if there are none or a name has another form."""
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
    """Return the people who are never used for training. Raises UserError if nobody would be left to train on."""
    ranked = sorted({int(person) for person in people}, key=lambda person: hashlib.sha256(b"%d" % person).hexdigest())
    if not 0 <= num_held_out < len(ranked):
        raise UserError(
            f"held-out people must be fewer than the {len(ranked)} there are, got {num_held_out}; hold out fewer"
        )
    return set(ranked[:num_held_out])
