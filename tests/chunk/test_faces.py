"""The faces of a chunk: found, assigned to people, restored if asked for, and judged.

The fake models take red patches for faces.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from pipeline import rows
from pipeline.arrays import Estimates, Faces, Picture
from pipeline.chunk import faces as enrich
from pipeline.chunk.faces import Estimate, FindFaces, RestoreFaces
from pipeline.config import Config, load
from pipeline.media.pictures import decode_jpeg, encode_jpeg
from tests.shared import SHARED, needs_shared

WIDTH, HEIGHT = 640, 360
LANDMARKS = np.array([[0.3, 0.35], [0.7, 0.35], [0.5, 0.55], [0.35, 0.75], [0.65, 0.75]])
Box = tuple[float, float, float, float]


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
    """

    x: float
    face_px: float = 40
    top: float = 40
    score: float = 0.9
    is_candidate: bool = True
    is_detected: bool = True
    face_aside: float = 0

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
    for frame, (_, people) in enumerate(frames):
        picture = draw(people)
        for person in (person for person in people if person.is_detected):
            x0, y0, x1, _ = (round(side) for side in person.box)
            left, top, right, bottom = max(0, x0 - 10), max(0, y0 - 15), min(WIDTH, x1 + 10), y0 + 170
            if person.is_candidate:
                crop = cv2.resize(picture[top:bottom, left:right], None, fx=scale, fy=scale)
                jpeg = encode_jpeg(np.asarray(crop, np.uint8), 95)
                candidates.append({"detection": len(detections), "crop": jpeg, "x": left, "y": top, "scale": scale})
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
    return pa.Table.from_pylist([row], schema=enrich.FIND_FACES_NEEDS)


def find(table: pa.Table, config: Config | None = None, detector: RedPatches | None = None) -> pa.Table:
    return FindFaces(config or load(), detector or RedPatches())(table)


def faces_of(table: pa.Table, row: int = 0) -> list[dict[str, Any]]:
    return table["faces"][row].as_py()


def pictures_of(table: pa.Table) -> list[tuple[int, Picture]]:
    return [(item["face"], decode_jpeg(item["picture"])) for item in table["aligned"][0].as_py()]


# --- find faces -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 0.6])
def test_a_face_is_found_in_pixels_of_the_picture_and_given_to_its_person(scale: float) -> None:
    people = [Person(150), Person(480, face_px=50)]
    found = find(chunk([(0, people)], scale=scale))
    faces = faces_of(found)
    assert [face["detection"] for face in faces] == [0, 1]
    for face, person in zip(faces, people, strict=True):
        np.testing.assert_allclose(face["box"], person.face, atol=3)
        assert face["judged"]
        assert face["why_not"] is None
        assert 0 < face["quality"] < 1
        assert not face["restored"]
        assert (face["age"], face["age_std"], face["female_prob"], face["embedding"]) == (None, None, None, None)
    for _, picture in pictures_of(found):  # at the nose, and outside the ears
        red = picture[..., 0].astype(int) - picture[..., 1]
        assert red[112, 112] > 100
        assert np.abs(red[112, [10, 214]]).max() < 20


def test_one_face_on_the_crops_of_two_people_is_one_face_of_its_owner() -> None:
    behind = Person(230, face_px=0, top=50)
    faces = faces_of(find(chunk([(0, [Person(180, face_aside=10), behind])])))
    assert len(faces) == 1
    assert faces[0]["detection"] == 0


def test_a_face_of_someone_who_is_no_candidate_is_not_given_to_the_neighbour() -> None:
    faces = faces_of(find(chunk([(0, [Person(180, face_px=0), Person(220, is_candidate=False)])])))
    assert [face["detection"] for face in faces] == [1]


def test_a_face_that_no_head_explains_is_kept_without_an_owner() -> None:
    faces = faces_of(find(chunk([(0, [Person(180), Person(205, top=100, is_detected=False)])])))
    assert [(face["detection"], face["judged"], face["why_not"]) for face in faces] == [
        (0, True, None),
        (None, False, "on no one"),
    ]


def test_faces_of_one_frame_are_never_given_to_people_of_another() -> None:
    faces = faces_of(find(chunk([(0, [Person(180)]), (0, [Person(180, face_px=0)]), (1, [Person(180)])])))
    assert [(face["frame"], face["detection"]) for face in faces] == [(0, 0), (2, 2)]


