"""The core of stage `observe`. It turns a span of one video into the frames, people, embeddings and candidates of
each of its chunks.

Its output holds only facts of single frames and single cells, so the borders of a chunk change none of them. It
streams. Besides the frames that wait in the decoder it never holds more full pictures than one batch, nor more crops
than those of one cell. This module does not use Ray.
"""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import rows
from pipeline.arrays import Detections, Faces, Picture, Quantised
from pipeline.boxes import Boxes
from pipeline.config import Config
from pipeline.cores.bodiless import bodiless, head_and_shoulders
from pipeline.cores.candidates import (
    CUT,
    CandidateParams,
    best_of_chains,
    chain,
    choose,
    crop_boxes,
    is_worth_a_look,
    rate,
    visibility,
)
from pipeline.cores.plan import OPEN_END
from pipeline.media.ahead import ahead
from pipeline.media.container import Opener
from pipeline.media.crops import Crop, cut_small, sharpness
from pipeline.media.decode import Damaged, DecodedFrame, SpanDecoder
from pipeline.media.pictures import encode_jpeg
from pipeline.media.probe import Probe
from pipeline.media.warnings import read_notes

CHUNK_ROWS = rows.join(rows.FRAMES, rows.DETECTIONS, rows.CANDIDATES)
"""The columns of one observed chunk."""


class PeopleFinder(Protocol):
    """The interface of models.person_detector.PersonDetector."""

    batch: int

    def __call__(self, pictures: Sequence[Picture], *, alone: bool = ...) -> list[Detections]: ...


class Embedder(Protocol):
    """The interface of models.body_embedder.BodyEmbedder."""

    batch: int

    def crops(self, picture: Picture, boxes: Boxes) -> NDArray[np.uint8]: ...

    def __call__(self, crops: NDArray[np.uint8], *, alone: bool = ...) -> NDArray[np.float32]: ...


FaceFinder = Callable[[Sequence[Picture]], list[Faces]]
"""The interface of models.face_detector.FaceDetector."""


@dataclass(frozen=True, slots=True)
class Models:
    """The models that process pictures.

    detector: finds people.
    embedder: embeds bodies. None if the profile uses no appearance.
    look: the quick face check on crops. None if quality alone decides.
    faces: finds faces in whole frames. None unless observe.whole_frame_faces is set.
    """

    detector: PeopleFinder
    embedder: Embedder | None
    look: FaceFinder | None
    faces: FaceFinder | None


class SpanObserver:
    """Observes spans, one after the other, with the same models. `Models` says which of them may be None."""

    def __init__(
        self,
        config: Config,
        detector: PeopleFinder,
        embedder: Embedder | None,
        look: FaceFinder | None,
        whole_frame_face_detector: FaceFinder | None,
    ) -> None:
        self._config = config
        self._models = Models(detector, embedder, look, whole_frame_face_detector)

    def observe(self, span: Mapping[str, Any], open_source: Opener) -> Iterator[dict[str, Any]]:
        """Yield the chunks of a rows.SPAN that are not durable yet, each as soon as its last frame is decoded.

        Each chunk is a dict of first_cell, end_cell, warning, and the columns of CHUNK_ROWS for `as_row`. If the
        source is damaged, the rest of the span is decoded again in the careful mode. The chunks yielded before stay
        valid. Raises DataError if the source cannot be decoded.
        """
        probe = Probe.from_json(span["probe"])
        borders = [*span["borders"], span["end_cell"]]
        chunks = [pair for pair in pairwise(borders) if pair[0] not in set(span["durable"])]
        is_careful = False
        while chunks:
            try:
                for chunk in self._decode(probe, chunks, open_source, is_careful):
                    chunks = chunks[1:]
                    yield chunk
            except Damaged:
                if is_careful:
                    raise
                is_careful = True

    def _decode(
        self, probe: Probe, chunks: Sequence[tuple[int, int]], open_source: Opener, is_careful: bool
    ) -> Iterator[dict[str, Any]]:
        """Decode once from the first to the last of `chunks`. Frames between the chunks are decoded but not used."""
        observe = self._config.observe
        decoder = SpanDecoder(
            open_source,
            probe,
            chunks[0][0],
            chunks[-1][1],
            fps=observe.fps,
            cell_seconds=self._config.chunk.cell_seconds,
            thumbnail_px=observe.thumbnail_px,
            threads=observe.decode_threads,
            camera_motion=observe.camera_motion,
            careful=is_careful,
        )
        with contextlib.closing(ahead(decoder, self._models.detector.batch)) as frames:  # pyright: ignore[reportArgumentType]
            frame = next(frames, None)
            for first_cell, end_cell in chunks:
                sheet = ChunkSheet(self._config, self._models, probe, decoder.thumbnail_pixels)
                while frame is not None and (end_cell == OPEN_END or frame.cell < end_cell):
                    if frame.cell >= first_cell:
                        sheet.add(frame)
                    frame = next(frames, None)
                warning = _warning(decoder.warning, first_cell, end_cell)
                yield {"first_cell": first_cell, "end_cell": end_cell, "warning": warning, **sheet.close()}


