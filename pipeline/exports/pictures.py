"""Pictures of the persons of a video: the best moment of each, cut out of the source."""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import rows
from pipeline.arrays import Picture
from pipeline.columns import boxes as boxes_of
from pipeline.columns import flags, integers, items_of, reals, vectors
from pipeline.cores.portraits import Bodies, JudgedFaces, Portrait, choose_portraits, widened
from pipeline.media.pictures import cut_out, encode_jpeg
from pipeline.media.probing import probe
from pipeline.media.stills import analysed_stills
from pipeline.storage import tables
from pipeline.storage.content_ids import unchanged_source
from pipeline.storage.ledger import Keys, Ledger
from pipeline.storage.source_files import opener
from pipeline.storage.store import Store

BODY_MARGIN, FACE_MARGIN = 0.1, 0.3
"""Margins around a body and a face, as shares of their boxes."""
JPEG_QUALITY = 95

Landmarks = NDArray[np.float64]
Enhance = Callable[[Picture, Landmarks | None], Picture]
"""Returns an enlarged or restored picture. The second argument holds the landmarks of the face in it, (5, 2) px."""


@dataclass(frozen=True, slots=True)
class PictureSource:
    """A finished video to cut pictures from.

    row: its row of `videos`.
    uris: its sources.
    knobs: of its recipe.
    keys: of its durable objects.
    """

    row: Mapping[str, Any]
    uris: Sequence[str]
    knobs: Mapping[str, Any]
    keys: Keys

    @property
    def video_id(self) -> str:
        return self.row["video_id"]


@dataclass(frozen=True, slots=True)
class PersonPictures:
    """The pictures of a person. face: None without a judged face."""

    person_id: int
    body: Picture
    face: Picture | None

    def files(self, arrays: bool) -> Iterator[tuple[str, bytes]]:
        """Yield the end of the name of each file and its content. arrays: as .npy too, (H, W, 3) uint8 RGB."""
        for end, picture in (("", self.body), ("-face", self.face)):
            if picture is None:
                continue
            yield f"{end}.jpg", encode_jpeg(picture, JPEG_QUALITY)
            if arrays:
                file = io.BytesIO()
                np.save(file, picture, allow_pickle=False)
                yield f"{end}.npy", file.getvalue()


def take_pictures(store: Store, source: PictureSource, enhance: Enhance | None) -> Iterator[PersonPictures]:
    """Yield the pictures of each person of a video. Raises DataError and PassingError if the source fails.

    enhance: applied to each picture that is cut out; None: pictures are as in the source.
    """
    portraits = find_portraits(store, source.row)
    if not portraits:
        return
    landmarks = _read_landmarks(store, source, portraits) if enhance else {}
    uri = unchanged_source(source.uris, source.video_id)
    by_time: dict[float, list[Portrait]] = {}
    for portrait in portraits:
        by_time.setdefault(portrait.time_s, []).append(portrait)
    stills = analysed_stills(
        opener(uri),
        probe(opener(uri)),
        sorted(by_time),
        fps=source.knobs["observe.fps"],
        cell_seconds=source.knobs["chunk.cell_seconds"],
    )
    for time_s, picture in stills:
        for portrait in by_time[time_s]:
            points = landmarks.get(portrait.person_id)
            body = _cut(picture, widened(portrait.body, BODY_MARGIN), points, enhance)
            face = None
            if portrait.face is not None:
                face = _cut(picture, widened(portrait.face, FACE_MARGIN), points, enhance)
            yield PersonPictures(portrait.person_id, body, face)


def find_portraits(store: Store, video: Mapping[str, Any]) -> list[Portrait]:
    """Return the moment that shows each person of a video best. video: its row of `videos`."""
    video_id = video["video_id"]
    table = tables.read_one(store, "detections", video_id)
    table = table.filter(~flags(table, "interpolated"))
    bodies = Bodies(
        integers(table, "frame_num"),
        integers(table, "person_id"),
        reals(table, "time_s"),
        reals(table, "score"),
        _boxes(table),
    )
    table = tables.read_one(store, "faces", video_id)
    table = table.filter(flags(table, "judged") & (integers(table, "person_id", null=0) > 0))
    faces = JudgedFaces(
        integers(table, "frame_num"), integers(table, "person_id"), reals(table, "quality"), _boxes(table)
    )
    return choose_portraits(bodies, faces, (video["width"], video["height"]))


def _boxes(table: Any) -> NDArray[np.float64]:
    left, top, width, height = (reals(table, f"bb_{name}") for name in ("xmin", "ymin", "width", "height"))
    return np.stack([left, top, left + width, top + height], axis=1)


def _cut(picture: Picture, box: NDArray[np.float64], points: Landmarks | None, enhance: Enhance | None) -> Picture:
    crop = cut_out(picture, box)
    if enhance is None:
        return crop
    corner = np.maximum(np.floor(box[:2]), 0)
    return enhance(crop, None if points is None else points - corner)


def _read_landmarks(store: Store, source: PictureSource, portraits: Sequence[Portrait]) -> dict[int, Landmarks]:
    """Return the (5, 2) px landmarks of the chosen faces by person, from the kept part of the working area."""
    wanted = {
        (portrait.time_s, *np.rint(portrait.face * 10).astype(int).tolist()): portrait.person_id
        for portrait in portraits
        if portrait.face is not None
    }
    found: dict[int, Landmarks] = {}
    ledger = Ledger(store, source.keys)
    for span in ledger.durable_of(source.video_id):
        frames = items_of(ledger.observed(source.video_id, span, rows.FRAMES.names), "frames")
        faces = items_of(ledger.enriched(source.video_id, span, rows.FACES.names), "faces")
        times_s = np.round(integers(frames, "time_ns") / 1e9, 6)[integers(faces, "frame")]
        tenths = np.rint(boxes_of(faces).astype(np.float64) * 10).astype(int).tolist()
        points = vectors(faces, "landmarks", 10).astype(np.float64).reshape(-1, 5, 2)
        for time_s, box, of_face in zip(times_s.tolist(), tenths, points, strict=True):
            if (person := wanted.get((time_s, *box))) is not None:
                found[person] = of_face
    return found
