import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from pipeline.arrays import Picture
from pipeline.training.degrade import Degradation, compress, degrade, motion_kernel

NEVER = {"small": 0.0, "blurred": 0.0, "moved": 0.0, "dim": 0.0, "noisy": 0.0, "compressed": 0.0}


def stripes(side: int = 96) -> Picture:
    """Return a picture of fine vertical stripes, redder to the right."""
    picture = np.zeros((side, side, 3), np.uint8)
    picture[:, ::2] = 200
    picture[..., 0] = np.maximum(picture[..., 0], np.linspace(0, 255, side).astype(np.uint8))
    return picture


def degraded(**chances: object) -> Picture:
    return degrade(stripes(), Degradation(**{**NEVER, **chances}), np.random.default_rng(0))  # type: ignore[arg-type]


def test_nothing_happens_where_nothing_may() -> None:
    assert_array_equal(degraded(), stripes())


def test_all_at_once_keeps_size_and_is_a_function_of_the_generator() -> None:
    always = Degradation(small=1, blurred=1, moved=1, dim=1, noisy=1, compressed=1, again=1)
    for number in range(20):
        first, second = (degrade(stripes(), always, np.random.default_rng(number)) for _ in range(2))
        assert (first.shape, first.dtype) == ((96, 96, 3), np.uint8)
        assert_array_equal(first, second)
    assert (
        degrade(stripes(), always, np.random.default_rng(98)) != degrade(stripes(), always, np.random.default_rng(99))
    ).any()


@pytest.mark.parametrize(
    "what", [{"small": 1.0}, {"blurred": 1.0, "blur_px": (2, 3)}, {"moved": 1.0, "motion_px": (6, 7)}]
)
def test_detail_is_lost(what: dict[str, object]) -> None:
    def detail(picture: Picture) -> float:
        return float(np.abs(np.diff(picture[..., 1].astype(int), axis=1)).mean())

    assert detail(degraded(**what)) < 0.5 * detail(stripes())


def test_fewer_pixels_tell_less() -> None:
    grain = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    left = [
        float(
            degrade(
                grain, Degradation(**{**NEVER, "small": 1.0, "face_px": (side, side)}), np.random.default_rng(0)
            ).std()
        )  # type: ignore[arg-type]
        for side in (12, 32, 96)
    ]
    assert left[0] < 0.5 * left[1] < 0.4 * left[2]


def test_dim_is_darker_and_noise_is_not() -> None:
    assert degraded(dim=1.0, light=(0.3, 0.3), gamma=(1, 1)).mean() == pytest.approx(0.3 * stripes().mean(), rel=0.02)
    noisy = degraded(noisy=1.0, noise=(8, 8))
    assert noisy.mean() == pytest.approx(stripes().mean(), rel=0.05)
    assert (noisy != stripes()).mean() > 0.5


def test_compression_keeps_the_order_of_colours() -> None:
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 200
    assert_allclose(compress(red, 90).mean((0, 1)), [200, 0, 0], atol=6)


@pytest.mark.parametrize(("angle", "axis"), [(0.0, 0), (np.pi / 2, 1)])
def test_a_movement_blurs_along_its_direction(angle: float, axis: int) -> None:
    kernel = motion_kernel(5, angle)
    assert kernel.sum() == pytest.approx(1)
    assert np.count_nonzero(kernel.sum(axis)) >= 5
    assert np.count_nonzero(kernel.sum(1 - axis)) == 1
