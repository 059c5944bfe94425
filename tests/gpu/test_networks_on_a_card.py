"""What the results on a card rest on: rows of a batch are independent, and a graph replays the same kernels."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from pipeline.models.batches import EAGER_BATCHES, run_by
from pipeline.models.executor import Executor
from tests.gpu.cases import CASES, Case, person_detector
from tests.shared import SHARED, needs_shared

pytestmark = needs_shared


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, made: Callable[[str], Path]) -> Iterator[Case]:
    yield CASES[request.param](made, device="cuda", half=True)
    torch.cuda.empty_cache()


def differing(ours: list[NDArray[Any]], theirs: list[NDArray[Any]]) -> list[str]:
    """Describe the outputs whose bits differ."""
    shares = [float(np.isfinite(each).mean()) for each in ours]
    assert min(shares) > 0.99, shares  # else the random weights are unfit for float16
    return [
        f"output {index}: {(one != other).sum()} of {one.size} values, {np.abs(one - other.astype(float)).max()}"
        for index, (one, other) in enumerate(zip(ours, theirs, strict=True))
        if one.tobytes() != other.tobytes()
    ]


def as_graph(case: Case, samples: NDArray[np.uint8]) -> list[NDArray[Any]]:
    for _ in range(EAGER_BATCHES):
        case.run(samples)
    outputs = case.run(samples)
    assert case.batches.num_graphs
    return outputs


def test_a_graph_gives_the_bits_of_the_kernels_it_holds(case: Case) -> None:
    first, second = case.samples(1), case.samples(2)
    case.batches.graphs = False
    eager = [case.run(first), case.run(second)]
    again = case.run(first)
    case.batches.graphs = True
    graph = [as_graph(case, first), as_graph(case, second)]
    assert differing(again, eager[0]) == []
    assert [differing(one, other) for one, other in zip(graph, eager, strict=True)] == [[], []]


def test_a_sample_has_the_same_bits_in_every_place_and_among_all_neighbours(case: Case) -> None:
    batch = case.shape[0]
    sample, others = case.samples(3)[:1], case.samples(4)
    (alone,) = [as_graph(case, sample)]
    everywhere = case.run(np.repeat(sample, batch, axis=0))
    places = {
        f"place {place}": differing([output[place : place + 1] for output in everywhere], alone)
        for place in range(batch)
    }
    dependent = {place: what for place, what in places.items() if what}
    print(f"{batch} places, {dependent or 'no'} difference")
    assert dependent == {}
    for place in sorted({0, 1, batch // 3, batch // 2, batch - 2, batch - 1}):
        mixed = others.copy()
        mixed[place] = sample[0]
        outputs = case.run(mixed)
        assert differing([output[place : place + 1] for output in outputs], alone) == [], f"place {place}"


@pytest.mark.parametrize("name", CASES)
def test_threads_that_fill_batches_together_get_the_bits_of_a_caller_alone(
    name: str, made: Callable[[str], Path]
) -> None:
    """Parts of all sizes meet in the batches, in another order each time, while shapes become graphs."""
    check_threads(name, made, device="cuda", half=True)
    torch.cuda.empty_cache()


def check_threads(name: str, made: Callable[[str], Path], **on: Any) -> None:
    alone = CASES[name](made, **on)
    executor = Executor(partial(torch.set_num_threads, 1), patience_s=0.004)
    with run_by(executor):
        together = CASES[name](made, **on)
    size = alone.shape[0]
    samples = np.concatenate([alone.samples(seed) for seed in (5, 6, 7)])
    expected = [alone.run(samples[start : start + size]) for start in range(0, len(samples), size)]
    places = np.random.default_rng(0).choice(np.arange(3, len(samples)), 12, replace=False)
    parts = list(pairwise([0, 1, 2, *np.sort(places).tolist(), len(samples)]))

    def bring(part: tuple[int, int]) -> list[list[NDArray[Any]]]:
        with executor.working():
            return [together.run(samples[start : start + size][: part[1] - start]) for start in range(*part, size)]

    with ThreadPoolExecutor(6) as threads:
        for _ in range(EAGER_BATCHES):
            brought = [outputs for outputs_of_part in threads.map(bring, parts) for outputs in outputs_of_part]
            assert differing(_joined(brought), _joined(expected)) == []


def _joined(outputs: list[list[NDArray[Any]]]) -> list[NDArray[Any]]:
    return [np.concatenate(rows) for rows in zip(*outputs, strict=True)]


def first_picture(name: str) -> NDArray[np.uint8]:
    with av.open(str(SHARED / "clips" / f"{name}.mp4")) as container:
        return np.asarray(next(container.decode(video=0)).to_ndarray(format="rgb24"), np.uint8)


def test_pictures_of_several_sizes_do_not_disturb_each_other() -> None:
    """The head makes its anchors anew for each size. A graph of another size still reads the old ones."""
    weights = SHARED / "weights" / "yolov8n.pt"
    graphs, eager = (person_detector(weights, batch=4, device="cuda", half=True) for _ in range(2))
    eager.batches.graphs = False
    sizes = [(360, 640), (640, 360), (480, 640), (640, 640), (352, 640), (640, 416)]
    originals = [first_picture("plaza"), first_picture("talkshow")]
    for turn in range(3):
        for height, width in sizes[: 4 if turn < 2 else None]:
            pictures = [np.asarray(cv2.resize(each, (width, height)), np.uint8) for each in originals]
            for _ in range(EAGER_BATCHES):
                graphs(pictures)
            here, there = graphs(pictures), eager(pictures)
            assert sum(map(len, there)) > 0, (height, width)
            for found, expected in zip(here, there, strict=True):
                assert_array_equal(found.boxes, expected.boxes, str((turn, height, width)))
                assert_array_equal(found.scores, expected.scores, str((turn, height, width)))
    assert 1 <= graphs.batches.num_graphs <= 4
