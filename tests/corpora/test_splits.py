from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage import data

from pipeline.corpora import faces, utkface
from pipeline.corpora.splits import SHARES, groups, joined, split, split_faces
from pipeline.errors import UserError
from tests.shared import SHARED, needs_shared

UTKFACE = SHARED / "datasets" / "UTKFace"


def write(path: Path, picture: NDArray[np.uint8], quality: int = 95) -> Path:
    cv2.imwrite(str(path), picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return path


def portrait() -> NDArray[np.uint8]:
    return data.astronaut()[:256, 96:352]


# --- copies -----------------------------------------------------------------------------------------------------------


def test_copies_are_found_and_other_pictures_stay_apart(tmp_path: Path) -> None:
    face = portrait()
    small = cv2.resize(face, (80, 80), interpolation=cv2.INTER_AREA)
    turned = cv2.warpAffine(face, cv2.getRotationMatrix2D((128, 128), 4, 1.06), (256, 256))
    copies = {
        "as it is": face,
        "shrunk": small,
        "cropped": face[8:-4, 6:-8],
        "dim": (face * 0.5).astype(np.uint8),
        "mirrored": face[:, ::-1],
        "grey": np.repeat(cv2.cvtColor(face, cv2.COLOR_RGB2GRAY)[:, :, None], 3, 2),
        "turned": turned,
    }
    paths = [write(tmp_path / f"{name}.jpg", picture) for name, picture in copies.items()]
    paths.append(write(tmp_path / "coarse.jpg", face, quality=15))
    others = [data.chelsea()[:256, 96:352], data.coffee()[:256, :256], np.full((64, 64, 3), 128, np.uint8)]
    paths += [write(tmp_path / f"other {number}.jpg", picture) for number, picture in enumerate(others)]
    paths.append(write(tmp_path / "blank.jpg", np.full((64, 64, 3), 128, np.uint8)))
    assert groups(paths).tolist() == [0] * 8 + [1, 2, 3, 4]


def test_a_file_that_is_no_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"a\.jpg cannot be read as a picture"):
        groups([tmp_path / "a.jpg"])
    with pytest.raises(UserError, match=r"b\.jpg does not exist"):
        groups([tmp_path / "b.jpg"])


def test_no_picture_no_group() -> None:
    assert groups([]).shape == (0,)
    assert split([], np.zeros(0, np.int64)).shape == (0,)


@needs_shared
@pytest.mark.parametrize(
    ("first", "second", "is_copy"),
    [
        ("17_0_0_20170120133328941", "20_0_0_20170117134213422", True),  # re-cropped
        ("1_0_0_20170109194232519", "1_0_3_20161219225958712", True),  # mirrored
        ("24_1_1_20170115235617909", "26_1_1_20170116232824362", True),  # turned and scaled
        ("10_1_4_20161223225900460", "14_1_4_20170103200753206", False),
        ("23_1_0_20170112234027666", "30_1_1_20170113002921717", False),
        ("24_1_0_20170116222827257", "33_1_0_20170119145706157", False),
        ("26_0_2_20170116183020432", "30_1_2_20170116165139757", False),
    ],
)
def test_faces_that_only_look_alike_are_no_copies(first: str, second: str, is_copy: bool) -> None:
    paths = [UTKFACE / f"{name}.jpg.chip.jpg" for name in (first, second)]
    assert (len(set(groups(paths).tolist())) == 1) == is_copy


@needs_shared
@pytest.mark.slow
def test_utkface_has_some_800_pictures_more_than_once() -> None:
    table = utkface.load(UTKFACE)
    labels = groups(table["path"].tolist())
    sizes = np.bincount(labels)
    assert 780 <= np.sum(sizes > 1) <= 825
    assert sizes.max() <= 6
    sides = split(table["name"].tolist(), labels)
    assert [round(np.mean(sides == name), 2) for name in SHARES] == [0.8, 0.1, 0.1]


# --- splits -----------------------------------------------------------------------------------------------------------

numbered = st.lists(st.integers(0, 30), min_size=1, max_size=60)


@given(numbered)
def test_a_group_is_never_on_two_sides(group_numbers: list[int]) -> None:
    names = [f"{index}.jpg" for index in range(len(group_numbers))]
    sides = split(names, np.array(group_numbers))
    assert len({*zip(group_numbers, sides.tolist(), strict=True)}) == len(set(group_numbers))


@given(numbered, st.randoms())
def test_order_and_numbering_change_nothing(group_numbers: list[int], random: object) -> None:
    names = [f"{index}.jpg" for index in range(len(group_numbers))]
    order = np.random.default_rng(len(names)).permutation(len(names))
    before = dict(zip(names, split(names, np.array(group_numbers)).tolist(), strict=True))
    shuffled = [names[index] for index in order]
    after = split(shuffled, 100 - np.array(group_numbers)[order])
    assert dict(zip(shuffled, after.tolist(), strict=True)) == before


def test_pictures_that_come_later_move_no_other() -> None:
    names = [f"{index}.jpg" for index in range(200)]
    before = split(names[:100], np.arange(100))
    assert split(names, np.arange(200))[:100].tolist() == before.tolist()


def test_the_split_is_the_same_everywhere_and_has_its_shares() -> None:
    names = [f"{index}.jpg" for index in range(5000)]
    sides = split(names, np.arange(5000))
    assert "".join(side[1] for side in sides[:16].tolist()) == "rrrarrrrrrarrere"  # train, validation, test
    assert [np.mean(sides == name) for name in SHARES] == pytest.approx([0.8, 0.1, 0.1], abs=0.02)
    halves = split(names, np.arange(5000), {"one": 0.5, "other": 0.5})
    assert np.mean(halves == "one") == pytest.approx(0.5, abs=0.03)


def test_shares_that_do_not_sum_to_1_are_refused() -> None:
    with pytest.raises(ValueError, match="sum to 1"):
        split(["a"], np.zeros(1, np.int64), {"train": 0.8, "test": 0.1})


def test_joined_groups_are_chains_of_both() -> None:
    labels = joined(np.array([0, 0, 1, 2, 3]), ["a", "b", "b", "c", "d"])
    assert labels[0] == labels[1] == labels[2]
    assert len(set(labels.tolist())) == 3


def test_a_person_and_a_copy_are_on_one_side(tmp_path: Path) -> None:
    """20 people with 5 pictures each; a copy of the first's first picture has another person's name."""
    random = np.random.default_rng(0)
    names = [f"{person}_{number}.png" for person in range(20) for number in range(5)]
    pictures = [random.integers(0, 255, (12, 12, 3), np.uint8).repeat(5, 0).repeat(5, 1) for _ in names]
    pictures[99] = pictures[0]
    for name, picture in zip(names, pictures, strict=True):
        write(tmp_path / name, picture)
    people: list[str | None] = [name.split("_")[0] for name in names]
    people[50] = None  # so that the pictures are looked at
    table = faces.table(tmp_path, names, age=[1] * 100, gender=["F"] * 100, source="x", person=people)
    sides = split_faces(table)
    assert all(len(set(sides[start : start + 5])) == 1 for start in range(0, 100, 5) if start != 50)
    assert sides[0] == sides[99]
    assert len(set(sides.tolist())) > 1


def test_where_everybody_is_named_no_picture_is_read(tmp_path: Path) -> None:
    table = faces.table(tmp_path, ["a.jpg", "b.jpg"], age=[1, 2], gender=["F", "F"], source="x", person=["p", "p"])
    assert len(set(split_faces(table))) == 1
