import io
from collections.abc import Iterable

import av
import numpy as np
import pytest

from pipeline.arrays import Picture
from pipeline.media.film import pan, write_mp4
from tests.clips import scene


def encoded(pictures: Iterable[Picture], keyframe_every: int = 10) -> bytes:
    file = io.BytesIO()
    write_mp4(file, pictures, fps=25, keyframe_every=keyframe_every)
    return file.getvalue()


def test_a_camera_that_sees_the_whole_picture_gives_the_picture() -> None:
    (picture,) = scene(1, width=64, height=36)
    (filmed,) = pan(picture, (0, 0, 64), (0, 0, 64), num_frames=1, width=64, height=36)
    assert np.array_equal(filmed, picture)


def test_the_camera_goes_from_the_first_window_to_the_last() -> None:
    (picture,) = scene(1, width=64, height=36)
    first, middle, last = pan(picture, (0, 0, 32), (32, 18, 32), num_frames=3, width=32, height=18)
    assert np.array_equal(first, picture[:18, :32])
    assert np.array_equal(middle, picture[9:27, 16:48])
    assert np.array_equal(last, picture[18:, 32:])


def test_a_film_has_its_pictures_at_its_rate_with_keyframes() -> None:
    pictures = list(scene(25, width=64, height=48))
    with av.open(io.BytesIO(encoded(pictures)), "r") as container:
        frames = list(container.decode(video=0))
    assert [round(frame.time * 25) for frame in frames] == list(range(25))
    keyframes = [i for i, frame in enumerate(frames) if frame.key_frame]
    assert keyframes[0] == 0
    assert max(np.diff([*keyframes, 25])) <= 10
    filmed = frames[12].to_ndarray(format="rgb24").astype(int)
    assert min(range(25), key=lambda i: np.abs(filmed - pictures[i]).mean()) == 12


def test_the_same_pictures_give_the_same_bytes() -> None:
    versions: set[bytes] = set()
    memory: list[np.ndarray] = []
    for number in range(60):  # what x264 finds in its memory must not matter
        memory = [*memory[-5:], np.full(7919 * number % 400_000, number, np.uint8)]
        versions.add(encoded(scene(12)))
    assert len(versions) == 1


def test_a_film_without_pictures_is_refused() -> None:
    with pytest.raises(ValueError, match="must have pictures"):
        encoded([])
