import cv2
import numpy as np
import pytest

from pipeline.arrays import Picture
from pipeline.cores.place import RELIT, SAME_PLACE, SIZE, Seam, seam, similarity
from pipeline.media.place import sketch


def room(seed: int) -> Picture:
    """A picture full of things, BGR; another seed is another room."""
    rng = np.random.default_rng(seed)
    picture = np.full((144, 256, 3), rng.integers(60, 200, 3), np.uint8)
    for _ in range(60):
        corner, size = rng.integers(0, (256, 144)), rng.integers(8, 70, 2)
        colour = tuple(rng.integers(0, 256, 3).tolist())
        cv2.rectangle(picture, corner.tolist(), (corner + size).tolist(), colour, -1)
    return cv2.GaussianBlur(picture, (3, 3), 0).astype(np.uint8)


def of(picture: Picture) -> bytes:
    return sketch(cv2.split(cv2.cvtColor(picture, cv2.COLOR_BGR2HSV)))


def changed(picture: Picture, how: str) -> Picture:
    plain = picture.astype(np.float64)
    grey = np.repeat(plain.mean(axis=2, keepdims=True), 3, axis=2)
    noise = np.random.default_rng(0).normal(0, 6, plain.shape)
    changes = {
        "infrared": grey * 1.15 + 8,
        "noisy infrared": grey * 0.9 + noise,
        "flash": plain * 0.15 + 0.85 * 255,
        "darkness": plain * 0.06,
        "exposure": plain * 1.3 + 10,
        "negative": 255 - plain,
    }[how]
    return np.clip(changes, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("how", ["infrared", "noisy infrared", "flash", "darkness", "exposure", "negative"])
@pytest.mark.parametrize("seed", range(4))
def test_a_place_is_known_again_in_any_light(seed: int, how: str) -> None:
    assert similarity(of(room(seed)), of(changed(room(seed), how))) > SAME_PLACE


@pytest.mark.parametrize("seed", range(8))
def test_another_place_is_told_apart(seed: int) -> None:
    assert similarity(of(room(seed)), of(room(seed + 100))) < SAME_PLACE - 0.2


@pytest.mark.parametrize("seed", range(4))
def test_equal_bars_beside_two_films_make_no_place(seed: int) -> None:
    films = [room(seed), room(seed + 100)]
    for film in films:
        film[:, :80] = film[:, 176:] = 3
    assert similarity(*map(of, films)) < SAME_PLACE - 0.1


def test_only_a_change_of_light_hides_looks() -> None:
    everybody = np.ones((24, 24), np.bool_)
    bright = of(room(1))
    assert seam(bright, of(changed(room(1), "infrared")), everybody) == Seam(is_one_place=True, hides_looks=True)
    little = np.clip(room(1).astype(np.float64) + RELIT / 4, 0, 255).astype(np.uint8)
    assert seam(bright, of(little), everybody) == Seam(is_one_place=True, hides_looks=False)


@pytest.mark.parametrize("shape", [(1, 1), (2, 256), (144, 256), (256, 144), (20, 20)])
def test_every_shape_gives_a_sketch_of_one_size(shape: tuple[int, int]) -> None:
    assert len(of(np.full((*shape, 3), 90, np.uint8))) == SIZE
