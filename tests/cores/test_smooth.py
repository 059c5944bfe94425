import numpy as np
from numpy.typing import NDArray

from pipeline.cores.smooth import REACH_NS, smooth

STEP_NS = 125_000_000
RNG = np.random.default_rng(3)


def times(count: int) -> NDArray[np.int64]:
    return np.arange(count) * STEP_NS


def box_of(x: NDArray[np.float64], y: NDArray[np.float64], width: float, height: float) -> NDArray[np.float64]:
    return np.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], axis=1)


def walk(count: int = 40) -> NDArray[np.float64]:
    t = np.arange(count, dtype=float)
    grown = np.stack([-0.2 * t, -0.5 * t, 0.2 * t, 0.5 * t], axis=1)
    return box_of(100 + 5 * t, 200 + 2 * t, 60, 160) + grown


def test_steady_motion_and_growth_stay_as_they_are() -> None:
    one = np.zeros(40, np.int64)
    np.testing.assert_allclose(smooth(one, times(40), walk()), walk(), atol=1e-6)


def test_edges_that_err_one_by_one_come_nearer_to_the_person() -> None:
    true = walk(400)
    noisy = true + RNG.normal(0, 4, true.shape)
    error = np.abs(smooth(np.zeros(400, np.int64), times(400), noisy) - true).mean()
    assert error < 0.65 * np.abs(noisy - true).mean()


def test_somebody_who_jumps_is_followed() -> None:
    t = np.arange(40, dtype=float)
    jumping = box_of(np.full(40, 300.0), 200 + 25 * np.sin(t * np.pi / 2), 60, 160)
    jumping += RNG.normal(0, 1, jumping.shape)
    moved = np.abs(smooth(np.zeros(40, np.int64), times(40), jumping) - jumping)
    assert moved.mean() < 3


def test_a_box_depends_only_on_its_track_within_twice_the_reach() -> None:
    boxes = walk() + RNG.normal(0, 4, (40, 4))
    whole = smooth(np.zeros(40, np.int64), times(40), boxes)
    reach = 2 * REACH_NS // STEP_NS
    part = slice(20 - reach, 21 + reach)
    count = 2 * reach + 1
    among_others = smooth(
        np.concatenate([np.full(count, 7), np.full(40, 3)]),
        np.concatenate([times(40)[part], times(40)]),
        np.concatenate([boxes[part], walk() + 3]),
    )
    assert whole[20].tobytes() == among_others[reach].tobytes()


def test_order_of_rows_changes_nothing() -> None:
    boxes, shuffled = walk() + RNG.normal(0, 4, (40, 4)), RNG.permutation(40)
    one = np.zeros(40, np.int64)
    np.testing.assert_array_equal(
        smooth(one, times(40)[shuffled], boxes[shuffled]), smooth(one, times(40), boxes)[shuffled]
    )


def test_nothing_is_smoothed_over_a_pause() -> None:
    boxes = walk(4) + RNG.normal(0, 4, (4, 4))
    np.testing.assert_allclose(smooth(np.zeros(4, np.int64), np.arange(4) * REACH_NS, boxes), boxes)


def test_no_boxes_are_no_boxes() -> None:
    assert smooth(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 4))).shape == (0, 4)
