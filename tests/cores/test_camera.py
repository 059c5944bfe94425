import numpy as np
import pytest

from pipeline.cores.camera import Steady

WIDTH, HEIGHT = 640, 480
NOTHING = np.zeros(0, np.int64), np.zeros((0, 4))


def box(x: float, y: float) -> list[float]:
    return [x - 20, y - 50, x + 20, y + 50]


def test_what_stands_stays_where_it_is_while_the_camera_turns_and_shifts() -> None:
    rng = np.random.default_rng(0)
    place, motions, seen = 100 + 50j, [], [box(100, 50)]
    for angle, dx, dy in rng.uniform(-1, 1, (500, 3)):
        a, b = np.exp(0.02j * angle), complex(30 * dx, 30 * dy)
        place = a * place + b
        motions.append([a.real, a.imag, b.real, b.imag])
        seen.append(box(place.real, place.imag))
    steady = Steady.of(np.arange(500), np.array(motions), WIDTH, HEIGHT)
    found = steady.boxes(np.arange(501), np.array(seen, np.float32))
    np.testing.assert_allclose(found, [box(100, 50)] * 501, atol=0.02)
    np.testing.assert_array_equal(steady.boxes(7, np.array(seen[7:8], np.float32)), found[7:8])


def test_a_camera_that_stands_still_changes_no_bit() -> None:
    boxes = np.random.default_rng(0).uniform(0, 600, (50, 4)).astype(np.float32)
    steady = Steady.of(*NOTHING, WIDTH, HEIGHT)
    np.testing.assert_array_equal(steady.boxes(np.arange(50), boxes), boxes)


def test_a_zoom_leaves_the_middle_of_the_picture_and_every_size() -> None:
    b = (1 - 1.01) * complex(WIDTH, HEIGHT) / 2
    steady = Steady.of(np.arange(1000), np.tile([1.01, 0, b.real, b.imag], (1000, 1)), WIDTH, HEIGHT)
    boxes = np.array([[300, 200, 340, 280], [0, 0, 40, 80]], np.float32)
    np.testing.assert_allclose(steady.boxes(999, boxes), boxes, atol=0.01)


def test_no_boxes() -> None:
    assert Steady.of(*NOTHING, WIDTH, HEIGHT).boxes(0, np.zeros((0, 4), np.float32)).shape == (0, 4)


def test_a_part_of_a_video_has_its_very_coordinates_and_holds_no_others() -> None:
    motions = np.random.default_rng(0).normal([1, 0, 0, 0], [0.01, 0.01, 9, 9], (60, 4))
    whole = Steady.of(np.arange(2, 182, 3), motions, WIDTH, HEIGHT)
    boxes = np.random.default_rng(1).uniform(0, 600, (200, 4)).astype(np.float32)
    for first, end in [(0, 3), (3, 4), (50, 90), (100, 101), (170, 200), (190, 200)]:
        part = whole.within(np.arange(first, end))
        own = np.arange(first, end)
        np.testing.assert_array_equal(part.boxes(own, boxes[own]), whole.boxes(own, boxes[own]))
        assert len(part.frames) <= (end - first) // 3 + 2


def test_the_last_frame_sees_a_place_where_it_saw_it() -> None:
    random = np.random.default_rng(3)
    motions = random.normal(size=(12, 4)) * [0.02, 0.02, 5, 5] + [1, 0, 0, 0]
    steady = Steady.of(np.arange(12), motions, 640, 480)
    boxes = np.array([[10, 20, 60, 200], [300, 100, 380, 400]], np.float32)
    assert steady.at_end(steady.boxes(12, boxes)) == pytest.approx(boxes, abs=0.01)
    still = Steady.of(np.zeros(0, np.int64), np.zeros((0, 4)), 640, 480)
    assert still.at_end(boxes).tobytes() == boxes.tobytes()


def test_boxes_go_back_to_where_they_were_shown() -> None:
    rng = np.random.default_rng(1)
    motions = np.array([[np.cos(a), np.sin(a), 20 * x, 20 * y] for a, x, y in rng.uniform(-0.1, 0.1, (50, 3))])
    steady = Steady.of(np.arange(50), motions, WIDTH, HEIGHT)
    frames = rng.integers(0, 51, 30)
    boxes = np.array([box(x, y) for x, y in rng.uniform(60, 400, (30, 2))], np.float32)
    np.testing.assert_allclose(steady.shown(frames, steady.boxes(frames, boxes)), boxes, atol=0.01)
