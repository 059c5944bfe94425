"""Finding faces on the crops of a chunk and giving them to people."""

import numpy as np
import pyarrow as pa
import pytest

from pipeline.arrays import Faces, Picture
from pipeline.chunk import find_faces
from pipeline.media.faces import align_face
from tests.chunk.red_patches import SCENE, Person, RedPatches, chunk, faces_of, find, load, pictures_of


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
    faces = find(chunk([(0, [Person(150), Person(480, face_px=16)])]))
    assert [face["why_not"] for face in faces_of(faces)] == [None, "too small"]
    pictures = pictures_of(faces)
    assert [face for face, _ in pictures] == [0]
    assert pictures[0][1].shape == (224, 224, 3)
    assert pictures[0][1][112, 112, 0] > 120  # the middle of the face is red, and the red channel comes first
    assert pictures[0][1][112, 112, 2] < 60


@pytest.mark.parametrize(("mode", "expected"), [("off", (224, True)), ("always", (512, False))])
def test_faces_are_enlarged_bicubically_unless_a_restorer_gets_them(
    mode: str, expected: tuple[int, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    ways: list[tuple[int, bool]] = []

    def align(picture: Picture, landmarks: np.ndarray, size_px: int, *, bicubic: bool) -> Picture:
        ways.append((size_px, bicubic))
        return align_face(picture, landmarks, size_px, bicubic=bicubic)

    monkeypatch.setattr(find_faces, "align_face", align)
    find(chunk([(0, [Person(150)])]), load([f"restore.mode={mode}"]))
    assert ways == [expected]


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
        faces = find(chunk(frames))
        assert faces.schema == find_faces.ADDS
        assert faces_of(faces) == []
        assert pictures_of(faces) == []


def test_the_detector_never_gets_more_than_a_batch() -> None:
    detector = RedPatches()
    find(chunk([(0, [Person(100), Person(300), Person(500)])] * 4), load(settings=["faces.batch=5"]), detector)
    assert detector.calls == [5, 5, 2]


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
