import numpy as np
import pytest

from pipeline.cores.camera import Steady
from pipeline.video import smoothing
from pipeline.video.blocks import BOX, BlockWriter, BoxRows
from pipeline.video.smoothing import SmoothingWriter

SIZE = (640, 480)


def passed_on(rows: list[BoxRows], steady: Steady) -> BoxRows:
    blocks = BlockWriter(lambda *_: "")
    writer = SmoothingWriter(blocks, steady, SIZE)
    for number, of_frame in enumerate(rows):
        writer.add(number * 125_000_000, of_frame)
    writer.finish()
    (block,) = blocks.finish()
    assert not isinstance(block.rows, str)
    return block.rows


def walkers(count: int) -> list[BoxRows]:
    rng = np.random.default_rng(5)
    rows = []
    for number in range(count):
        of_frame = np.zeros(2 if number % 7 else 1, BOX)
        of_frame["frame"], of_frame["track"] = number, np.arange(len(of_frame))
        of_frame["box"] = rng.normal([600 - 5 * number, 100, 660 - 5 * number, 260], 5, (len(of_frame), 4))
        rows.append(of_frame)
    return rows


def still() -> Steady:
    return Steady.of(np.zeros(0, np.int64), np.zeros((0, 4)), *SIZE)


def test_the_number_of_frames_at_once_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = walkers(60)
    whole = passed_on(rows, still())
    assert len(whole) == sum(map(len, rows))
    for updates in (1, 5, 17):
        monkeypatch.setattr(smoothing, "UPDATES_AT_ONCE", updates)
        assert passed_on(rows, still()).tobytes() == whole.tobytes()


def test_no_box_leaves_the_picture_and_all_are_in_steps_of_a_tenth() -> None:
    boxes = passed_on(walkers(60), still())["box"].astype(np.float64)
    assert (boxes >= 0).all()
    assert (boxes[:, 2] <= SIZE[0]).all()
    np.testing.assert_allclose(boxes * 10, np.rint(boxes * 10), atol=1e-3)


def test_a_shaking_camera_is_no_error_of_a_box() -> None:
    shifts = np.cumsum(np.tile([20.0, -20.0], 30))
    motions = np.array([[1, 0, shift, 0] for shift in np.tile([20.0, -20.0], 30)])
    steady = Steady.of(np.arange(60), motions, *SIZE)
    rows = []
    for number in range(60):
        of_frame = np.zeros(1, BOX)
        moved = shifts[number - 1] if number else 0
        of_frame["frame"], of_frame["box"] = number, [300 + moved, 100, 360 + moved, 260]
        rows.append(of_frame)
    np.testing.assert_allclose(passed_on(rows, steady)["box"], np.concatenate(rows)["box"], atol=0.1)