def test_judged_faces_are_aligned_and_the_others_are_not() -> None:
    found = find(chunk([(0, [Person(150), Person(480, face_px=16)])]))
    assert [face["why_not"] for face in faces_of(found)] == [None, "too small"]
    pictures = pictures_of(found)
    assert [face for face, _ in pictures] == [0]
    assert pictures[0][1].shape == (224, 224, 3)
    assert pictures[0][1][112, 112, 0] > 120  # the middle of the face is red, and the red channel comes first
    assert pictures[0][1][112, 112, 2] < 60


def test_an_unsure_face_is_counted_and_not_judged() -> None:
    faces = faces_of(find(chunk([(0, [Person(150)])]), detector=RedPatches(score=0.5)))
    assert [(face["judged"], face["why_not"]) for face in faces] == [(False, "unsure")]


def test_a_face_that_reaches_over_its_crop_is_cut_off() -> None:
    config = load()

    class Beyond(RedPatches):
        def _find(self, crop: Picture) -> Faces:
            faces = super()._find(crop)
            return Faces(faces.boxes - np.array([0, 60, 0, 60], np.float32), faces.scores, faces.landmarks - [0, 60])

    faces = faces_of(find(chunk([(0, [Person(150, top=20)])]), config, Beyond()))
    assert [face["why_not"] for face in faces] in (["cut off"], ["on no one"])
    assert not faces[0]["judged"]


def test_a_chunk_without_people_or_without_faces_has_no_faces() -> None:
    for frames in ([], [(0, [])], [(0, [Person(150, face_px=0)])], [(0, [Person(150, is_candidate=False)])]):
        found = find(chunk(frames))
        assert found.schema == enrich.FIND_FACES_ADDS
        assert faces_of(found) == []
        assert pictures_of(found) == []


def test_the_detector_never_gets_more_than_a_batch() -> None:
    detector = RedPatches()
    find(chunk([(0, [Person(100), Person(300), Person(500)])] * 4), load(settings=["faces.batch=5"]), detector)
    assert detector.calls == [5, 5, 2]


SCENE = [
    (0, [Person(150), Person(210, face_px=36, top=50)]),
    (0, [Person(152), Person(215, face_px=36, top=50), Person(500, face_px=16)]),
    (1, [Person(155, face_px=0), Person(221, face_px=30)]),
    (2, []),
    (3, [Person(400, face_aside=-20), Person(430), Person(90, face_px=22)]),
]


def test_where_a_chunk_begins_changes_no_face() -> None:
    config = load(settings=["restore.mode=auto", "restore.every_cells=3", "faces.batch=4"])
    whole, parts = find(chunk(SCENE), config), [find(chunk(SCENE[:2]), config), find(chunk(SCENE[2:]), config)]
    first = sum(len(people) for _, people in SCENE[:2])
    moved = faces_of(parts[0]) + [
        face
        | {"frame": face["frame"] + 2, "detection": None if face["detection"] is None else face["detection"] + first}
        for face in faces_of(parts[1])
    ]
    assert moved == faces_of(whole)
    jpegs = [item["picture"] for part in parts for item in part["aligned"][0].as_py()]
    assert jpegs == [item["picture"] for item in whole["aligned"][0].as_py()]
    assert len(jpegs) > 3


def test_the_order_of_the_crops_changes_no_face() -> None:
    table = chunk(SCENE)
    candidates = table["candidates"][0].as_py()[::-1]
    turned = table.set_column(5, "candidates", pa.array([candidates], table.schema.field("candidates").type))
    assert find(turned).equals(find(table))


def test_rows_stay_apart_and_in_order() -> None:
    both = find(pa.concat_tables([chunk(SCENE[:1]), chunk([]), chunk(SCENE[4:])]))
    assert faces_of(both, 0) == faces_of(find(chunk(SCENE[:1])))
    assert faces_of(both, 1) == []
    assert faces_of(both, 2) == faces_of(find(chunk(SCENE[4:])))
    assert find(chunk([]).slice(0, 0)).num_rows == 0


# --- restore ----------------------------------------------------------------------------------------------------------


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
    found = find(table, config)
    together = pa.table([*table.columns, *found.columns], schema=rows.join(table.schema, found.schema))
    return RestoreFaces(config, restorer)(together.select(enrich.RESTORE_FACES_NEEDS.names))


FAR_AND_NEAR = [(0, [Person(150, face_px=40), Person(480, face_px=90)]), (1, [Person(150, face_px=40)])]
"""Faces with eyes 16 and 36 px apart. By default those below 24 px are restored."""


