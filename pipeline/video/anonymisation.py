"""Cover the persons of a video on its frames, over their whole tracks, and faces that belong to no track.

Covered are the heads or bodies of all persons but those who are kept, and of forgotten persons; the places where a
track was lost for some seconds, and half a second before and after each track; and every face that a detector finds in
the whole frame, except on the head of somebody who is kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from pipeline.config import Config, digest
from pipeline.cores.boxes_over_time import BoxesOverTime
from pipeline.cores.covering import (
    FACE_TO_BODY,
    FACE_TO_HEAD,
    HEAD_TO_COVER,
    Cover,
    Style,
    centres,
    grown,
    heads_of,
    not_inside,
)
from pipeline.cores.plan import NS, OPEN_END
from pipeline.interfaces import FaceDetector
from pipeline.media.canvas import Canvas
from pipeline.media.container import Opener
from pipeline.media.cover import cover
from pipeline.media.decode import SpanDecoder
from pipeline.media.probe import Probe
from pipeline.media.rewrite import CELL_S, Paint
from pipeline.storage import tables
from pipeline.storage.store import Store
from pipeline.storage.tombstones import PERSONS, read_forgotten
from pipeline.video.left_out import boxes_of
from pipeline.weights import Registry

REVISION = 1
"""Counts up when copies of the same tables look different."""
LOST_S, HOLD_S = 3.0, 0.5
"""Seconds for which a lost track of a person is filled, and a box is held where a track begins or ends."""
FACES_FPS = 8.0
"""Frames a second in which a detector looks for faces."""
FACE_HOLD_S = 0.5
"""Seconds for which such a face is covered before and after, because detectors lose small faces now and then."""
FACE_INPUT_PX = 1280
"""px, the long side of the frame for the face detector, if the frame is not smaller."""


@dataclass(frozen=True, slots=True)
class FrameFaces:
    """Finds faces in whole frames. It travels to the workers, and the model is loaded there.

    config: names the face detector, on a chosen device.
    registry: has its verified file.
    """

    config: Config
    registry: Registry

    @property
    def key(self) -> str:
        """A text that changes with the detector."""
        chosen = self.config.faces
        return digest(
            FACES_FPS, FACE_INPUT_PX, chosen.detector, self.registry.sha256(chosen.detector), chosen.min_score
        )

    def load(self, probe: Probe) -> FaceDetector:
        """Return the detector for frames of the size of a video."""
        from pipeline.models.loading import Loader  # torch takes seconds to import

        chosen = self.config.faces
        side_px = min(FACE_INPUT_PX, -(-max(probe.width, probe.height) // 32) * 32)
        faces = self.config.faces.model_copy(update={"input_px": side_px, "batch": 1, "min_score": chosen.min_score})
        return Loader(self.config.model_copy(update={"faces": faces}), self.registry).face_detector(in_pictures=True)


@dataclass(frozen=True, slots=True)
class Anonymisation:
    """Covered persons (video.copies.Painting).

    faces: finds faces without a track; None: tracks alone are covered.
    kept: persons who stay visible, as (video_id, person_id).
    part: what is covered.
    style: how.
    keeps_sound: whether the copy has sound.
    leaves_out: no frame is left out.
    """

    faces: FrameFaces | None
    kept: frozenset[tuple[str, int]] = frozenset()
    part: Cover = Cover.HEAD
    style: Style = Style.FILL
    keeps_sound: bool = True
    leaves_out: bool = False

    def key(self, store: Store, video_id: str) -> str:
        """Return a text that changes with the boxes and the options."""
        with tables.damage_is_a_fault():
            contents = [store.read(f"{name}/{video_id}.parquet") for name in ("detections", "shots")]
        stone = f"{PERSONS}/{video_id}.json"
        contents += [store.read(stone)] if store.exists(stone) else []
        hashes = [sha256(content).hexdigest() for content in contents]
        detector = self.faces.key if self.faces else ""
        kept = sorted(self.kept_in(video_id))
        return digest("anonymisation", REVISION, kept, self.part, self.style, self.keeps_sound, detector, *hashes)

    def kept_in(self, video_id: str) -> set[int]:
        """Return the ids of the persons of a video who stay visible."""
        return {person_id for kept_video, person_id in self.kept if kept_video == video_id}

    def painter(self, store: Store, video_id: str, open_source: Opener, probe: Probe, cells: tuple[int, int]) -> Paint:
        """Return the function that covers the persons in the cells [first, end)."""
        people = PeopleOverTime.read(store, video_id, self.kept_in(video_id), cells)
        faces = NO_BOXES if self.faces is None else find_faces(self.faces, open_source, probe, cells)

        def paint(canvas: Canvas, time_ns: int) -> bool:
            boxes = self.places(people, faces, time_ns)
            cover(canvas, (boxes * (canvas.width / probe.width)).tolist(), self.style)
            return True

        return paint

    def places(self, people: "PeopleOverTime", faces: BoxesOverTime, time_ns: int) -> NDArray[np.float64]:
        """Return what is covered at a moment: (N, 4) xyxy px of the displayed picture."""
        covered, kept = people.at(time_ns)
        _, loose = faces.at(time_ns)
        loose = loose[not_inside(centres(loose), heads_of(kept))]
        if self.part is Cover.HEAD:
            return np.concatenate([grown(heads_of(covered), HEAD_TO_COVER), grown(loose, FACE_TO_HEAD)])
        return np.concatenate([grown(covered), grown(loose, FACE_TO_BODY)])


NO_BOXES = BoxesOverTime.of(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 4)), max_gap_ns=0, hold_ns=0)


@dataclass(frozen=True, slots=True)
class PeopleOverTime:
    """The bodies of the persons of a video at any moment. A body is seen in its own shot only.

    covered, kept: the bodies; the number of the shot is that of the track modulo the number of shots.
    starts_s: (S,) s, the starts of the shots.
    """

    covered: BoxesOverTime
    kept: BoxesOverTime
    starts_s: NDArray[np.float64]

    @classmethod
    def read(cls, store: Store, video_id: str, kept: set[int], cells: tuple[int, int]) -> "PeopleOverTime":
        """Return the persons of a video in the cells [first, end). Raises DataError."""
        with tables.damage_is_a_fault():
            shots = tables.read_one(store, "shots", video_id, ["start_s"])["start_s"].to_numpy()
            table = tables.read_one(store, "detections", video_id)
        forgotten = [path for paths in read_forgotten(store, video_id) for path in paths]
        ids = table["person_id"].to_numpy()
        is_kept = np.isin(ids, list(kept))
        times_s, boxes = table["time_s"].to_numpy(), boxes_of(table)
        strangers = np.concatenate([np.full(len(path.frames), -1 - n) for n, path in enumerate(forgotten)] or [ids[:0]])
        covered = _Tracks(
            np.concatenate([ids[~is_kept], strangers]),
            np.concatenate([times_s[~is_kept], *(path.times_s for path in forgotten)]),
            np.concatenate([boxes[~is_kept], *(path.boxes for path in forgotten)]),
        )
        kept_tracks = _Tracks(ids[is_kept], times_s[is_kept], boxes[is_kept])
        return cls(covered.over_time(shots, cells, HOLD_S), kept_tracks.over_time(shots, cells, HOLD_S), shots)

    def at(self, time_ns: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the covered and the kept bodies at a moment: each (N, 4) xyxy px."""
        shot = _shots_at(np.array([time_ns / NS]), self.starts_s)[0]
        both = []
        for bodies in (self.covered, self.kept):
            tracks, boxes = bodies.at(time_ns)
            both.append(boxes[tracks % max(len(self.starts_s), 1) == shot])
        return both[0], both[1]


