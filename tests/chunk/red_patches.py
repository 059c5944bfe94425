"""Rows of chunks whose people have red patches for faces, and a face detector that finds these."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import config as configuration
from pipeline.arrays import Faces, Picture
from pipeline.chunk import find_faces, restore_faces
from pipeline.chunk.find_faces import FindFaces
from pipeline.chunk.restore_faces import RestoreFaces
from pipeline.config import Config
from pipeline.media.pictures import decode_jpeg, encode_jpeg

WIDTH, HEIGHT = 640, 360
LANDMARKS = np.array([[0.3, 0.35], [0.7, 0.35], [0.5, 0.55], [0.35, 0.75], [0.65, 0.75]])
Box = tuple[float, float, float, float]


def load(settings: Sequence[str] = ()) -> Config:
    return configuration.load(settings=settings).on_device("cpu")


@dataclass(frozen=True)
class Person:
    """A person at x with a whole body, and with a face unless seen from behind.

    x: px, middle of the body.
    face_px: width of the face in px, 0 for a person seen from behind.
    top: px, top of the body.
    score: of the detection.
    is_candidate: whether the person has a crop.
    is_detected: whether the person has a detection.
    face_aside: px, offset of the face from the middle of the body.
    name: of a person who is followed through a cell. None for one who is in this frame alone.
    """

    x: float
    face_px: float = 40
    top: float = 40
    score: float = 0.9
    is_candidate: bool = True
    is_detected: bool = True
    face_aside: float = 0
    name: str | None = None

    @property
    def box(self) -> Box:
        return (self.x - 60, self.top, self.x + 60, self.top + 280)

    @property
    def face(self) -> Box:
        middle, height = self.x + self.face_aside, 1.25 * self.face_px
        top = self.top + 0.4 * height
        return (middle - self.face_px / 2, top, middle + self.face_px / 2, top + height)


def draw(people: Sequence[Person]) -> Picture:
    """Return a picture of grey noise with a chequered red patch for each face."""
    picture = np.random.default_rng(7).integers(90, 110, (HEIGHT, WIDTH, 1)).astype(np.uint8).repeat(3, axis=2)
    for person in people:
        if person.face_px:
            x0, y0, x1, y1 = (round(side) for side in person.face)
            rows_, columns = np.mgrid[0 : y1 - y0, 0 : x1 - x0] // max(2, round(person.face_px / 8))
            red = np.where((rows_ + columns) % 2, 230, 160)
            picture[y0:y1, x0:x1] = np.stack([red, 0 * red, 0 * red], axis=2)
    return picture


@dataclass
class RedPatches:
    """A face detector that takes red patches for faces.

    score: of every face.
    calls: number of crops in each call so far.
    """

    score: float = 0.95
    calls: list[int] = field(default_factory=list)

    def __call__(self, crops: Sequence[Picture]) -> list[Faces]:
        self.calls.append(len(crops))
        return [self._find(crop) for crop in crops]

    def _find(self, crop: Picture) -> Faces:
        red = (crop[..., 0].astype(int) - crop[..., 1] > 70).astype(np.uint8)
        red = cv2.morphologyEx(red, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
        count, _, stats, _ = cv2.connectedComponentsWithStats(red)
        left, top, width, height = stats[1:count, :4].astype(np.float32).T
        boxes = np.stack([left, top, left + width, top + height], axis=1)
        points = boxes[:, None, :2] + LANDMARKS * (boxes[:, None, 2:] - boxes[:, None, :2])
        return Faces(boxes, np.full(count - 1, self.score, np.float32), points.astype(np.float32))


def chunk(frames: Sequence[tuple[int, Sequence[Person]]], *, scale: float = 1.0) -> pa.Table:
    """Return one row in the form of `observe`, from frames of (cell, people). Each candidate has a crop."""
    detections, candidates = [], []
    chains: dict[tuple[int, str], int] = {}
    for frame, (cell, people) in enumerate(frames):
        picture = draw(people)
        for person in (person for person in people if person.is_detected):
            x0, y0, x1, _ = (round(side) for side in person.box)
            left, top, right, bottom = max(0, x0 - 10), max(0, y0 - 15), min(WIDTH, x1 + 10), y0 + 170
            if person.is_candidate:
                crop = cv2.resize(picture[top:bottom, left:right], None, fx=scale, fy=scale)
                jpeg = encode_jpeg(np.asarray(crop, np.uint8), 95)
                number = len(detections)
                chain = chains.setdefault((cell, person.name), number) if person.name else number
                place = {"x": left, "y": top, "scale": scale}
                candidates.append({"detection": number, "chain": chain, "crop": jpeg, **place})
            box, score = list(person.box), person.score
            detections.append({"frame": frame, "box": box, "score": score, "bodiless": False, "embedding": None})
    row = {
        "width": WIDTH,
        "height": HEIGHT,
        "thumbnail_pixels": 1,
        "frames": [{"time_ns": i, "cell": cell, "analysed": True} for i, (cell, _) in enumerate(frames)],
        "detections": detections,
        "candidates": candidates,
    }
    return pa.Table.from_pylist([row], schema=find_faces.NEEDS)


def find(table: pa.Table, config: Config | None = None, detector: RedPatches | None = None) -> pa.Table:
    return FindFaces(config or load(), detector or RedPatches())(table)


def faces_of(table: pa.Table, row: int = 0) -> list[dict[str, Any]]:
    return table["faces"][row].as_py()


def pictures_of(table: pa.Table) -> list[tuple[int, Picture]]:
    return [(item["face"], decode_jpeg(item["picture"])) for item in table["aligned"][0].as_py()]


SCENE = [
    (0, [Person(150), Person(210, face_px=36, top=50)]),
    (0, [Person(152), Person(215, face_px=36, top=50), Person(500, face_px=16)]),
    (1, [Person(155, face_px=0), Person(221, face_px=30)]),
    (2, []),
    (3, [Person(400, face_aside=-20), Person(430), Person(90, face_px=22)]),
]


@dataclass
class Blue:
    """A face restorer that paints faces blue.

    calls: shape of the faces in each call so far.
    """

    calls: list[tuple[int, ...]] = field(default_factory=list)

    def __call__(self, faces: NDArray[np.uint8]) -> NDArray[np.uint8]:
        self.calls.append(faces.shape)
        return np.broadcast_to(np.array([0, 0, 255], np.uint8), faces.shape).copy()


def restore(table: pa.Table, config: Config, restorer: Blue | None) -> pa.Table:
    faces = find(table, config)
    aligned = RestoreFaces(config, restorer)(faces.select(restore_faces.NEEDS.names))
    return faces.set_column(faces.column_names.index("aligned"), aligned.schema.field("aligned"), aligned["aligned"])


FAR_AND_NEAR = [(0, [Person(150, face_px=40), Person(480, face_px=90)]), (1, [Person(150, face_px=40)])]
"""Faces with eyes 16 and 36 px apart. By default those below 24 px are restored."""