def _warning(of_span: str | None, first_cell: int, end_cell: int) -> str | None:
    """Return the part of a span's warning that concerns one chunk. A chunk's row depends on no other chunk."""
    own = [
        (cell, what)
        for cell, what in read_notes([of_span])
        if first_cell <= cell and (end_cell == OPEN_END or cell < end_cell)
    ]
    return json.dumps(own) if own else None


def as_row(chunk: Mapping[str, Any]) -> pa.Table:
    """Return one row of CHUNK_ROWS from a chunk that SpanObserver yields."""
    columns = []
    for column in CHUNK_ROWS:
        value = chunk[column.name]
        if isinstance(value, pa.Array):
            offsets = pa.array([0, len(value)], pa.int32())
            columns.append(pa.ListArray.from_arrays(offsets, value).cast(column.type))
        else:
            columns.append(pa.array([value], column.type))
    return pa.table(columns, schema=CHUNK_ROWS)


@dataclass(slots=True)
class CellOfPeople:
    """The people of the current cell that are worth a crop, in order of time.

    number: of the cell, -1 for none.
    frames: step of each person's frame in the cell.
    detections: index of each person's detection in the chunk.
    boxes: (4,) float32 xyxy px each.
    glances: score of the quick face check, nan where there is none.
    qualities: quality of each crop.
    crops: by position in the lists, the crop and the body crop of each person who may still be chosen.
    """

    number: int = -1
    frames: list[int] = field(default_factory=list)
    detections: list[int] = field(default_factory=list)
    boxes: list[NDArray[np.float32]] = field(default_factory=list)
    glances: list[float] = field(default_factory=list)
    qualities: list[float] = field(default_factory=list)
    crops: dict[int, tuple[Crop, NDArray[np.uint8] | None]] = field(default_factory=dict)

    def chains(self, params: CandidateParams) -> NDArray[np.int64]:
        return chain(np.array(self.frames, np.int64), np.reshape(self.boxes, (-1, 4)), params.chain_iou)

    def forget(self, params: CandidateParams) -> None:
        """Drop the crops that can no longer be chosen."""
        keep = best_of_chains(self.chains(params), np.array(self.glances), np.array(self.qualities), params).tolist()
        self.crops = {index: self.crops[index] for index in sorted(keep)}

    def chosen(self, params: CandidateParams) -> list[int]:
        return choose(self.chains(params), np.array(self.glances), np.array(self.qualities), params).tolist()


