"""Parts of pictures from their planes: as FFmpeg and OpenCV make them within a level or two, and the same bits in every
place of a batch."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from av.video.frame import VideoFrame
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.arrays import Picture, Planes
from pipeline.media.canvas import planes_of
from pipeline.media.crops import sharpness
from pipeline.models.body_embedder import cut_bodies
from pipeline.models.person_detector import Fit
from pipeline.models.plane_kernels import CODINGS, coding_factors, cut, detail_sums, letterbox
from tests.clips import scene

FACTORS = coding_factors()
BOXES = np.array(
    [[0, 0, 320, 180], [7, 3, 90, 170], [101, 20, 140, 77], [319, 0, 320, 180], [5, 5, 5, 90], [250, 90, 320, 180]]
)


def planes(width: int = 320, height: int = 180, coding: tuple[int, bool] = (1, False)) -> Planes:
    """Return a textured picture with its planes and the RGB that FFmpeg makes of them."""
    (picture,) = scene(1, width=width, height=height)
    noise = np.random.default_rng(1).integers(0, 40, (height, width, 1))
    matrix, is_full = coding
    # FFmpeg needs even sides to make planes. Odd ones are cut off below.
    frame = VideoFrame.from_ndarray(np.clip(picture.astype(int) + noise, 0, 255).astype(np.uint8), "rgb24")
    stored = frame.reformat(
        format="yuv420p",
        dst_colorspace={1: 1, 6: 5, 9: 9}[matrix],
        dst_color_range=2 if is_full else 1,
        threads=1,
    )
    stored.colorspace, stored.color_range = matrix, 2 if is_full else 1
    rgb = np.asarray(stored.reformat(format="rgb24", threads=1).to_ndarray(), np.uint8)
    y, u, v = planes_of(stored)
    return Planes(y, u, v, matrix, is_full, lambda: rgb)


def in_memory(*pictures: Planes) -> tuple[Tensor, list[int]]:
    memory = np.zeros(sum(picture.num_bytes for picture in pictures), np.uint8)
    starts = np.cumsum([0, *(picture.num_bytes for picture in pictures)])[:-1].tolist()
    for picture, start in zip(pictures, starts, strict=True):
        picture.write(memory[start : start + picture.num_bytes])
    return torch.from_numpy(memory), starts


def parts(picture: Planes, boxes: NDArray[np.int64], start: int = 0) -> Tensor:
    height, width = picture.y.shape
    coding = CODINGS.index((picture.matrix, picture.is_full))
    rows = [[start, coding, width, height, *box[:2], *(box[2:] - box[:2])] for box in boxes]
    return torch.tensor(np.array(rows, np.int64))


def whole(picture: Planes) -> NDArray[np.int64]:
    return np.array([[0, 0, *picture.y.shape[::-1]]])


def mean_difference(ours: NDArray[np.uint8], theirs: NDArray[np.uint8]) -> float:
    return float(np.abs(ours.astype(int) - theirs).mean())


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("size", [(320, 180), (161, 97)])
def test_planes_have_the_colours_that_ffmpeg_gives_them(coding: tuple[int, bool], size: tuple[int, int]) -> None:
    picture = planes(*size, coding)
    memory, _ = in_memory(picture)
    ours = cut(memory, FACTORS, parts(picture, whole(picture)), size[1], size[0])[0].numpy()
    assert mean_difference(ours, picture.to_rgb()) < (
        1.3 if size[0] % 2 == 0 else 4
    )  # FFmpeg blends colours of odd ones


@pytest.mark.parametrize("size", [(320, 180), (640, 360), (1280, 720), (90, 200)])
def test_a_picture_in_the_detectors_input_is_that_of_opencv(size: tuple[int, int]) -> None:
    picture = planes(*size)
    memory, _ = in_memory(picture)
    fit = Fit.of(*size, 320)
    expected = np.empty((fit.out_height, fit.out_width, 3), np.uint8)
    fit.paste(picture.to_rgb(), expected)
    ours = letterbox(memory, FACTORS, parts(picture, whole(picture)), fit.inner, fit.outer, fit.corner, 114)[0].numpy()
    assert ours.shape == expected.shape
    assert mean_difference(ours, expected) < 2.5
    is_border = (expected == 114).all(axis=2)
    is_border[fit.corner[1] : -fit.corner[1] or None, fit.corner[0] : -fit.corner[0] or None] = False
    assert_array_equal(ours[is_border], 114)


def test_bodies_are_those_of_opencv_and_one_of_no_size_is_black() -> None:
    picture = planes()
    memory, _ = in_memory(picture)
    ours = cut(memory, FACTORS, parts(picture, BOXES), 256, 128).numpy()
    theirs = cut_bodies(picture.to_rgb(), BOXES.astype(np.float32), 256, 128)
    assert [mean_difference(*pair) < 2.5 for pair in zip(ours, theirs, strict=True)] == [True] * len(BOXES)
    assert not ours[4].any()


def test_a_part_has_the_same_bits_in_every_place_and_among_all_neighbours() -> None:
    first, second = planes(), planes(160, 96, (6, True))
    memory, starts = in_memory(first, second)
    rows = torch.cat([parts(first, BOXES, starts[0]), parts(second, BOXES[2:3] // 2, starts[1])])
    order = torch.tensor([6, 3, 0, 4, 1, 5, 2, 6, 6, 0])
    for kernel in (lambda some: cut(memory, FACTORS, some, 64, 32), lambda some: detail_sums(memory, FACTORS, some, 4)):
        alone = torch.cat([kernel(row[None]) for row in rows])
        assert torch.equal(kernel(rows), alone)
        assert torch.equal(kernel(rows[order]), alone[order])


def test_the_steps_of_a_batch_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = planes()
    memory, _ = in_memory(picture)
    rows = parts(picture, BOXES)
    together = cut(memory, FACTORS, rows, 64, 32), detail_sums(memory, FACTORS, rows, 4)
    monkeypatch.setattr("pipeline.models.plane_kernels.PIXELS_A_STEP", 2 * 64 * 32)
    assert torch.equal(cut(memory, FACTORS, rows, 64, 32), together[0])
    assert torch.equal(detail_sums(memory, FACTORS, rows, 4), together[1])


def test_empty_rows_that_fill_a_batch_up_read_nothing_outside() -> None:
    picture = planes(16, 16)
    memory, _ = in_memory(picture)
    padding = torch.zeros(3, 8, dtype=torch.int64)
    assert not cut(memory, FACTORS, padding, 64, 32).any()
    assert detail_sums(memory, FACTORS, padding, 4)[:, 1:].any().item() is False


def variances(picture: Planes, boxes: NDArray[np.int64], num_samples: int) -> NDArray[np.float64]:
    memory, _ = in_memory(picture)
    count, total, square = detail_sums(memory, FACTORS, parts(picture, boxes), num_samples).numpy().astype(float).T
    return (count * square - total * total) / count**2


def test_the_detail_of_a_small_part_is_opencvs_to_the_last_digit() -> None:
    """A part of at most 160 px is not scaled. Grey with the full range is brightness itself."""
    picture = planes(160, 96, (6, True))
    boxes = np.array([[0, 0, 160, 96], [11, 20, 60, 90], [5, 5, 6, 9], [8, 3, 9, 4]])
    expected = [float(cv2.Laplacian(picture.y[t:b, l:r], cv2.CV_64F).var()) for l, t, r, b in boxes]  # noqa: E741
    for num_samples in (1, 4, 8):
        np.testing.assert_allclose(variances(picture, boxes, num_samples), expected, rtol=1e-9, atol=1e-6)


def test_the_detail_of_a_large_part_is_near_that_of_its_crop() -> None:
    picture = planes(1280, 720)
    boxes = np.array([[0, 0, 1280, 720], [100, 50, 300, 650], [640, 100, 840, 300], [20, 400, 500, 700]])
    expected = np.array([sharpness(crop_of(picture.to_rgb(), box)) for box in boxes])
    ratios = variances(picture, boxes, 8) / expected
    assert ((ratios > 0.7) & (ratios < 1.45)).all(), ratios


class Devices(TorchDispatchMode):
    """Notes on which devices tensors come out. found: their kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        for each in output if isinstance(output, list | tuple) else (output,):
            if isinstance(each, Tensor):
                self.found.add(each.device.type)
        return output


def test_nothing_leaves_the_card_and_nothing_waits_for_it() -> None:
    """The card is imagined: no values exist, so an operation that needs one on the host raises. A graph needs this."""
    with FakeTensorMode(), torch.inference_mode():
        memory = torch.empty(1 << 20, dtype=torch.uint8, device="cuda")
        factors = torch.empty(6, 6, dtype=torch.int32, device="cuda")
        rows = torch.empty(100, 8, dtype=torch.int64, device="cuda")
        with Devices() as devices:
            bodies = cut(memory, factors, rows, 256, 128)
            inputs = letterbox(memory, factors, rows, (640, 360), (640, 384), (0, 12), 114)
            sums = detail_sums(memory, factors, rows, 4)
    assert devices.found == {"cuda"}
    assert [each.shape for each in (bodies, inputs, sums)] == [(100, 256, 128, 3), (100, 384, 640, 3), (100, 3)]


def crop_of(picture: Picture, box: Sequence[int]) -> Picture:
    left, top, right, bottom = box
    return np.ascontiguousarray(picture[top:bottom, left:right])
