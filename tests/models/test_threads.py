import threading
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from pipeline.arrays import Faces, Picture
from pipeline.models.batches import Batches, is_shared, run_by
from pipeline.models.threads import DividedFaceDetector, ModelThreads, end
from tests.patience import PATIENCE_S


def crop(number: int) -> Picture:
    return np.full((4, 4, 3), number, np.uint8)


class Numbering:
    """Finds on each crop a face whose score is the crop's first value. calls: the crops of each call."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.threads: set[int] = set()

    def __call__(self, crops: Sequence[Picture], /) -> list[Faces]:
        numbers = [int(picture[0, 0, 0]) for picture in crops]
        self.calls.append(numbers)
        self.threads.add(threading.get_ident())
        if 99 in numbers:
            raise LookupError("broken")
        return [
            Faces(np.zeros((1, 4), np.float32), np.array([number], np.float32), np.zeros((1, 5, 2), np.float32))
            for number in numbers
        ]


@pytest.mark.parametrize("number", [0, 1, 2, 5, 6])
def test_a_divided_detector_gives_every_crop_its_own_faces_in_order(number: int) -> None:
    detector = Numbering()
    faces = DividedFaceDetector(detector, 2, ModelThreads(3))([crop(value) for value in range(number)])
    assert [each.scores.tolist() for each in faces] == [[float(value)] for value in range(number)]
    assert sorted(detector.calls) == [list(range(number))[first : first + 2] for first in range(0, number, 2)]


def test_a_single_batch_stays_in_the_callers_thread() -> None:
    detector = Numbering()
    DividedFaceDetector(detector, 4, ModelThreads(2))([crop(1), crop(2)])
    assert detector.threads == {threading.get_ident()}


@pytest.mark.parametrize("place", [0, 5])
def test_an_error_in_any_part_reaches_the_caller_and_nothing_runs_on(place: int) -> None:
    detector = Numbering()
    crops = [crop(99 if number == place else number) for number in range(8)]
    with pytest.raises(LookupError, match="broken"):
        DividedFaceDetector(detector, 1, ModelThreads(2))(crops)
    num_calls = len(detector.calls)
    threading.Event().wait(0.05)
    assert len(detector.calls) == num_calls


def test_work_that_was_given_up_is_over_when_end_returns() -> None:
    threads, begun, go, done = ModelThreads(1), threading.Event(), threading.Event(), []
    first = threads.submit(lambda: (begun.set(), go.wait(), done.append(1)))
    second = threads.submit(lambda: done.append(2))
    assert begun.wait(PATIENCE_S)
    threading.Timer(0.05, go.set).start()
    end([first, second])
    assert done == [1]


def test_threads_fill_batches_of_their_own() -> None:
    """Each thread waits within the network until the other one has written its samples, too."""
    together = threading.Barrier(2)

    def forward(samples: torch.Tensor) -> torch.Tensor:
        together.wait(PATIENCE_S)
        return samples.double().sum(1)

    batches = Batches(forward, device="cpu")

    def run(value: int) -> list[float]:
        def write(rows: np.ndarray, first: int) -> None:
            rows[:] = value

        return batches.run((3, 5), np.uint8, write, 2)[0].tolist()

    threads = ModelThreads(2)
    results = [threads.submit(lambda value=value: run(value)) for value in (1, 2)]
    assert [result.result() for result in results] == [[5.0, 5.0], [10.0, 10.0]]


def test_models_of_other_packages_know_that_threads_will_call_them() -> None:
    with run_by(None, has_threads=True):
        assert is_shared()
    assert not is_shared()


def test_mtcnn_finds_the_same_in_several_threads() -> None:
    from pipeline.models.mtcnn import Mtcnn

    detector = Mtcnn(input_px=96, min_score=0.1, device="cpu")
    rng = np.random.default_rng(3)
    crops = [rng.integers(0, 256, (64 + 8 * number, 96, 3), np.uint8) for number in range(6)]
    torch.set_num_threads(1)
    alone = detector(crops)
    divided = DividedFaceDetector(detector, 1, ModelThreads(3, lambda: torch.set_num_threads(1)))(crops)
    assert [each.boxes.tolist() for each in divided] == [each.boxes.tolist() for each in alone]