class ChunkSheet:
    """Takes the frames of one chunk in order and records the people and candidates in them."""

    def __init__(self, config: Config, models: Models, probe: Probe, thumbnail_pixels: int) -> None:
        self._params = config.candidates
        self._models, self._probe, self._thumbnail_pixels = models, probe, thumbnail_pixels
        # The content decides, so that the numbers of a picture do not depend on where it is found.
        self._alone = probe.kind == "image"
        self._embeds_all = models.embedder is not None and config.observe.body.embed == "all"
        self._frames: list[tuple[Any, ...]] = []
        self._pending: list[tuple[int, int, int, Picture]] = []  # frame, cell, step in the cell, picture
        self._people: list[tuple[int, Detections, int]] = []  # frame, people, number of people with bodies
        self._cell = CellOfPeople()
        self._cell_step = 0
        self._step_cell = -1
        self._is_cut = False
        self._num_detections = 0
        self._candidates: list[tuple[int, bytes, float, float, float]] = []
        self._embedding = EmbeddingQueue(models.embedder, self._alone)

    def add(self, frame: DecodedFrame) -> None:
        """Take the next frame. The models process the pictures when a batch is full."""
        if frame.analysed and frame.picture is not None:
            if frame.cell != self._step_cell:
                self._step_cell, self._cell_step, self._is_cut = frame.cell, 0, False
            self._cell_step += 2 if self._is_cut else 1  # chains join only consecutive numbers
            self._is_cut = False
            self._pending.append((len(self._frames), frame.cell, self._cell_step, frame.picture))
        differences = frame.differences or (None, None, None)
        self._frames.append((frame.time_ns, frame.cell, frame.analysed, *differences, frame.motion, frame.place))
        if frame.differences is not None:
            self._is_cut |= sum(frame.differences) >= 3 * CUT * self._thumbnail_pixels
        if len(self._pending) == self._models.detector.batch:
            self._look()

    def close(self) -> dict[str, Any]:
        """Process the remaining pictures after the last frame. Return the columns of CHUNK_ROWS."""
        self._look()
        self._close_cell()
        return {
            "width": self._probe.width,
            "height": self._probe.height,
            "thumbnail_pixels": self._thumbnail_pixels,
            "frames": _columns(rows.FRAME, self._frames),
            "detections": _detections_array(self._people, self._num_detections, *self._embedding.close()),
            "candidates": _columns(rows.CANDIDATE, self._candidates),
        }

    def _look(self) -> None:
        if not self._pending:
            return
        pictures = [picture for *_, picture in self._pending]
        found = self._models.detector(pictures, alone=self._alone)
        faces = self._models.faces(pictures) if self._models.faces else [None] * len(pictures)
        for (frame, cell, step, picture), people, each in zip(self._pending, found, faces, strict=True):
            if cell != self._cell.number:
                self._close_cell()
                self._cell = CellOfPeople(cell)
            self._note(frame, step, picture, people if each is None else self._with_bodiless(people, each), len(people))
        self._pending.clear()
        self._cell.forget(self._params)

    def _with_bodiless(self, people: Detections, faces: Faces) -> Detections:
        sure = people[np.round(people.scores, 3) >= np.float32(self._params.min_score)]
        alone = faces[bodiless(sure.boxes, sure.scores, faces.boxes, faces.scores)]
        boxes = head_and_shoulders(alone.boxes, self._probe.width, self._probe.height)
        keep = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        scores = np.round(alone.scores, 3).astype(np.float32)
        return Detections(np.concatenate([people.boxes, boxes[keep]]), np.concatenate([people.scores, scores[keep]]))

    def _note(self, frame: int, step: int, picture: Picture, people: Detections, num_bodies: int) -> None:
        first = self._num_detections
        self._people.append((frame, people, num_bodies))
        self._num_detections += len(people)
        if self._embeds_all and self._models.embedder is not None:
            self._embedding.add(
                np.arange(first, first + len(people)), self._models.embedder.crops(picture, people.boxes)
            )
        self._note_crops(step, picture, people, first)

    def _note_crops(self, step: int, picture: Picture, people: Detections, first: int) -> None:
        """Cut out the people that are worth a crop, run the quick face check on the crops, and keep them in the
        cell."""
        height, width = picture.shape[:2]
        places = crop_boxes(people.boxes, width, height, self._params)
        visible = visibility(people.boxes, places, people.scores, width, height)
        (worth,) = np.nonzero(is_worth_a_look(people.boxes, people.scores, self._params))
        if not len(worth):
            return
        crops = [cut_small(picture, tuple(place), self._params.max_px) for place in places[worth].astype(int).tolist()]
        glances = [np.nan] * len(crops)
        if self._models.look:
            glances = [
                max(faces.scores.tolist(), default=0.0) for faces in self._models.look([c.picture for c in crops])
            ]
        sharp = np.array([sharpness(crop.picture) for crop in crops])
        bodies: Sequence[NDArray[np.uint8] | None] = [None] * len(crops)
        if self._models.embedder is not None and not self._embeds_all:
            bodies = list(self._models.embedder.crops(picture, people.boxes[worth]))

        cell = self._cell
        cell.crops |= dict(enumerate(zip(crops, bodies, strict=True), start=len(cell.frames)))
        cell.frames += [step] * len(crops)
        cell.detections += (worth + first).tolist()
        cell.boxes += list(people.boxes[worth])
        cell.glances += glances
        cell.qualities += rate(people.scores[worth], places[worth], sharp, visible[worth]).tolist()

    def _close_cell(self) -> None:
        for index in self._cell.chosen(self._params):
            crop, body = self._cell.crops[index]
            detection = self._cell.detections[index]
            jpeg = encode_jpeg(crop.picture, self._params.jpeg_quality)
            self._candidates.append((detection, jpeg, crop.x, crop.y, crop.scale))
            if body is not None:
                self._embedding.add(np.array([detection]), body[None])
        self._cell = CellOfPeople()


