import hashlib
from pathlib import Path

import numpy as np
import pytest

from pipeline.corpora import cuhk03
from pipeline.errors import UserError


def empty(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).touch()
    return folder


def test_a_name_says_who_and_under_which_camera(tmp_path: Path) -> None:
    crops = cuhk03.load(empty(tmp_path, "0012_04.jpg", "0012_05.jpg", "0743_00.jpg", "notes.txt"))
    assert crops.people.tolist() == [12, 12, 743]
    assert crops.cameras.tolist() == [0, 1, 0]
    assert [path.name for path in crops[crops.cameras == 1].paths] == ["0012_05.jpg"]


def test_another_name_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no pictures"):
        cuhk03.load(tmp_path)
    with pytest.raises(UserError, match=r"portrait\.jpg is not named person_index"):
        cuhk03.load(empty(tmp_path, "0001_00.jpg", "portrait.jpg"))


def test_who_is_held_out_depends_on_the_number_alone() -> None:
    people = np.arange(50)
    chosen = cuhk03.held_out(people, 7)
    assert len(chosen) == 7
    largest = max(hashlib.sha256(str(person).encode()).hexdigest() for person in chosen)
    assert all(hashlib.sha256(str(person).encode()).hexdigest() > largest for person in set(people.tolist()) - chosen)
    # The rest of the data set moves nobody, and more held out are the same and others.
    assert cuhk03.held_out([*chosen, *range(100, 103)], 7) & chosen
    assert chosen < cuhk03.held_out(people[::-1], 9)
    with pytest.raises(UserError, match="fewer than the 50"):
        cuhk03.held_out(people, 50)
