"""Record the people of one chunk, frame by frame: detections, embeddings and candidates.

The recorder never holds more full pictures than one portion, nor more crops than those of one cell.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import rows
from pipeline.arrays import Detections, Faces, Picture, Quantised
from pipeline.boxes import Boxes, clip
from pipeline.chunk.candidates import CellCandidates
from pipeline.chunk.embedding import EmbeddingQueue
from pipeline.columns import embedding_column, structs
from pipeline.config import Config
from pipeline.cores.bodiless import bodiless, head_and_shoulders
from pipeline.cores.candidates import CUT, crop_boxes, is_worth_a_crop, rate, visibility
from pipeline.cores.lone_people import EmbeddedPeople
from pipeline.cores.plan import NS, exact
from pipeline.interfaces import BodyEmbedder, FaceDetector, PersonDetector
from pipeline.media.crops import Crop, cut_small, sharpness
from pipeline.media.decode import DecodedFrame
from pipeline.media.pictures import encode_jpeg
from pipeline.media.probe import Probe


@dataclass(frozen=True, slots=True)
class ObserverModels:
    """The models that process pictures.

    detector: finds people.
    embedder: embeds bodies. None if the profile uses no appearance.
    face_check: the quick face check on crops. None if quality alone decides.
    whole_frame: finds faces in whole frames. None unless observe.whole_frame_faces is set.
    """

    detector: PersonDetector
    embedder: BodyEmbedder | None
    face_check: FaceDetector | None
    whole_frame: FaceDetector | None


class ChunkRecorder:
    """Takes the frames of one chunk in order and records the people and candidates in them."""

    def __init__(
        self, config: Config, models: ObserverModels, probe: Probe, thumbnail_pixels: int, portion: int
    ) -> None:
        """portion: number of pictures that wait before the models process them."""
        self._params, self._portion = config.candidates, portion
        self._models, self._probe, self._thumbnail_pixels = models, probe, thumbnail_pixels
        # The content decides, so that the numbers of a picture do not depend on where it is found.
        self._alone = probe.kind == "image"
        self._embeds_all = models.embedder is not None and config.observe.body.embed == "all"
        self._frames: list[tuple[Any, ...]] = []
        self._pending: list[tuple[int, int, int, Picture]] = []  # frame, cell, step in the cell, picture
        self._people: list[tuple[int, Detections, int]] = []  # frame, people, number of people with bodies
        self._cell = CellCandidates()
        self._cell_step = 0
        self._step_cell = -1
        self._is_cut = False
        self._num_detections = 0
        self._keeps_bodies = config.estimate.uses != "faces"
        self._candidates: list[tuple[Any, ...]] = []
        self._embedding = EmbeddingQueue(models.embedder, self._alone)
        self._embedded = EmbeddedPeople.nobody()
        self._reuse_ns = int(exact(config.observe.body.reuse_s) * NS)
        self._sources: list[NDArray[np.int64]] = []

    def add(self, frame: DecodedFrame) -> None:
        """Take the next frame. The models process the pictures when a portion is complete."""
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
        if len(self._pending) == self._portion:
            self._process()

    def close(self) -> dict[str, Any]:
        """Process the remaining pictures after the last frame. Return the columns of observe.ADDS."""
        self._process()
        self._close_cell()
        return {
            "width": self._probe.width,
            "height": self._probe.height,
            "thumbnail_pixels": self._thumbnail_pixels,
            "frames": _structs_of(rows.FRAME, self._frames),
            "detections": _detection_items(self._people, self._num_detections, *self._embeddings()),
            "candidates": _structs_of(rows.CANDIDATE, self._candidates),
        }

    def _embeddings(self) -> tuple[NDArray[np.int64], Quantised]:
        """Return the (N,) detections that have embeddings, and the N embeddings."""
        embedded, vectors = self._embedding.close()
        if not self._embeds_all or not len(embedded):
            return embedded, vectors
        places = np.searchsorted(embedded, np.concatenate(self._sources))
        return np.arange(len(places)), Quantised(vectors.codes[places], vectors.scales[places])

    def _process(self) -> None:
        if not self._pending:
            return
        pictures = [picture for *_, picture in self._pending]
        detections = self._models.detector(pictures, alone=self._alone)
        faces_by_picture = self._models.whole_frame(pictures) if self._models.whole_frame else [None] * len(pictures)
        for (frame, cell, step, picture), bodies, faces in zip(
            self._pending, detections, faces_by_picture, strict=True
        ):
            if cell != self._cell.number:
                self._close_cell()
                self._cell = CellCandidates(cell)
            people = bodies if faces is None else self._with_bodiless(bodies, faces)
            self._note(frame, step, picture, people, len(bodies))
        self._pending.clear()
        self._check_faces()
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
        if self._embeds_all:
            self._embed(frame, step, picture, people.boxes, first)
        self._note_crops(step, picture, people, first)

    def _embed(self, frame: int, step: int, picture: Picture, boxes: Boxes, first: int) -> None:
        assert self._models.embedder is not None
        time_ns, cell = self._frames[frame][:2]
        self._embedded = self._embedded.followed_by(cell, step, time_ns, boxes, first, self._reuse_ns)
        sources = self._embedded.sources
        self._sources.append(sources)
        is_new = sources == np.arange(first, first + len(boxes))
        self._embedding.add(sources[is_new], self._models.embedder.crops(picture, boxes[is_new]))

    def _note_crops(self, step: int, picture: Picture, people: Detections, first: int) -> None:
        """Cut out the people that are worth a crop, and keep the crops in the cell."""
        height, width = picture.shape[:2]
        places = crop_boxes(people.boxes, width, height, self._params)
        visible = visibility(people.boxes, places, people.scores, width, height)
        (worth,) = np.nonzero(is_worth_a_crop(people.boxes, people.scores, self._params))
        if not len(worth):
            return
        crops = [cut_small(picture, tuple(place), self._params.max_px) for place in places[worth].astype(int).tolist()]
        sharp = np.array([sharpness(crop.picture) for crop in crops])
        bodies: Sequence[NDArray[np.uint8] | None] = [None] * len(crops)
        if self._models.embedder is not None and not self._embeds_all:
            bodies = list(self._models.embedder.crops(picture, people.boxes[worth]))

        whole: Sequence[Crop | None] = [None] * len(crops)
        if self._keeps_bodies:
            inside = clip(people.boxes[worth].round(), width, height).astype(int).tolist()
            whole = [cut_small(picture, box, self._params.max_px) for box in inside]

        cell = self._cell
        cell.crops |= dict(enumerate(zip(crops, bodies, whole, strict=True), start=len(cell.steps)))
        cell.steps += [step] * len(crops)
        cell.detections += (worth + first).tolist()
        cell.boxes += list(people.boxes[worth])
        cell.face_checks += [np.nan] * len(crops)
        cell.qualities += rate(people.scores[worth], places[worth], sharp, visible[worth]).tolist()

    def _check_faces(self) -> None:
        if self._models.face_check:
            while len(open_checks := self._cell.open_checks(self._params)):
                crops = [self._cell.crops[index][0].picture for index in open_checks]
                for index, faces in zip(open_checks, self._models.face_check(crops), strict=True):
                    self._cell.face_checks[index] = max(faces.scores.tolist(), default=0.0)

    def _close_cell(self) -> None:
        self._check_faces()
        for index in self._cell.chosen(self._params):
            crop, body, whole = self._cell.crops[index]
            detection = self._cell.detections[index]
            shown = (None,) * 4 if whole is None else self._encoded(whole)
            self._candidates.append((detection, *self._encoded(crop), *shown))
            if body is not None:
                self._embedding.add(np.array([detection]), body[None])
        self._cell = CellCandidates()

    def _encoded(self, crop: Crop) -> tuple[bytes, float, float, float]:
        return encode_jpeg(crop.picture, self._params.jpeg_quality), crop.x, crop.y, crop.scale


def _detection_items(
    people: Sequence[tuple[int, Detections, int]], num_detections: int, embedded: NDArray[np.int64], vectors: Quantised
) -> pa.StructArray:
    counts = [len(detections) for _, detections, _ in people]
    boxes = np.concatenate([np.zeros((0, 4), np.float32), *(detections.boxes for _, detections, _ in people)])
    columns = {
        "frame": np.repeat(np.array([frame for frame, _, _ in people], np.int32), counts),
        "box": pa.FixedSizeListArray.from_arrays(pa.array(boxes.ravel()), 4),
        "score": np.concatenate([np.zeros(0, np.float32), *(detections.scores for _, detections, _ in people)]),
        "bodiless": np.concatenate(
            [np.zeros(0, bool), *(np.arange(n) >= b for n, (_, _, b) in zip(counts, people, strict=True))]
        ),
        "embedding": embedding_column(num_detections, embedded, vectors),
    }
    return structs(rows.DETECTION, columns, num_detections)


def _structs_of(kind: pa.StructType, items: Sequence[tuple[Any, ...]]) -> pa.StructArray:
    """Return items of `kind` from tuples of all its fields."""
    return structs(kind, {kind.field(i).name: [item[i] for item in items] for i in range(kind.num_fields)}, len(items))
