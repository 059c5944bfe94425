"""Pictures that lie in the memory of a device, and the models that read them there."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from torch import Tensor

from pipeline.arrays import Detections, Planes
from pipeline.media.crops import sharpness
from pipeline.models import plane_memory
from pipeline.models.batches import run_by
from pipeline.models.card_pixels import CardPixels
from pipeline.models.executor import Executor
from pipeline.models.person_detector import Fit
from pipeline.models.plane_memory import PlaneMemory
from tests.models.test_plane_kernels import planes

CPU = torch.device("cpu")
SIZE = 64


class Brightest:
    """A detector and an embedder of bodies that return the mean colour of what they see."""

    batch, height, width = 2, 16, 8
    anchors = None

    def fit(self, width: int, height: int) -> Fit:
        return Fit.of(width, height, SIZE)

    def candidates(self, samples: Tensor) -> Tensor:
        assert samples.shape == (2, *samples.shape[1:3], 3)
        return samples.float().mean((1, 2))

    def detections(self, candidates: NDArray[np.float32], fit: Fit) -> Detections:
        box = np.array([[0, 0, fit.width, fit.height]], np.float32)
        return Detections(box, np.round(candidates.mean(keepdims=True), 3))

    def vectors(self, crops: Tensor) -> Tensor:
        return crops.float().mean((1, 2))


def card_pixels(*, num_rooms: int = 1, room_bytes: int = 1 << 20) -> CardPixels:
    memory = PlaneMemory(num_rooms, room_bytes, CPU)
    return CardPixels(memory, cast(Any, Brightest()), cast(Any, Brightest()))


def pictures(count: int, width: int = 96, height: int = 54) -> list[Planes]:
    some = []
    for number in range(count):
        picture = planes(width, height)
        y = np.clip(picture.y.astype(int) + 7 * number, 16, 235).astype(np.uint8)
        some.append(Planes(y, picture.u, picture.v, picture.matrix, picture.is_full, picture.to_rgb))
    return some


BOXES = [
    np.array([[3, 4, 40, 50], [60, 2, 96, 54]], np.float32),
    np.zeros((0, 4), np.float32),
    np.array([[10.4, 9.6, 33, 41], [-5, -5, 200, 200], [90, 10, 20, 40]], np.float32),
]


def read(reader: CardPixels, some: list[Planes], boxes: list[NDArray[np.float32]]) -> tuple[Any, ...]:
    inside = [each.round().astype(np.int64).clip(0, [96, 54] * 2) for each in boxes]
    with reader.holding(some) as placed:
        people = reader.detect(placed)
        return [each.scores.tolist() for each in people], reader.embed(placed, boxes), reader.sharpness(placed, inside)


def test_what_is_read_depends_neither_on_the_batch_nor_on_other_pictures() -> None:
    some = pictures(3)
    scores, vectors, sharp = read(card_pixels(), some, BOXES)
    alone = [read(card_pixels(), [picture], [boxes]) for picture, boxes in zip(some, BOXES, strict=True)]
    assert scores == [score for part, *_ in alone for score in part]
    assert len({score for (score,) in scores}) == 3
    assert_array_equal(vectors[:2], alone[0][1])
    assert_array_equal(vectors[2:], alone[2][1])
    assert [each.tolist() for each in sharp] == [part[2][0].tolist() for part in alone]
    assert [len(each) for each in sharp] == [2, 0, 3]
    assert_array_equal(np.linalg.norm(vectors[:4], axis=1).round(5), np.ones(4))
    assert not vectors[4].any()  # an inverted box is black


def test_nobody_needs_no_batch() -> None:
    reader = card_pixels()
    with reader.holding(pictures(1)) as placed:
        assert reader.embed(placed, [np.zeros((0, 4), np.float32)]).shape == (0, 512)
        assert [len(each) for each in reader.sharpness(placed, [np.zeros((0, 4), np.int64)])] == [0]
    assert reader.detect([]) == []


def test_pictures_that_a_room_does_not_hold_are_refused() -> None:
    bytes_of_one = pictures(1)[0].num_bytes
    reader = card_pixels(room_bytes=2 * bytes_of_one)
    with reader.holding(pictures(2)):
        pass
    with pytest.raises(ValueError, match=f"at most {2 * bytes_of_one} bytes together, got {3 * bytes_of_one}"):
        reader.holding(pictures(3)).__enter__()


def test_spans_read_beside_each_other_what_they_would_read_alone() -> None:
    """Their samples meet in the batches of one executor, and each has a room of its own."""
    expected = [read(card_pixels(), [picture], BOXES[:1])[:2] for picture in pictures(6)]
    executor = Executor(patience_s=1)
    with run_by(executor):
        reader = card_pixels(num_rooms=3)

    def look(number: int) -> tuple[Any, ...]:
        with executor.working():
            return read(reader, [pictures(6)[number]], BOXES[:1])

    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(look, [*range(6)] * 3))
    for (scores, vectors, _), (scores_alone, vectors_alone) in zip(found, expected * 3, strict=True):
        assert scores == scores_alone
        assert_array_equal(vectors, vectors_alone)


def test_crops_of_all_sizes_have_the_sharpness_that_is_measured_on_rgb() -> None:
    """Small crops are not scaled, and larger ones are read with more samples. The order of the crops stays."""
    picture = planes(960, 720)
    boxes = np.array([[0, 0, 700, 700], [5, 9, 90, 150], [100, 100, 390, 400], [7, 7, 7, 7], [300, 200, 460, 300]])
    reader = card_pixels(room_bytes=2 << 20)
    with reader.holding([picture]) as placed:
        (measured,) = reader.sharpness(placed, [boxes])
    expected = [sharpness(picture.to_rgb()[top:bottom, left:right]) for left, top, right, bottom in boxes[[0, 1, 2, 4]]]
    ratios = measured[[0, 1, 2, 4]] / expected
    assert measured[3] == 0
    assert ((ratios > 0.8) & (ratios < 1.25)).all(), ratios
    assert max(expected) / min(expected) > 1.5


@pytest.mark.parametrize("is_shared", [False, True])
def test_on_a_card_a_portion_travels_in_one_copy(monkeypatch: pytest.MonkeyPatch, is_shared: bool) -> None:
    """The card is a fake one. Its memory is another one than that of the host. Where spans share it, the thread that
    owns the card sends the pictures."""
    turns: list[str] = []

    @contextlib.contextmanager
    def on_card() -> Any:
        turns.append(threading.current_thread().name)
        yield

    monkeypatch.setattr(plane_memory, "is_card", lambda device: True)
    monkeypatch.setattr(plane_memory, "host_memory", lambda shape, dtype, device: torch.zeros(shape, dtype=dtype))
    monkeypatch.setattr(plane_memory, "on_card", on_card)
    with run_by(Executor(patience_s=1) if is_shared else None):
        memory = PlaneMemory(2, 1 << 16, CPU)
    some = pictures(3)
    for _ in range(3):  # the third time, the first room again
        with memory.holding(some) as placed:
            for each, picture in zip(placed, some, strict=True):
                there = memory.planes[each.start : each.start + picture.num_bytes].numpy()
                assert_array_equal(there[: picture.y.size], picture.y.ravel())
                assert_array_equal(there[-picture.v.size :], picture.v.ravel())
    assert turns == ["executor" if is_shared else threading.current_thread().name] * 3
