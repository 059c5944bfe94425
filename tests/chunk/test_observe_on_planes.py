"""Pictures that stay planes until a device reads them: the rows are those of RGB pictures, apart from what the device
computes otherwise, and chunks, spans and workers change no byte."""

import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.arrays import Detections, Picture, PlacedPlanes, Planes
from pipeline.boxes import Boxes, pairwise_iou
from pipeline.chunk import observe
from pipeline.chunk.observe import SpanObserver
from pipeline.media.crops import cut_small, sharpness
from pipeline.media.decode import DecodedFrame
from pipeline.media.frame_planes import FramePlanes
from pipeline.media.probing import probe
from pipeline.models.threads import ModelThreads
from tests.chunk import test_observe_together as together
from tests.chunk.test_observe import (
    CELLS,
    HEIGHT,
    PROBE,
    WIDTH,
    ScriptedDecoder,
    ScriptedDetector,
    ScriptedEmbedder,
    check_faces,
    config,
    observed,
    picture_of,
    span,
    whole,
)
from tests.shared import needs_shared

ON_PLANES = "compute.pixels=planes"


class PlanesDecoder(ScriptedDecoder):
    """Leaves its pictures as planes, apart from every fifth one.

    converted: the numbers of the pictures that became RGB, in order.
    """

    converted: list[int]

    def __iter__(self) -> Iterator[DecodedFrame]:
        assert self.knobs["keep_planes"]
        for number, frame in enumerate(super().__iter__(), start=self.first_cell * 10):
            if frame.picture is None or number % 10 == 4:
                yield frame
            else:
                yield replace(frame, picture=None, planes=self.planes(number))

    def planes(self, number: int) -> Planes:
        def to_rgb() -> Picture:
            self.converted.append(number)
            return picture_of(number)

        half = np.zeros((HEIGHT // 2, WIDTH // 2), np.uint8)
        return Planes(np.full((HEIGHT, WIDTH), number, np.uint8), half, half, 1, False, to_rgb)


class ScriptedCard:
    """Does on planes what the models of test_observe do on RGB.

    held: greatest number of pictures that were held at the same time.
    alive: pictures that somebody still holds.
    """

    def __init__(self, *, embeds: bool = True) -> None:
        self.embeds, self.held = embeds, 0
        self.alive: weakref.WeakSet[Planes] = weakref.WeakSet()
        self._models = ScriptedDetector(), ScriptedEmbedder()
        self._is_holding = False

    @contextmanager
    def holding(self, pictures: Sequence[Planes]) -> Iterator[list[PlacedPlanes]]:
        assert not self._is_holding
        assert not self.alive, "pictures of earlier portions are still held"
        self.alive.update(pictures)
        self._is_holding, self.held = True, max(self.held, len(pictures))
        yield [PlacedPlanes(picture, start) for start, picture in enumerate(pictures)]
        self._is_holding = False

    def detect(self, pictures: Sequence[PlacedPlanes]) -> list[Detections]:
        assert self._is_holding
        return self._models[0]([self._shown(each) for each in pictures])

    def embed(self, pictures: Sequence[PlacedPlanes], boxes: Sequence[Boxes]) -> NDArray[np.float32]:
        assert self._is_holding
        crops = [self._models[1].crops(self._shown(each), some) for each, some in zip(pictures, boxes, strict=True)]
        return self._models[1](np.concatenate(crops))

    def sharpness(
        self, pictures: Sequence[PlacedPlanes], boxes: Sequence[NDArray[np.int64]]
    ) -> list[NDArray[np.float64]]:
        assert self._is_holding
        return [
            np.array([sharpness(cut_small(self._shown(each), tuple(box), 512).picture) for box in some.tolist()])
            for each, some in zip(pictures, boxes, strict=True)
        ]

    def _shown(self, picture: PlacedPlanes) -> Picture:
        return picture_of(int(picture.planes.y[0, 0]))


@pytest.fixture
def converted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let the decoder leave planes, and return the numbers of the pictures that become RGB."""
    PlanesDecoder.made, PlanesDecoder.damaged, PlanesDecoder.converted = [], None, []
    monkeypatch.setattr(observe, "SpanDecoder", PlanesDecoder)
    return PlanesDecoder.converted


def observer(
    *settings: str, card: ScriptedCard | None, face_check: bool = True, threads: ModelThreads | None = None
) -> SpanObserver:
    models = ScriptedDetector(), ScriptedEmbedder(), check_faces if face_check else None, None
    return SpanObserver(config(*settings), *models, card_pixels=card, threads=threads)


@pytest.mark.parametrize("embeds", [True, False])
@pytest.mark.parametrize("knobs", [(), ("observe.body.embed=candidates",), ("estimate.uses=both",)])
@pytest.mark.parametrize("borders", [(0,), (0, 3, 4)])
def test_the_rows_are_those_of_rgb_pictures(
    converted: list[int],
    monkeypatch: pytest.MonkeyPatch,
    embeds: bool,
    knobs: tuple[str, ...],
    borders: tuple[int, ...],
) -> None:
    """Whichever pictures become RGB, the embeddings stay with their detections."""
    card = ScriptedCard(embeds=embeds)
    rows = whole(observed(observer(*knobs, card=card), span(*borders)))
    assert converted
    assert 1 < card.held <= ScriptedDetector.batch
    ScriptedDecoder.made = []
    monkeypatch.setattr(observe, "SpanDecoder", ScriptedDecoder)
    assert rows == whole(observed(observer(*knobs, card=None), span(0)))
    assert len(rows["candidates"]) > CELLS


def test_the_threads_of_a_worker_leave_pictures_that_stay_planes_to_its_own_thread(converted: list[int]) -> None:
    """Some pictures of a portion are RGB, too."""
    rows = whole(observed(observer(card=ScriptedCard()), span(0, 4)))
    converted.clear()
    assert whole(observed(observer(card=ScriptedCard(), threads=ModelThreads(2)), span(0, 4))) == rows


def test_only_pictures_with_a_chosen_crop_become_rgb_and_each_of_them_once(converted: list[int]) -> None:
    """A cell has five analysed frames. Where quality alone decides, each person keeps one crop of one of them."""
    card = ScriptedCard()
    rows = whole(observed(observer("candidates.max_per_chain=1", card=card, face_check=False), span(0)))
    frames = {rows["detections"][each["detection"]]["frame"] for each in rows["candidates"]}
    assert frames - set(converted) == {frame for frame in frames if frame % 10 == 4}
    assert len(converted) == len(set(converted))
    assert len(converted) < len([each for each in rows["frames"] if each["analysed"]])


class NobodyOnCard(ScriptedCard):
    """Finds nobody in real pictures, slowly, so that the decoders go on as far as they may."""

    @contextmanager
    def holding(self, pictures: Sequence[Planes]) -> Iterator[list[PlacedPlanes]]:
        yield [PlacedPlanes(picture, 0) for picture in pictures]

    def detect(self, pictures: Sequence[PlacedPlanes]) -> list[Detections]:
        return together.NoPeople(16)([each.planes.y for each in pictures])

    def sharpness(
        self, pictures: Sequence[PlacedPlanes], boxes: Sequence[NDArray[np.int64]]
    ) -> list[NDArray[np.float64]]:
        return [np.zeros(0)] * len(pictures)


@needs_shared
def test_the_spans_of_a_worker_share_a_bounded_memory_for_planes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each span keeps a portion for the models, another one that is decoded ahead, and three pictures on the way."""
    counted, take = together.Pictures(), FramePlanes.__call__
    monkeypatch.setattr(FramePlanes, "__call__", lambda self, frame: counted.add(cast(Any, take(self, frame))))
    clip, portion, num_spans = together.clip(together.CLIPS[0]), 2, 3
    probed = probe(lambda: clip)
    monkeypatch.setattr(observe, "BYTES_OF_PICTURES", 2 * portion * num_spans * 3 * probed.width * probed.height)
    chosen = together.config(num_spans, "observe.fps=12", ON_PLANES)
    models = together.NoPeople(16), None, None, None, num_spans, NobodyOnCard()
    watcher = SpanObserver(chosen, *models)
    (row,) = [row for row in together.spans(1) if row["video_id"][0].as_py() == f"{together.CLIPS[0]}-whole"]
    with ThreadPoolExecutor(num_spans) as threads:
        list(threads.map(lambda _: list(watcher.observe(row.to_pylist()[0], lambda: clip)), range(num_spans)))
    assert portion < counted.most <= num_spans * (2 * portion + 3)


@pytest.mark.parametrize(
    ("num_spans", "size", "expected"),
    [(1, (1280, 720), 64), (1, (3840, 2160), 21), (6, (1280, 720), 32), (6, (1919, 1079), 14), (12, (4096, 2304), 1)],
)
def test_a_portion_fits_into_the_memory_that_its_span_has_on_a_card(
    num_spans: int, size: tuple[int, int], expected: int
) -> None:
    models = together.NoPeople(64), None, None, None, num_spans, NobodyOnCard()
    portion = SpanObserver(config(), *models)._portion(replace(PROBE, width=size[0], height=size[1]))
    width, height = size
    assert portion == expected
    room = observe.bytes_of_planes(num_spans)
    assert portion * (width * height + 2 * -(-width // 2) * -(-height // 2)) <= room


@needs_shared
@pytest.mark.parametrize(
    ("num_spans", "seconds", "clips"),
    [
        pytest.param(3, 1, together.CLIPS[:1]),
        pytest.param(4, 2, together.CLIPS[1:], marks=pytest.mark.slow),
    ],
)
def test_spans_and_chunks_change_no_byte_and_the_rows_are_near_those_of_rgb(
    num_spans: int, seconds: int, clips: Sequence[str]
) -> None:
    """The models of a run read the planes, on this machine's CPU."""
    spans = together.spans(seconds, clips)
    expected = together.observed(together.config(1, ON_PLANES), spans)
    assert together.observed(together.config(num_spans, ON_PLANES), spans) == expected
    for name in clips:
        parts = [expected[name, first] for first in range(0, together.END, seconds)]
        assert [expected[f"{name}-whole", part["first_cell"]]["detections"] for part in parts] == [
            part["detections"] for part in parts
        ]
    converted = together.observed(together.config(1), spans)
    pairs = [(expected[key], converted[key]) for key in expected]
    ious, cosines, others = np.concatenate([agreement(*pair) for pair in pairs], axis=1)
    print(
        f"{len(ious)} people: IoU {np.median(ious):.3f}, cosine {np.median(cosines):.4f}, at least {cosines.min():.3f}"
    )
    assert len(ious) > 20
    assert np.mean(ious > 0.9) > 0.97
    assert np.median(ious) > 0.98
    assert np.median(cosines) > 0.995
    assert cosines.min() > 0.95
    assert others.max() < np.median(cosines)


def agreement(ours: dict, theirs: dict) -> NDArray[np.float64]:  # type: ignore[type-arg]
    """Return (3, N) for the sure people of one chunk: the IoU with the same person of the other, the cosine of their
    embeddings, and the cosine with another person of the frame."""
    rows = []
    for each in ours["detections"]:
        beside = [other for other in theirs["detections"] if other["frame"] == each["frame"]]
        if each["score"] < 0.5 or not beside:
            continue
        boxes = np.array([other["box"] for other in beside], np.float32)
        ious = pairwise_iou(np.array([each["box"]], np.float32), boxes)[0]
        best = int(ious.argmax())
        cosines = [cosine(each, other) for other in beside]
        rows.append([ious[best], cosines[best], max([*cosines[:best], *cosines[best + 1 :]], default=0.0)])
    return np.array(rows).reshape(-1, 3).T


def cosine(one: dict, other: dict) -> float:  # type: ignore[type-arg]
    vectors = [np.frombuffer(each["embedding"]["codes"], np.int8).astype(float) for each in (one, other)]
    return float(vectors[0] @ vectors[1] / np.linalg.norm(vectors[0]) / np.linalg.norm(vectors[1]))
