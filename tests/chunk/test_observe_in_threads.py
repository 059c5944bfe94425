"""The core of `observe` with the detector and the embedder in threads of their own."""

import threading
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.arrays import Detections, Picture
from pipeline.chunk import observe
from pipeline.chunk.observe import SpanObserver
from pipeline.errors import DataError
from pipeline.media.decode import DecodedFrame
from pipeline.models.threads import ModelThreads
from tests.chunk.test_observe import (
    HEIGHT,
    WIDTH,
    ScriptedDecoder,
    ScriptedDetector,
    ScriptedEmbedder,
    check_faces,
    config,
    decoders,
    observed,
    span,
    whole,
)

__all__ = ["decoders"]
PORTION = ScriptedDetector.batch


class Prepared:
    """Notes which threads were prepared, and in which of them a model ran."""

    def __init__(self) -> None:
        self.threads: set[int] = set()
        self.used: dict[str, set[int]] = {"detector": set(), "embedder": set()}

    def __call__(self) -> None:
        self.threads.add(threading.get_ident())

    def detector(self) -> "Any":
        threads = self.used["detector"]

        class Detector(ScriptedDetector):
            def __call__(self, pictures: Sequence[Picture], *, alone: bool = False) -> list[Detections]:
                threads.add(threading.get_ident())
                return super().__call__(pictures, alone=alone)

        return Detector()

    def embedder(self) -> "Any":
        threads = self.used["embedder"]

        class Embedder(ScriptedEmbedder):
            def __call__(self, crops: NDArray[np.uint8], *, alone: bool = False) -> NDArray[np.float32]:
                threads.add(threading.get_ident())
                return super().__call__(crops, alone=alone)

        return Embedder()


def observer(
    *settings: str, number: int = 2, begin: Any = int, detector: Any = None, embedder: Any = None
) -> SpanObserver:
    """Return an observer with so many threads that find people. None if `number` is 0."""
    models = detector or ScriptedDetector(), embedder or ScriptedEmbedder(), check_faces, None
    return SpanObserver(config(*settings), *models, threads=ModelThreads(number, begin) if number else None)


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("embed", ["all", "candidates"])
@pytest.mark.parametrize("borders", [(0,), (0, 3, 4), tuple(range(8))])
def test_threads_change_no_row(
    decoders: list[ScriptedDecoder], embed: str, borders: tuple[int, ...], number: int
) -> None:
    knobs = (f"observe.body.embed={embed}", "candidates.max_per_cell=3")
    expected = whole(observed(observer(*knobs, number=0), span(0)))
    assert len(expected["candidates"]) > 0
    assert whole(observed(observer(*knobs, number=number), span(*borders))) == expected


def test_models_run_in_prepared_threads_alone(decoders: list[ScriptedDecoder]) -> None:
    prepared = Prepared()
    core = observer(number=2, begin=prepared, detector=prepared.detector(), embedder=prepared.embedder())
    observed(core, span(0, 4))
    assert 0 < len(prepared.threads) <= 2
    assert threading.get_ident() not in prepared.threads
    for used in prepared.used.values():
        assert used
        assert used <= prepared.threads


def test_an_error_of_a_model_in_a_thread_is_raised_where_the_chunk_is_made(decoders: list[ScriptedDecoder]) -> None:
    def fail(*_: object, **__: object) -> None:
        raise LookupError("broken")

    failing = [ScriptedDetector(), ScriptedEmbedder()]
    for model in failing:
        name = "detector" if isinstance(model, ScriptedDetector) else "embedder"
        broken: Any = type("Broken", (type(model),), {"__call__": fail})()
        with pytest.raises(LookupError, match="broken"):
            observed(observer(**{name: broken}), span(0))


def test_an_error_of_the_source_is_raised_after_the_chunks_before_it(
    decoders: list[ScriptedDecoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = ScriptedDecoder.__iter__

    def end_early(decoder: ScriptedDecoder) -> Iterator[DecodedFrame]:
        for frame in frames(decoder):
            if frame.cell == 5:
                raise DataError("gone")
            yield frame

    monkeypatch.setattr(ScriptedDecoder, "__iter__", end_early)
    chunks = observer().observe(span(0, 2, 4), lambda: "nowhere")
    assert [next(chunks)["first_cell"] for _ in range(2)] == [0, 2]
    with pytest.raises(DataError, match="gone"):
        next(chunks)


def test_a_span_that_is_left_early_ends_the_thread_that_detects(decoders: list[ScriptedDecoder]) -> None:
    core = observer()
    before = set(threading.enumerate())
    chunks: Any = core.observe(span(0, 2, 4), lambda: "nowhere")
    next(chunks)
    chunks.close()
    left = {thread.name for thread in set(threading.enumerate()) - before}
    assert {name for name in left if not name.startswith("models")} == set()  # they wait for the next span


@pytest.mark.parametrize("number", [1, 3])
def test_the_memory_for_pictures_grows_with_the_threads_and_is_bounded(
    decoders: list[ScriptedDecoder], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """One portion is decoded, one is recorded, one is handed over, and so many wait or are in work."""
    alive, most = 0, 0
    frames = ScriptedDecoder.__iter__

    def drop() -> None:
        nonlocal alive
        alive -= 1

    def count(decoder: ScriptedDecoder) -> Iterator[DecodedFrame]:
        nonlocal alive, most
        for frame in frames(decoder):
            if frame.picture is not None:
                alive += 1
                most = max(most, alive)
                weakref.finalize(frame.picture, drop)
            yield frame

    monkeypatch.setattr(ScriptedDecoder, "__iter__", count)
    observed(observer("candidates.max_per_chain=1", number=number), span(0))
    assert PORTION <= most <= (3 + number) * PORTION + 2
    monkeypatch.setattr(observe, "BYTES_OF_PICTURES", 3 * WIDTH * HEIGHT * PORTION * 3)
    most = 0
    observed(observer("candidates.max_per_chain=1", number=8), span(0))
    assert PORTION <= most <= 4 * PORTION + 2
