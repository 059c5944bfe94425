from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from skimage import data

from pipeline.arrays import Faces, Picture
from pipeline.corpora import faces
from pipeline.corpora.align import JOURNAL, LABELS, align, chip_name, chip_template
from pipeline.corpora.csv_labels import load
from pipeline.errors import UserError
from pipeline.media.faces import align_face

LANDMARKS = np.array([[[205, 115], [245, 115], [226, 140], [208, 160], [242, 160]]], np.float32)


class Detector:
    """As many faces as the picture's top left pixel is red; the first where the landmarks are."""

    def __init__(self) -> None:
        self.num_crops = 0

    def __call__(self, crops: Sequence[Picture]) -> list[Faces]:
        self.num_crops += len(crops)
        counts = [round(float(crop[0, 0, 0]) / 50) for crop in crops]
        return [Faces(np.zeros((n, 4), np.float32), np.ones(n, np.float32), np.repeat(LANDMARKS, n, 0)) for n in counts]


def picture(num_faces: int) -> NDArray[np.uint8]:
    shown = data.astronaut().copy()
    shown[:16, :16] = num_faces * 50
    return shown


@pytest.fixture
def table(tmp_path: Path) -> pd.DataFrame:
    (tmp_path / "raw" / "sub").mkdir(parents=True)
    names = ["one.jpg", "none.jpg", "two.png", "sub/one.png", "broken.jpg"]
    for name, num_faces in zip(names[:4], (1, 0, 2, 1), strict=True):
        cv2.imwrite(str(tmp_path / "raw" / name), picture(num_faces)[:, :, ::-1])
    (tmp_path / "raw" / "broken.jpg").write_bytes(b"no picture")
    return faces.table(
        tmp_path / "raw",
        names,
        age=[3, 4, 5, 28.5, 7],
        age_low=[3, 4, 5, 25, 7],
        age_high=[3, 4, 5, 32, 7],
        gender=["F", "M", "F", None, "M"],
        source="x",
    )


def test_pictures_of_one_face_become_chips_and_the_others_are_counted(table: pd.DataFrame, tmp_path: Path) -> None:
    out = tmp_path / "chips"
    outcomes = [outcome for batch in align(table, Detector(), out, size=140, padding=0.4) for outcome in batch]
    assert [(outcome.reason, outcome.num_faces) for outcome in outcomes] == [
        ("written", 1),
        ("no face", 0),
        ("several faces", 2),
        ("written", 1),
        ("no picture that can be read", -1),
    ]
    labels = load(out / LABELS)
    assert labels["name"].tolist() == ["one.jpg", "sub/one.png.jpg"]
    assert labels[["age_low", "age_high"]].to_numpy().tolist() == [[3, 3], [25, 32]]
    assert pd.read_csv(out / JOURNAL)["faces"].tolist() == [1, 0, 2, 1, -1]
    chip = cv2.imread(str(out / "one.jpg"), cv2.IMREAD_COLOR_RGB)
    assert chip is not None
    expected = align_face(picture(1), LANDMARKS[0], 140, chip_template(0.4))
    assert chip.shape == (140, 140, 3)
    assert np.abs(chip.astype(int) - expected).mean() < 5


def test_the_same_call_goes_on_where_it_was_stopped(table: pd.DataFrame, tmp_path: Path) -> None:
    out, first = tmp_path / "chips", Detector()
    list(align(table.iloc[:2], first, out, size=140, padding=0.4))
    with (out / JOURNAL).open("a") as file:
        file.write("two.png,wri")
    again = Detector()
    outcomes = [outcome for batch in align(table, again, out, size=140, padding=0.4) for outcome in batch]
    assert [outcome.name for outcome in outcomes] == table["name"].tolist()
    assert (first.num_crops, again.num_crops) == (2, 2)
    assert len(load(out / LABELS)) == 2
    with pytest.raises(UserError, match="holds chips of 140 px, not 96"):
        list(align(table, again, out, size=96, padding=0.4))


def test_a_folder_of_something_else_is_left_alone(table: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must be empty"):
        list(align(table, Detector(), tmp_path / "raw", size=140, padding=0.4))


def test_at_padding_40_percent_the_eyes_are_a_third_of_the_side_apart() -> None:
    template = chip_template(0.4)
    assert template[1, 0] - template[0, 0] == pytest.approx(0.33, abs=0.01)
    assert template[:2, 1] == pytest.approx([0.4, 0.4], abs=0.01)
    assert template[:2, 0].mean() == pytest.approx(0.5)
    wide, tight = chip_template(1.0), chip_template(0.0)
    assert (tight[1] - tight[0])[0] == pytest.approx(3 * (wide[1] - wide[0])[0])


@pytest.mark.parametrize(
    ("name", "chip"),
    [
        ("a.jpg", "a.jpg"),
        ("b/A.JPG", "b/A.JPG"),
        ("a.png", "a.png.jpg"),
        ("/raw/a.jpg", "raw/a.jpg"),
        ("../../a.jpg", "a.jpg"),
    ],
)
def test_a_chip_is_always_below_the_output(name: str, chip: str) -> None:
    assert chip_name(name) == chip


def test_two_pictures_never_share_a_chip(tmp_path: Path) -> None:
    table = faces.table(tmp_path, ["a.jpg", "../a.jpg"], age=[1, 2], gender=["F", "F"], source="x")
    with pytest.raises(UserError, match=r"two pictures would be written as a\.jpg"):
        list(align(table, Detector(), tmp_path / "out", size=140, padding=0.4))
