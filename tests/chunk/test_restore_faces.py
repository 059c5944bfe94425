"""Restoring the faces of a chunk."""

from dataclasses import replace

import pytest

from pipeline.arrays import Picture
from pipeline.chunk.restore_faces import RestoreFaces
from tests.chunk.red_patches import FAR_AND_NEAR, SCENE, Blue, Person, chunk, faces_of, find, load, pictures_of, restore

AUTO = ("restore.mode=auto", "restore.every_cells=1")


def is_blue(picture: Picture) -> bool:
    return bool(picture[112, 112, 2] > 200 and picture[112, 112, 0] < 60)


def test_without_restoration_nothing_changes() -> None:
    config = load()
    assert restore(chunk(FAR_AND_NEAR), config, None).equals(find(chunk(FAR_AND_NEAR), config))


def test_auto_restores_small_faces_and_keeps_what_was_seen_before_it() -> None:
    config, restorer = load(settings=[*AUTO, "restore.below_sharpness=0", "restore.batch=2"]), Blue()
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


def test_auto_restores_soft_faces() -> None:
    config = load(settings=[*AUTO, "restore.below_eye_distance_px=0", "restore.below_sharpness=1e9"])
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


SOFT = Person(150, name="Ann")
SHARP = Person(150, face_px=46, name="Ann")
OTHER = Person(480, name="Bob")


def test_a_person_has_one_restored_face_of_a_cell_the_best_one() -> None:
    frames = [(0, [SOFT, OTHER]), (0, [SHARP, OTHER]), (0, [SOFT]), (1, [SOFT]), (2, [SOFT, OTHER])]
    config = load(settings=["restore.mode=auto", "restore.every_cells=2", "restore.below_sharpness=0"])
    assert [face["restored"] for face in faces_of(restore(chunk(frames), config, Blue()))] == [
        *(False, True),  # Bob's faces are alike, so the first counts
        *(True, False),
        False,
        False,
        *(True, True),
    ]


def test_a_person_whose_best_face_of_a_cell_is_large_and_sharp_needs_no_restored_face_there() -> None:
    large = replace(SOFT, face_px=90)
    config = load(settings=["restore.mode=auto", "restore.every_cells=2", "restore.below_sharpness=0"])
    faces = faces_of(restore(chunk([(0, [SOFT]), (0, [large])]), config, Blue()))
    assert [face["judged"] for face in faces] == [True, True]
    assert not any(face["restored"] for face in faces)


def test_a_person_whose_chain_breaks_keeps_one_restored_face_of_a_cell() -> None:
    config = load(settings=["restore.mode=always", "restore.every_cells=2"])
    still, gone = replace(SOFT, name="Ann, again", x=155), replace(SOFT, name="Cyd", x=300)
    faces = faces_of(restore(chunk([(0, [SHARP]), (0, [still]), (0, [gone]), (2, [still])]), config, Blue()))
    assert [face["restored"] for face in faces] == [True, False, True, True]


def test_without_thinning_all_faces_of_a_cell_are_restored() -> None:
    config = load(settings=[*AUTO, "restore.below_sharpness=0", "restore.batch=2"])
    assert all(face["restored"] for face in faces_of(restore(chunk([(0, [SOFT]), (0, [SHARP])]), config, Blue())))


def test_the_border_of_a_chunk_changes_no_choice() -> None:
    frames = [(0, [SOFT, OTHER]), (0, [SHARP]), (1, [SOFT]), (2, [SOFT, OTHER]), (2, [SHARP])]
    config = load(settings=["restore.mode=always", "restore.every_cells=2"])
    whole, first, second = (faces_of(find(chunk(part), config)) for part in (frames, frames[:2], frames[2:]))
    assert [face["restored"] for face in whole] == [face["restored"] for face in [*first, *second]]
    assert [face["restored"] for face in whole].count(True) == 4


def test_a_face_on_the_crop_of_another_and_a_face_on_no_one_are_no_trouble() -> None:
    config = load(settings=["restore.mode=always", "restore.every_cells=2"])
    near = Person(230, is_candidate=False, face_aside=-20)
    for people in ([Person(150), near], [Person(150), replace(near, is_detected=False)]):
        restore(chunk([(0, people)]), config, Blue())


def test_sharpness_and_quality_are_those_before_restoration() -> None:
    config, off = load(settings=["restore.mode=always"]), load()
    before, after = faces_of(find(chunk(SCENE), off)), faces_of(restore(chunk(SCENE), config, Blue()))
    assert [face | {"restored": False} for face in after] == before


def test_the_restorer_never_gets_more_than_a_batch() -> None:
    config, restorer = load(settings=["restore.mode=always", "restore.batch=2"]), Blue()
    restore(chunk([(0, [Person(100), Person(300), Person(500)])]), config, restorer)
    assert [shape[0] for shape in restorer.calls] == [2, 1]


def test_restoration_without_a_restorer_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="restorer"):
        RestoreFaces(load(settings=["restore.mode=auto"]), None)
