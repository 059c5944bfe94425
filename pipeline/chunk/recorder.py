"""Record the people of one chunk, frame by frame: detections, embeddings and candidates.

The recorder never holds more crops than those of one cell, and lets go of the pictures of each portion.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import rows
from pipeline.arrays import Detections, Faces, Picture, PlacedPlanes, Planes, Quantised
from pipeline.boxes import Boxes, clip
from pipeline.chunk.candidates import CellCandidates, CropsOfPerson
from pipeline.chunk.embedding import EmbeddingQueue
from pipeline.chunk.portions import ObserverModels, People, Portion, picture_of
from pipeline.columns import embedding_column, structs
from pipeline.config import Config
from pipeline.cores.bodiless import bodiless, head_and_shoulders
from pipeline.cores.candidates import CUT, crop_boxes, is_worth_a_crop, rate, visibility
from pipeline.cores.lone_people import EmbeddedPeople
from pipeline.cores.plan import NS, exact
from pipeline.media.crops import Crop, cut_small, sharpness
from pipeline.media.pictures import encode_jpeg
from pipeline.media.probe import Probe
from pipeline.models.threads import ModelThreads


@dataclass(frozen=True, slots=True)
class _View:
    """An analysed picture and the people in it.

    frame: number in the chunk.
    cell, step: number of the cell, and of the frame within it.
    picture: as the decoder left it.
    placed: its planes on a card, if it has some.
    people: bodies, and after them faces without a body.
    num_bodies: number of bodies.
    crop_boxes: (N, 4) float32 xyxy px. The part of each person that is searched for faces.
    worth: (K,) int64. The people who are worth a crop.
    sharpness: (K,) of their crops. None if the crops are still to be cut.
    """

    frame: int
    cell: int
    step: int
    picture: Picture | Planes
    placed: PlacedPlanes | None
    people: Detections
    num_bodies: int
    crop_boxes: Boxes
    worth: NDArray[np.int64]
    sharpness: NDArray[np.float64] | None


class ChunkRecorder:
    """Takes the frames of one chunk in order and records the people and candidates in them.

    thumbnail_pixels: number of pixels of a thumbnail.
    threads: run the body embedder. None if the caller's thread does.
    """

    def __init__(
        self,
        config: Config,
        models: ObserverModels,
        probe: Probe,
        thumbnail_pixels: int,
        threads: ModelThreads | None = None,
    ) -> None:
        self._params = config.candidates
        self._models, self._probe, self._thumbnail_pixels = models, probe, thumbnail_pixels
        # The content decides, so that the numbers of a picture do not depend on where it is found.
        self._alone = probe.kind == "image"
        self._embeds_all = models.embedder is not None and config.observe.body.embed == "all"
        self._frames: list[tuple[Any, ...]] = []
        # frame, cell, step in the cell, picture
        self._pending: list[tuple[int, int, int, Picture | Planes]] = []
        self._people: list[tuple[int, Detections, int]] = []  # frame, people, number of people with bodies
        self._cell = CellCandidates()
        self._cell_step = 0
        self._step_cell = -1
        self._is_cut = False
        self._num_detections = 0
        self._keeps_bodies = config.estimate.uses != "faces"
        self._candidates: list[tuple[Any, ...]] = []
        self._embedding = EmbeddingQueue(models.embedder, self._alone, threads)
        self._embedded = EmbeddedPeople.nobody()
        self._reuse_ns = int(exact(config.observe.body.reuse_s) * NS)
        self._sources: list[NDArray[np.int64]] = []
        self._to_embed: list[tuple[PlacedPlanes, Boxes, NDArray[np.int64]]] = []  # their detections come last
        self._converted: tuple[Planes, Picture] | None = None

    def add(self, portion: Portion) -> None:
        """Take the next frames, and let go of their pictures."""
        for frame in portion.frames:
            picture = picture_of(frame)
            if picture is not None:
                if frame.cell != self._step_cell:
                    self._step_cell, self._cell_step, self._is_cut = frame.cell, 0, False
                self._cell_step += 2 if self._is_cut else 1  # chains join only consecutive numbers
                self._is_cut = False
                self._pending.append((len(self._frames), frame.cell, self._cell_step, picture))
            differences = frame.differences or (None, None, None)
            self._frames.append((frame.time_ns, frame.cell, frame.analysed, *differences, frame.motion, frame.place))
            if frame.differences is not None:
                self._is_cut |= sum(frame.differences) >= 3 * CUT * self._thumbnail_pixels
        portion.frames.clear()
        self._process(portion.people())

    def close(self) -> dict[str, Any]:
        """End the last cell after the last frame. Return the columns of observe.ADDS."""
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

    def _process(self, people: People | None) -> None:
        if not self._pending:
            return
        with self._views(people) as views:
            for view in views:
                if view.cell != self._cell.number:
                    self._close_cell()
                    self._cell = CellCandidates(view.cell)
                self._note(view)
            self._embed_on_card()
        self._pending.clear()
        self._check_faces()
        self._cell.forget(self._params)
        self._cell.cut()
        self._converted = None

    @contextmanager
    def _views(self, people: People | None) -> Iterator[list[_View]]:
        """Find the people in the pictures that wait, if they are not found yet. Planes stay on the card during the
        block."""
        pictures = [picture for *_, picture in self._pending]
        planes = [picture for picture in pictures if isinstance(picture, Planes)]
        if self._models.card_pixels is None or not planes:
            yield self._seen(pictures, [None] * len(pictures), people)
            return
        with self._models.card_pixels.holding(planes) as on_card:
            places = iter(on_card)
            placed = [next(places) if isinstance(each, Planes) else None for each in pictures]
            yield self._seen(pictures, placed, people)

    def _seen(
        self, pictures: Sequence[Picture | Planes], placed: Sequence[PlacedPlanes | None], found: People | None
    ) -> list[_View]:
        """Return the views of the pictures. found: the people in them. None to find them now."""
        card = self._models.card_pixels
        found = self._find(pictures, placed) if found is None else found
        on_card = [place for place in placed if place is not None]
        people, num_bodies, crops, worth = [], [], [], []
        for picture, (bodies, faces) in zip(pictures, found, strict=True):
            people.append(bodies if faces is None else self._with_bodiless(bodies, faces))
            num_bodies.append(len(bodies))
            height, width = picture.shape[:2]
            crops.append(crop_boxes(people[-1].boxes, width, height, self._params))
            worth.append(np.flatnonzero(is_worth_a_crop(people[-1].boxes, people[-1].scores, self._params)))
        boxes = [c[w].astype(np.int64) for c, w, place in zip(crops, worth, placed, strict=True) if place is not None]
        measured = iter(card.sharpness(on_card, boxes) if card else ())
        sharpness = [None if place is None else next(measured) for place in placed]
        columns = zip(placed, people, num_bodies, crops, worth, sharpness, strict=True)
        return [_View(*pending, *rest) for pending, rest in zip(self._pending, columns, strict=True)]

    def _find(self, pictures: Sequence[Picture | Planes], placed: Sequence[PlacedPlanes | None]) -> People:
        """Return the people and faces of each picture, wherever its pixels are."""
        card, whole_frame = self._models.card_pixels, self._models.whole_frame
        others = [picture for picture in pictures if not isinstance(picture, Planes)]
        elsewhere = iter(self._models.detector(others, alone=self._alone) if others else ())
        on_card = iter(card.detect([place for place in placed if place is not None]) if card else ())
        bodies = [next(elsewhere if place is None else on_card) for place in placed]
        faces = whole_frame([self._rgb(each) for each in pictures]) if whole_frame else [None] * len(pictures)
        return list(zip(bodies, faces, strict=True))

    def _with_bodiless(self, people: Detections, faces: Faces) -> Detections:
        sure = people[np.round(people.scores, 3) >= np.float32(self._params.min_score)]
        alone = faces[bodiless(sure.boxes, sure.scores, faces.boxes, faces.scores)]
        boxes = head_and_shoulders(alone.boxes, self._probe.width, self._probe.height)
        keep = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        scores = np.round(alone.scores, 3).astype(np.float32)
        return Detections(np.concatenate([people.boxes, boxes[keep]]), np.concatenate([people.scores, scores[keep]]))

    def _note(self, view: _View) -> None:
        first = self._num_detections
        self._people.append((view.frame, view.people, view.num_bodies))
        self._num_detections += len(view.people)
        if self._embeds_all:
            self._embed(view, first)
        if len(view.worth):
            self._note_crops(view, first)

    def _embed(self, view: _View, first: int) -> None:
        assert self._models.embedder is not None
        (time_ns, cell), boxes = self._frames[view.frame][:2], view.people.boxes
        self._embedded = self._embedded.followed_by(cell, view.step, time_ns, boxes, first, self._reuse_ns)
        sources = self._embedded.sources
        self._sources.append(sources)
        is_new = sources == np.arange(first, first + len(boxes))
        if view.placed is not None and self._models.card_pixels and self._models.card_pixels.embeds:
            self._to_embed.append((view.placed, boxes[is_new], sources[is_new]))
        else:
            self._embedding.add(sources[is_new], self._models.embedder.crops(self._rgb(view.picture), boxes[is_new]))

    def _embed_on_card(self) -> None:
        if self._to_embed and self._models.card_pixels:
            placed, boxes, detections = zip(*self._to_embed, strict=True)
            self._embedding.add_vectors(np.concatenate(detections), self._models.card_pixels.embed(placed, boxes))
            self._to_embed.clear()

    def _note_crops(self, view: _View, first: int) -> None:
        """Keep the crops of the people who are worth one in the cell."""
        people, worth, places = view.people, view.worth, view.crop_boxes
        height, width = view.picture.shape[:2]
        visible = visibility(people.boxes, places, people.scores, width, height)
        people_and_places = list(zip(people.boxes[worth], places[worth].astype(int).tolist(), strict=True))
        cuts = [partial(self._cut, view.picture, box, tuple(place)) for box, place in people_and_places]
        crops: Iterable[CropsOfPerson | Callable[[], CropsOfPerson]] = cuts
        sharp = view.sharpness
        if sharp is None:
            cut = [cut() for cut in cuts]
            crops, sharp = cut, np.array([sharpness(crop.picture) for crop, *_ in cut])

        cell = self._cell
        cell.crops |= dict(enumerate(crops, start=len(cell.steps)))
        cell.steps += [view.step] * len(worth)
        cell.detections += (worth + first).tolist()
        cell.boxes += list(people.boxes[worth])
        cell.face_checks += [np.nan] * len(worth)
        cell.qualities += rate(people.scores[worth], places[worth], sharp, visible[worth]).tolist()

    def _cut(self, picture: Picture | Planes, box: NDArray[np.float32], place: Sequence[float]) -> CropsOfPerson:
        """Cut out one person. box: (4,) of the person. place: of the crop for the face search."""
        picture, embedder, whole = self._rgb(picture), self._models.embedder, None
        cuts_body = embedder is not None and not self._embeds_all
        if self._keeps_bodies:
            (inside,) = clip(box[None].round(), picture.shape[1], picture.shape[0]).astype(int).tolist()
            whole = cut_small(picture, inside, self._params.max_px)
        body = embedder.crops(picture, box[None])[0] if embedder and cuts_body else None
        return cut_small(picture, place, self._params.max_px), body, whole

    def _rgb(self, picture: Picture | Planes) -> Picture:
        """Return a picture as RGB. The last one that was converted is kept, because several people may be cut out."""
        if not isinstance(picture, Planes):
            return picture
        if self._converted is None or self._converted[0] is not picture:
            self._converted = picture, picture.to_rgb()
        return self._converted[1]

    def _check_faces(self) -> None:
        if self._models.face_check:
            while len(open_checks := self._cell.open_checks(self._params)):
                cut = {index: self._cell.crops_of(index)[0].picture for index in sorted(open_checks)}
                crops = [cut[index] for index in open_checks]
                for index, faces in zip(open_checks, self._models.face_check(crops), strict=True):
                    self._cell.face_checks[index] = max(faces.scores.tolist(), default=0.0)

    def _close_cell(self) -> None:
        self._check_faces()
        chains = self._cell.chains(self._params).tolist()
        for index in self._cell.chosen(self._params):
            crop, body, whole = self._cell.crops_of(index)
            detection, first = self._cell.detections[index], self._cell.detections[chains[index]]
            shown = (None,) * 4 if whole is None else self._encoded(whole)
            self._candidates.append((detection, first, *self._encoded(crop), *shown))
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