def is_blue(picture: Picture) -> bool:
    return bool(picture[112, 112, 2] > 200 and picture[112, 112, 0] < 60)


def test_without_restoration_nothing_changes() -> None:
    config = load()
    assert restore(chunk(FAR_AND_NEAR), config, None).equals(find(chunk(FAR_AND_NEAR), config))


def test_auto_restores_small_faces_and_keeps_what_was_seen_before_it() -> None:
    config, restorer = load(settings=["restore.mode=auto", "restore.below_sharpness=0"]), Blue()
    restored = restore(chunk(FAR_AND_NEAR), config, restorer)
    assert [face["restored"] for face in faces_of(restored)] == [True, False, True]
    pictures = pictures_of(restored)
    assert [(face, is_blue(picture)) for face, picture in pictures] == [
        (0, False),
        (0, True),
        (1, False),
        (2, False),
        (2, True),
    ]
    assert {picture.shape for _, picture in pictures} == {(224, 224, 3)}
    assert restorer.calls == [(2, 512, 512, 3)]
    assert restored.schema == enrich.RESTORE_FACES_ADDS


def test_auto_restores_soft_faces() -> None:
    config = load(settings=["restore.mode=auto", "restore.below_eye_distance_px=0", "restore.below_sharpness=1e9"])
    assert all(face["restored"] for face in faces_of(restore(chunk(FAR_AND_NEAR), config, Blue())))


def test_always_restores_every_judged_face() -> None:
    config = load(settings=["restore.mode=always"])
    table = chunk([(0, [Person(150, face_px=90), Person(480, face_px=16)])])
    restored = restore(table, config, Blue())
    assert [(face["judged"], face["restored"]) for face in faces_of(restored)] == [(True, True), (False, False)]


def test_of_every_so_many_cells_only_the_first_is_restored() -> None:
    config = load(settings=["restore.mode=always", "restore.every_cells=3"])
    table = chunk([(cell, [Person(150)]) for cell in (2, 3, 4, 5, 6)])
    assert [face["restored"] for face in faces_of(restore(table, config, Blue()))] == [False, True, False, False, True]


def test_sharpness_and_quality_are_those_before_restoration() -> None:
    config = load(settings=["restore.mode=always"])
    before, after = faces_of(find(chunk(SCENE), config)), faces_of(restore(chunk(SCENE), config, Blue()))
    assert [face | {"restored": False} for face in after] == before


def test_the_restorer_never_gets_more_than_a_batch() -> None:
    config, restorer = load(settings=["restore.mode=always", "restore.batch=2"]), Blue()
    restore(chunk([(0, [Person(100), Person(300), Person(500)])]), config, restorer)
    assert [shape[0] for shape in restorer.calls] == [2, 1]


def test_restoration_without_a_restorer_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="restorer"):
        RestoreFaces(load(settings=["restore.mode=auto"]), None)


# --- estimate ---------------------------------------------------------------------------------------------------------


@dataclass
class Painter:
    """An estimator that judges the age by the blue channel. Faces are 20.04 years old as found and 60.06 when
    restored.

    calls: shape of the faces in each call so far.
    """

    calls: list[tuple[int, ...]] = field(default_factory=list)

    def __call__(self, faces: NDArray[np.uint8]) -> Estimates:
        self.calls.append(faces.shape)
        ages = np.where(faces[:, 112, 112, 2] > 200, 60.06, 20.04)
        return Estimates(
            ages.astype(np.float32), np.full(len(ages), 7.06, np.float32), np.full(len(ages), 0.70049, np.float32)
        )


