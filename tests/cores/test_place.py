import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.cores.place import (
    GRID,
    LIGHT_GRID,
    MIN_CELLS,
    SIZE,
    Scenes,
    Seam,
    cells,
    closest,
    fades,
    light_of,
    seam,
    similarity,
)

EVERYWHERE = np.ones((GRID, GRID), np.bool_)
HERE = np.zeros((GRID, GRID), np.bool_)
HERE[8:16, 4:12] = True


def sketch(
    seed: int, *, saturation: int = 120, lightness: int = 100, people: int | None = None, shift: int = 0
) -> bytes:
    """Return the sketch of a place with random edges. people: the seed of the edges at the people."""
    edges = _edges(seed)
    if people is not None:
        edges[:, HERE] = _edges(people)[:, HERE]
    light = np.repeat(np.array([[saturation], [lightness]], np.uint8), LIGHT_GRID**2, axis=1)
    told = np.roll(edges, shift, axis=2).tobytes() + light.tobytes()
    assert len(told) == SIZE
    return told


def _edges(seed: int) -> NDArray[np.int8]:
    return np.random.default_rng(seed).integers(-127, 128, (2, GRID, GRID)).astype(np.int8)


def test_a_camera_that_goes_over_to_infrared_shows_one_place_in_another_light() -> None:
    assert seam(sketch(1), sketch(1, saturation=0), HERE) == Seam(is_one_place=True, hides_looks=True)


def test_a_jump_in_time_in_one_light_leaves_looks_comparable() -> None:
    jump = Seam(is_one_place=True, is_jump=True)
    assert seam(sketch(1, people=7), sketch(1, people=8), HERE) == jump
    assert seam(sketch(1, people=7), sketch(1, people=8, saturation=80, lightness=180), HERE) == jump


def test_after_a_jump_in_time_looks_cannot_be_compared_with_infrared() -> None:
    day, night = sketch(1, people=7), sketch(1, people=8, saturation=0)
    for before, after in ((day, night), (night, day)):
        assert seam(before, after, HERE) == Seam(is_one_place=True, hides_looks=True, is_jump=True)
    assert seam(night, sketch(1, people=9, saturation=2), HERE) == Seam(is_one_place=True, is_jump=True)


def test_too_few_cells_of_people_say_nothing() -> None:
    few = np.zeros((GRID, GRID), np.bool_)
    few[0, : MIN_CELLS - 1] = True
    assert not seam(sketch(1), sketch(1, saturation=0), few).hides_looks


def test_another_place_is_no_place_to_stay() -> None:
    assert seam(sketch(1), sketch(2), EVERYWHERE) == Seam()
    assert seam(sketch(1), sketch(2, saturation=0), EVERYWHERE) == Seam()


def test_a_picture_without_edges_shows_no_place() -> None:
    nothing = bytes(SIZE)
    assert similarity(nothing, nothing) == 0
    assert seam(nothing, nothing, EVERYWHERE) == Seam()


def test_a_camera_may_move_by_a_cell_and_not_by_three() -> None:
    assert similarity(sketch(1), sketch(1, shift=1)) > 0.8
    assert similarity(sketch(1), sketch(1, shift=-1)) > 0.8
    assert similarity(sketch(1), sketch(1, shift=3)) < 0.3


def test_frames_that_show_nothing_of_the_place_are_left_out() -> None:
    white = bytes(SIZE)
    assert closest([sketch(1), white], [white, white, sketch(1, saturation=0)]) == (0, 2)


def test_of_equally_alike_frames_those_next_to_the_cut_are_compared() -> None:
    assert closest([sketch(1)] * 3, [sketch(1)] * 3) == (2, 0)


def test_boxes_become_the_cells_that_they_touch() -> None:
    touched = cells(np.array([[0, 0, 10, 10], [230, 130, 300, 200]], np.float32), 240, 240)
    assert np.argwhere(touched).tolist() == [[0, 0], *([y, x] for y in range(13, 20) for x in (23,))]
    assert not cells(np.zeros((0, 4), np.float32), 240, 240).any()


@pytest.mark.parametrize(
    ("seams", "places", "lights", "moments"),
    [
        ([], [0], [0], [0]),
        ([Seam(), Seam(True), Seam(True, True)], [0, 1, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]),
        ([Seam(True, True, True), Seam(True, True), Seam()], [0, 0, 0, 1], [0, 1, 2, 2], [0, 1, 1, 1]),
    ],
)
def test_places_lights_and_moments_are_numbered_through(
    seams: list[Seam], places: list[int], lights: list[int], moments: list[int]
) -> None:
    scenes = Scenes.of(seams)
    assert (scenes.places.tolist(), scenes.lights.tolist(), scenes.moments.tolist()) == (places, lights, moments)


def test_a_fade_to_infrared_inside_a_shot_is_a_change_of_light_and_a_camera_that_turns_is_none() -> None:
    times_ns = np.arange(12) * 125_000_000
    saturation = np.array([115, 114, 115, 75, 0, 0, 0, 1, 0, 0, 0, 0], np.float64)
    levels = np.stack([saturation, np.full(12, 100.0)], axis=1)
    assert fades(times_ns, levels) == [(2, 4)]
    assert fades(times_ns * 8, levels) == []  # it takes two seconds
    turning = np.stack([np.full(12, 80.0), np.arange(12) * 5.0], axis=1)
    assert fades(times_ns, turning) == []
    assert fades(times_ns, np.full((12, 2), np.nan)) == fades(times_ns[:1], levels[:1]) == []
    assert light_of(sketch(1, saturation=30, lightness=90)) == (30, 90)


def test_who_ends_or_begins_within_a_fade_is_on_its_own_side_of_it() -> None:
    scenes = Scenes.of([Seam(True, True)], [False, True], [(60, 78)])
    spans = np.array([[0, 73], [75, 150], [0, 150], [60, 61]])
    assert scenes.parts(spans, np.zeros_like(spans)).tolist() == [[0, 0], [1, 1], [0, 1], [0, 0]]
    assert Scenes.of([Seam()]).parts(spans[:1], np.array([[3, 4]])).tolist() == [[3, 4]]