@dataclass(frozen=True, slots=True)
class _Tracks:
    """N boxes of persons. ids: (N,). times_s: (N,) s. boxes: (N, 4) xyxy px."""

    ids: NDArray[np.int64]
    times_s: NDArray[np.float64]
    boxes: NDArray[np.float64]

    def over_time(self, starts_s: NDArray[np.float64], cells: tuple[int, int], hold_s: float) -> BoxesOverTime:
        start_s = cells[0] * float(CELL_S) - LOST_S
        end_s = cells[1] * float(CELL_S) + LOST_S if cells[1] != OPEN_END else np.inf
        chosen = (self.times_s >= start_s) & (self.times_s <= end_s)
        times_s = self.times_s[chosen]
        tracks = self.ids[chosen].astype(np.int64) * max(len(starts_s), 1) + _shots_at(times_s, starts_s)
        times_ns = np.rint(times_s * NS).astype(np.int64)
        max_gap_ns, hold_ns = round(LOST_S * NS), round(hold_s * NS)
        return BoxesOverTime.of(tracks, times_ns, self.boxes[chosen], max_gap_ns=max_gap_ns, hold_ns=hold_ns)


def _shots_at(times_s: NDArray[np.float64], starts_s: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the index of the shot at each of (N,) times. Published times are rounded a little."""
    return np.maximum(np.searchsorted(starts_s, times_s + 1e-6, side="right") - 1, 0).astype(np.int64)


def find_faces(faces: FrameFaces, open_source: Opener, probe: Probe, cells: tuple[int, int]) -> BoxesOverTime:
    """Return the faces that a detector finds in whole frames of the cells [first, end)."""
    detector = faces.load(probe)
    times: list[int] = []
    boxes: list[NDArray[np.float64]] = []
    for time_ns, found in detected(detector, open_source, probe, cells):
        times += [time_ns] * len(found)
        boxes.append(found)
    if not times:
        return NO_BOXES
    tracks, hold_ns = np.arange(len(times)), round(FACE_HOLD_S * NS)
    return BoxesOverTime.of(tracks, np.array(times, np.int64), np.concatenate(boxes), max_gap_ns=0, hold_ns=hold_ns)


def detected(
    detector: FaceDetector, open_source: Opener, probe: Probe, cells: tuple[int, int], fps: float = FACES_FPS
) -> Sequence[tuple[int, NDArray[np.float64]]]:
    """Return the time in ns and the (N, 4) boxes of the faces, for each frame that is searched."""
    decoder = SpanDecoder(
        open_source,
        probe,
        *cells,
        fps=fps,
        cell_seconds=float(Fraction(CELL_S)),
        thumbnail_px=16,
        threads=1,
        careful=True,
    )
    return [
        (frame.time_ns, detector([frame.picture])[0].boxes.astype(np.float64))
        for frame in decoder
        if frame.picture is not None
    ]
