from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from pipeline.arrays import Estimates, Picture
from pipeline.evaluation.restoration import compare, summary


class Brightness:
    """Says the mean of an aligned face for an age, and `woman` where it is more than half bright."""

    def __init__(self) -> None:
        self.sides: list[int] = []

    def __call__(self, faces: NDArray[np.uint8]) -> Estimates:
        self.sides.append(faces.shape[1])
        means = faces.mean(axis=(1, 2, 3)).astype(np.float32)
        return Estimates(means, np.ones_like(means), (means / 255).astype(np.float32))


def read(path: Path) -> Picture:
    return np.full((64, 64, 3), int(path.stem), np.uint8)


FACES = pd.DataFrame({"path": ["40.png", "200.png"], "age": [50.0, 100.0], "gender": ["M", "M"]})


def test_each_face_is_judged_as_it_is_and_restored() -> None:
    estimator = Brightness()

    def restore(faces: NDArray[np.uint8]) -> NDArray[np.uint8]:
        assert faces.shape[1:] == (512, 512, 3)
        return (faces.astype(np.int64) // 2).astype(np.uint8)

    judged = pd.concat(compare(FACES, read, [16, 64, 65], estimator, restore=restore, batch=1))
    assert judged["size_px"].tolist() == [16, 64, 16, 64]  # no face is made larger
    assert judged["age_plain"].tolist() == [40, 40, 200, 200]
    assert judged["age_restored"].tolist() == [20, 20, 100, 100]
    assert set(estimator.sides) == {224, 512}

    line = summary(judged).to_dict("records")[0]
    assert (line["size_px"], line["num_faces"], line["mae_plain"], line["mae_restored"]) == (16, 2, 55, 15)
    assert line["mae_change"] == -40
    assert -100 <= line["mae_low"] <= -40 <= line["mae_high"] <= 20
    assert (line["gender_accuracy_plain"], line["gender_accuracy_restored"]) == (0.5, 1)
    assert line["eye_distance_px"] == pytest.approx(6.2)


def test_without_a_restorer_the_way_of_enlarging_is_what_is_tried() -> None:
    def edge(path: Path) -> Picture:
        picture = np.zeros((64, 64, 3), np.uint8)
        picture[:, int(path.stem) :] = 255
        return picture

    class Spread(Brightness):
        def __call__(self, faces: NDArray[np.uint8]) -> Estimates:
            steepest = np.abs(np.diff(faces[:, faces.shape[1] // 2, :, 0].astype(np.int64), axis=1)).max(axis=1)
            ages = (steepest * faces.shape[1]).astype(np.float32)
            return Estimates(ages, ages, ages)

    judged = pd.concat(
        compare(
            FACES.iloc[:1].assign(path="32.png"), edge, [16], Spread(), restore=None, enlargement="bilinear", batch=4
        )
    )
    assert judged["age_restored"].item() < judged["age_plain"].item()  # linear is less steep than cubic, as plain is


def test_a_difference_without_spread_has_no_interval() -> None:
    judged = pd.concat(compare(FACES.iloc[:1], read, [16], Brightness(), restore=None, batch=1))
    line = summary(judged).to_dict("records")[0]
    assert line["mae_change"] == line["mae_low"] == line["mae_high"] == 0