class EmbeddingQueue:
    """Embeds crops as soon as a batch is full, so that only the last batch of a chunk is padded."""

    def __init__(self, embedder: Embedder | None, alone: bool) -> None:
        self._embedder = embedder
        self._alone = alone
        self._detections: list[NDArray[np.int64]] = []
        self._waiting: list[NDArray[np.uint8]] = []
        self._codes: list[NDArray[np.int8]] = []
        self._scales: list[NDArray[np.float32]] = []

    def add(self, detections: NDArray[np.int64], crops: NDArray[np.uint8]) -> None:
        """Queue (N, 256, 128, 3) `crops` of the (N,) `detections`."""
        if len(crops):
            self._detections.append(detections)
            self._waiting.append(crops)
            self._run(to_the_last=False)

    def close(self) -> tuple[NDArray[np.int64], Quantised]:
        """Embed the waiting crops. Return the (N,) detections that have embeddings, and the N embeddings."""
        self._run(to_the_last=True)
        if not self._codes:
            return np.zeros(0, np.int64), Quantised(np.zeros((0, 0), np.int8), np.zeros(0, np.float32))
        return np.concatenate(self._detections), Quantised(np.concatenate(self._codes), np.concatenate(self._scales))

    def _run(self, *, to_the_last: bool) -> None:
        waiting = sum(map(len, self._waiting))
        if self._embedder is None or not waiting:
            return
        ready = waiting if to_the_last else waiting - waiting % self._embedder.batch
        if ready:
            crops = np.concatenate(self._waiting)
            embedded = Quantised.of(self._embedder(crops[:ready], alone=self._alone))
            self._codes.append(embedded.codes)
            self._scales.append(embedded.scales)
            self._waiting = [crops[ready:]] if ready < waiting else []


def _detections_array(
    people: Sequence[tuple[int, Detections, int]], num_detections: int, embedded: NDArray[np.int64], vectors: Quantised
) -> pa.StructArray:
    counts = [len(each) for _, each, _ in people]
    boxes = np.concatenate([np.zeros((0, 4), np.float32), *(each.boxes for _, each, _ in people)])
    columns = {
        "frame": np.repeat(np.array([frame for frame, _, _ in people], np.int32), counts),
        "box": pa.FixedSizeListArray.from_arrays(pa.array(boxes.ravel()), 4),
        "score": np.concatenate([np.zeros(0, np.float32), *(each.scores for _, each, _ in people)]),
        "bodiless": np.concatenate(
            [np.zeros(0, bool), *(np.arange(n) >= b for n, (_, _, b) in zip(counts, people, strict=True))]
        ),
        "embedding": _vectors_array(num_detections, embedded, vectors),
    }
    return _struct(rows.DETECTION, columns)


def _vectors_array(length: int, places: NDArray[np.int64], vectors: Quantised) -> pa.StructArray:
    """Return `length` embeddings. The (N,) `places` hold the N `vectors`, and all others are null."""
    is_null = np.ones(length, bool)
    is_null[places] = False
    order = np.argsort(places, kind="stable")
    offsets = np.concatenate([[0], np.cumsum(np.where(is_null, 0, vectors.codes.shape[1]))]).astype(np.int32)
    codes = np.ascontiguousarray(vectors.codes[order])
    scales = np.zeros(length, np.float32)
    scales[places] = vectors.scales
    return pa.StructArray.from_arrays(
        [
            pa.Array.from_buffers(pa.binary(), length, [None, pa.py_buffer(offsets), pa.py_buffer(codes)]),
            pa.array(scales),
        ],
        fields=list(rows.VECTOR),
        mask=pa.array(is_null),
    )


def _columns(kind: pa.StructType, tuples: Sequence[tuple[Any, ...]]) -> pa.StructArray:
    return _struct(kind, {kind.field(i).name: [each[i] for each in tuples] for i in range(kind.num_fields)})


def _struct(kind: pa.StructType, columns: Mapping[str, Any]) -> pa.StructArray:
    arrays = [
        column if isinstance(column, pa.Array) else pa.array(column, kind.field(name).type)
        for name, column in columns.items()
    ]
    return pa.StructArray.from_arrays(arrays, fields=[kind.field(name) for name in columns])
