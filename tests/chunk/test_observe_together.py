"""Several spans that are observed at the same time, with the models of a run: no byte changes, and the memory for
pictures is bounded."""

import threading
import time
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline import rows
from pipeline.arrays import Detections, Picture
from pipeline.chunk import estimate, find_faces, observe
from pipeline.config import Config, load
from pipeline.media.decode import SpanDecoder
from pipeline.media.probing import probe
from pipeline.rows import conform
from pipeline.storage.blobs import fetch
from pipeline.weights import Registry
from tests.shared import SHARED, needs_shared

pytestmark = needs_shared
CLIPS = ("talkshow", "plaza")
END = 2
KNOBS = (
    "observe.fps=3",
    "observe.detector={image_size: 320, batch: 4}",
    "observe.body.batch=8",
    "candidates={look: null, max_per_cell: 4}",
)


def clip(name: str) -> str:
    return str(SHARED / "clips" / f"{name}.mp4")


def config(num_spans: int, *more: str) -> Config:
    settings = [*KNOBS, f"run.observe.spans={num_spans}", "run.enrich.workers=0", *more]
    return load(settings=settings, profile="starter").on_device("cpu")


def spans(seconds: int, clips: Sequence[str] = CLIPS) -> list[pa.Table]:
    """Return a row for each span. The spans of a clip are chunks of so many seconds, or one span with all chunks."""
    rows_of_spans = []
    for name in clips:
        probed = probe(lambda name=name: clip(name)).to_json()
        borders = list(range(0, END, seconds))
        for first in borders:
            end = min(first + seconds, END)
            row = {"video_id": name, "uri": clip(name), "first_cell": first, "end_cell": end}
            rows_of_spans.append(row | {"borders": [first], "durable": [], "probe": probed})
        together = {"video_id": f"{name}-whole", "uri": clip(name), "first_cell": 0, "end_cell": END}
        rows_of_spans.append(together | {"borders": borders, "durable": [], "probe": probed})
    return [pa.Table.from_pylist([row], rows.SPAN) for row in rows_of_spans]


def observed(chosen: Config, todo: Sequence[pa.Table]) -> dict[tuple[str, int], dict[str, Any]]:
    """Return the chunks of all spans with their faces, as many spans at a time as the configuration has."""
    registry = Registry.of(chosen, fetch)
    core = observe.build(chosen, registry, lambda uri: lambda: uri)
    find, judge = find_faces.build(chosen, registry), estimate.build(chosen, registry)
    num_spans = chosen.run.observe.spans
    assert num_spans != "auto"

    def all_of(row: pa.Table) -> list[dict[str, Any]]:
        rows_of_chunks = []
        for chunk in core(row):
            faces = find(conform(chunk.select(find_faces.NEEDS.names), find_faces.NEEDS))
            judged = judge(conform(faces.select(estimate.NEEDS.names), estimate.NEEDS))
            rows_of_chunks.append(chunk.to_pylist()[0] | faces.to_pylist()[0] | judged.to_pylist()[0])
        return rows_of_chunks

    with ThreadPoolExecutor(num_spans) as threads:
        chunks = [chunk for chunks in threads.map(all_of, todo) for chunk in chunks]
    return {(chunk["video_id"], chunk["first_cell"]): chunk for chunk in chunks}


@pytest.mark.parametrize(
    ("num_spans", "seconds", "clips"),
    [
        pytest.param(3, 1, CLIPS[:1]),
        pytest.param(2, 1, CLIPS, marks=pytest.mark.slow),
        pytest.param(4, 2, CLIPS, marks=pytest.mark.slow),
    ],
)
def test_the_number_of_spans_in_one_worker_changes_no_byte(num_spans: int, seconds: int, clips: Sequence[str]) -> None:
    expected = observed(config(1), spans(seconds, clips))
    assert sum(len(chunk["detections"]) for chunk in expected.values()) > 20
    assert sum(len(chunk["candidates"]) for chunk in expected.values()) > 5
    assert sum(len(chunk["faces"]) for chunk in expected.values()) > 0
    assert observed(config(num_spans), spans(seconds, clips)) == expected


class Pictures:
    """Counts the full pictures that are in memory. most: the greatest number so far."""

    def __init__(self) -> None:
        self.most = 0
        self._num, self._lock = 0, threading.Lock()

    def add(self, picture: Picture) -> Picture:
        with self._lock:
            self._num += 1
            self.most = max(self.most, self._num)
        weakref.finalize(picture, self._drop)
        return picture

    def _drop(self) -> None:
        with self._lock:
            self._num -= 1


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch) -> Pictures:
    counted, convert = Pictures(), SpanDecoder._picture
    monkeypatch.setattr(SpanDecoder, "_picture", lambda decoder, frame: counted.add(convert(decoder, frame)))
    return counted


def test_the_spans_of_a_worker_share_a_bounded_memory_for_pictures(
    pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each span keeps a portion for the models, another one that is decoded ahead, and three pictures on the way."""
    probed = probe(lambda: clip(CLIPS[0]))
    portion, num_spans = 2, 3
    monkeypatch.setattr(observe, "BYTES_OF_PICTURES", 2 * portion * num_spans * 3 * probed.width * probed.height)
    chosen, detector = config(num_spans, "observe.fps=12"), NoPeople(16)
    observer = observe.SpanObserver(chosen, detector, None, None, None, num_spans)
    (row,) = [row for row in spans(1) if row["video_id"][0].as_py() == f"{CLIPS[0]}-whole"]

    def watch(_: int) -> int:
        return len(list(observer.observe(row.to_pylist()[0], lambda: clip(CLIPS[0]))))

    with ThreadPoolExecutor(num_spans) as threads:
        assert list(threads.map(watch, range(num_spans))) == [END] * num_spans
    assert max(detector.sizes) == portion
    assert 0 < pictures.most <= num_spans * (2 * portion + 3)


@pytest.mark.parametrize(
    ("num_spans", "size", "expected"),
    [
        (1, (1280, 720), 64),
        (6, (1280, 720), 32),
        (6, (1920, 1080), 14),
        (6, (3840, 2160), 3),
        (6, (16384, 16384), 1),
    ],
)
def test_a_single_span_fills_whole_batches_and_several_share_the_memory(
    num_spans: int, size: tuple[int, int], expected: int
) -> None:
    observer = observe.SpanObserver(config(num_spans), NoPeople(64), None, None, None, num_spans)
    probed = replace(probe(lambda: clip(CLIPS[0])), width=size[0], height=size[1])
    assert observer._portion(probed) == expected


class NoPeople:
    """A detector that finds nobody. sizes: the number of pictures in each of its calls."""

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.sizes: list[int] = []

    def __call__(self, pictures: Sequence[Picture], *, alone: bool = False) -> list[Detections]:
        self.sizes.append(len(pictures))
        time.sleep(0.02)  # the decoders go on as far as they may
        return [Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))] * len(pictures)
