from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.arrays import Picture
from pipeline.config import load
from pipeline.media.cuts import find_shots
from tests.clips import scene, write_video
from tests.films import FrameMap, Placement, Segment, displayed_shape, make_film
from tests.media.test_cuts import differences, times

WIDTH, HEIGHT = 160, 96


def pictures(video: Path) -> list[Picture]:
    with av.open(str(video)) as container:
        return [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in container.decode(video=0)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a.mp4, with the film's size and rate, and b.mp4, upright and smaller, with 10 frames per second."""
    place = tmp_path_factory.mktemp("films")
    write_video(place / "a.mp4", scene(75, width=WIDTH, height=HEIGHT, seed=1))
    write_video(place / "b.mp4", scene(30, width=40, height=48, seed=2), fps=Fraction(10))
    return place


def film(folder: Path, *segments: tuple[str, float, float]) -> tuple[list[Picture], FrameMap]:
    shown = [Segment(folder / name, start_s, end_s) for name, start_s, end_s in segments]
    source = make_film(folder / "film.mp4", shown, width=WIDTH, height=HEIGHT)
    return pictures(folder / "film.mp4"), source


def test_every_frame_of_a_film_is_the_frame_that_the_map_names(folder: Path) -> None:
    shown, source = film(folder, ("a.mp4", 0, 1), ("b.mp4", 0.2, 1.2), ("a.mp4", 1.4, 2.4))
    assert len(shown) == len(source) == 75
    assert source.cuts == [25, 50]
    assert source.segments.tolist() == [0] * 25 + [1] * 25 + [2] * 25
    assert source.frames.tolist() == [*range(25), *range(5, 30), *range(35, 60)]
    # The clip has 10 frames per second and the film 25, so that each frame is shown two or three times.
    assert source.sources.tolist() == [*range(25), *(n * 10 // 25 for n in range(5, 30)), *range(35, 60)]

    originals = {0: pictures(folder / "a.mp4"), 2: pictures(folder / "a.mp4")}
    for picture, segment, number in zip(shown, source.segments.tolist(), source.sources.tolist(), strict=True):
        if segment in originals:
            off = [np.abs(picture.astype(int) - original).mean() for original in originals[segment]]
            assert int(np.argmin(off)) == number
            assert off[number] < 6  # encoded twice


def test_pictures_of_another_shape_lie_in_the_middle_on_black(folder: Path) -> None:
    shown, _ = film(folder, ("b.mp4", 0, 1))
    assert displayed_shape(folder / "b.mp4") == (40, 48)
    place = Placement.of((40, 48), (WIDTH, HEIGHT))
    assert (place.width, place.height, place.left, place.top) == (80, 96, 40, 0)
    assert shown[3][:, :36].max() < 24
    assert shown[3][:, 124:].max() < 24
    assert shown[3][:, 40:120].mean() > 60
    assert place.boxes(np.array([[0, 0, 40, 48], [10, 12, 20, 24]], np.float32), (40, 48)).tolist() == [
        [40, 0, 120, 96],
        [60, 24, 80, 48],
    ]


def test_hard_cuts_are_found_where_the_segments_meet(folder: Path) -> None:
    shown, source = film(folder, ("a.mp4", 0, 1), ("b.mp4", 0, 1), ("a.mp4", 1, 2), ("b.mp4", 1, 2))
    knobs = load().cuts
    shots = find_shots(
        times(len(shown)),
        *differences(shown),
        pixels=WIDTH * HEIGHT,
        threshold=knobs.threshold,
        min_shot_s=knobs.min_shot_s,
    )
    assert [start for start, _ in shots[1:]] == source.cuts == [25, 50, 75]


def test_keyframes_are_regular(folder: Path) -> None:
    film(folder, ("a.mp4", 0, 1.2), ("b.mp4", 0, 1.6))
    with av.open(str(folder / "film.mp4")) as container:
        keys = [frame.time for frame in container.decode(video=0) if frame.key_frame]
    assert keys == [0, 1, 2]


def test_a_segment_may_last_as_long_as_its_video_and_no_longer(folder: Path) -> None:
    shown, source = film(folder, ("b.mp4", 2, 3))
    assert len(shown) == 25
    assert source.sources[-1] == 29  # the last frame is shown for a tenth of a second
    with pytest.raises(ValueError, match=r"b\.mp4 ends before 3\.04 s"):
        film(folder, ("b.mp4", 2, 3.04))


def test_a_map_is_read_as_it_was_saved(folder: Path) -> None:
    _, source = film(folder, ("a.mp4", 0, 0.2), ("b.mp4", 0, 0.2))
    source.save(folder / "map.npz")
    again = FrameMap.load(folder / "map.npz")
    assert again.sources.tolist() == source.sources.tolist()
    assert again.cuts == [5]