def embed_red(faces: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return embeddings of two values, how red and how blue each face is."""
    colours = faces[:, 112, 112][:, [0, 2]].astype(np.float32)
    return colours / np.linalg.norm(colours, axis=1, keepdims=True)


def judged(config: Config, table: pa.Table, *, estimator: Any = None, embedder: Any = None) -> list[dict[str, Any]]:
    table = restore(table, config, Blue() if config.restore.mode != "off" else None)
    estimated = Estimate(config, estimator, embedder)(table)
    assert estimated.schema == enrich.ESTIMATE_ADDS
    return faces_of(estimated)


def test_judged_faces_get_an_estimate_in_steps_and_the_others_none() -> None:
    faces = judged(load(), chunk([(0, [Person(150), Person(480, face_px=16)])]), estimator=Painter())
    given = [(face["age"], face["age_std"], face["female_prob"]) for face in faces]
    assert given[0] == pytest.approx((20.0, 7.1, 0.7))
    assert given[1] == (None, None, None)


def test_ages_come_from_restored_faces_and_identity_never_does() -> None:
    config = load(settings=["restore.mode=auto", "restore.below_sharpness=0"])
    faces = judged(config, chunk(FAR_AND_NEAR), estimator=Painter(), embedder=embed_red)
    assert [face["restored"] for face in faces] == [True, False, True]
    assert [face["age"] for face in faces] == pytest.approx([60.1, 20.0, 60.1], abs=0.01)
    for face in faces:
        red, blue = np.frombuffer(face["embedding"]["codes"], np.int8)
        assert red == 127
        assert blue < 40
        assert face["embedding"]["scale"] > 0


def test_without_an_estimator_or_an_embedder_their_columns_stay_empty() -> None:
    table = chunk([(0, [Person(150)])])
    assert judged(load(), table, embedder=embed_red)[0]["age"] is None
    assert judged(load(), table, estimator=Painter())[0]["embedding"] is None


def test_an_estimator_that_says_nothing_of_a_face_leaves_it_empty() -> None:
    def silent(faces: NDArray[np.uint8]) -> Estimates:
        nothing = np.full(len(faces), np.nan, np.float32)
        return Estimates(nothing, nothing, nothing)

    face = judged(load(), chunk([(0, [Person(150)])]), estimator=silent)[0]
    assert (face["age"], face["age_std"], face["female_prob"]) == (None, None, None)


def test_the_estimator_never_gets_more_than_a_batch() -> None:
    estimator = Painter()
    judged(load(settings=["estimate.batch=4"]), chunk([(0, [Person(100), Person(300)])] * 3), estimator=estimator)
    assert [shape[0] for shape in estimator.calls] == [4, 2]


def test_a_chunk_without_faces_is_estimated_without_a_model() -> None:
    assert judged(load(), chunk([(0, [])]), estimator=Painter(), embedder=embed_red) == []


# --- for real ---------------------------------------------------------------------------------------------------------


@needs_shared
def test_a_woman_and_a_man_in_a_talkshow_are_told_apart() -> None:
    import av

    from pipeline.models.estimator import load_estimator
    from pipeline.models.face_detector import load_face_detector

    with av.open(str(SHARED / "clips" / "talkshow.mp4")) as container:
        picture = np.asarray(next(container.decode(video=0)).to_ndarray(format="rgb24"), np.uint8)
    config = load(settings=["faces.min_score=0.5"])
    detector = load_face_detector(
        "retinaface-mobile0.25",
        SHARED / "weights" / "mobilenet0.25_Final.pth",
        input_px=config.faces.input_px,
        batch=config.faces.batch,
        min_score=config.faces.min_score,
        device="cpu",
        half=False,
    )
    parts = {
        "age": SHARED / "weights" / "ssrnet_imdb.h5",
        "gender": SHARED / "weights" / "ssrnet_imdb_gender_models.h5",
    }
    estimator = load_estimator("ssrnet", parts, batch=config.estimate.batch, device="cpu", half=False)

    woman, man = [126, 216, 741, 1072], [1144, 110, 1649, 803]
    candidates = []
    for index, (left, top, right, _) in enumerate([woman, man]):
        crop = picture[top - 40 : top + 500, left - 40 : right + 40]
        jpeg = encode_jpeg(np.ascontiguousarray(crop), 92)
        candidates.append({"detection": index, "crop": jpeg, "x": left - 40, "y": top - 40, "scale": 1})
    row = {
        "width": picture.shape[1],
        "height": picture.shape[0],
        "thumbnail_pixels": 1,
        "frames": [{"time_ns": 0, "cell": 0, "analysed": True}],
        "detections": [{"frame": 0, "box": box, "score": 0.9, "bodiless": False} for box in (woman, man)],
        "candidates": candidates,
    }
    found = FindFaces(config, detector)(pa.Table.from_pylist([row], schema=enrich.FIND_FACES_NEEDS))
    faces = faces_of(Estimate(config, estimator, None)(found))
    assert [face["detection"] for face in faces] == [0, 1]
    assert [face["why_not"] for face in faces] == [None, None]
    assert faces[0]["female_prob"] > 0.5 > faces[1]["female_prob"]
    assert all(15 < face["age"] < 70 for face in faces)
