from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from pipeline.arrays import Detections, Faces, Picture
from pipeline.corpora.face_boxes import PARTIAL, Counts, appearing_whole, write_face_boxes
from pipeline.corpora.frames import read_named
from pipeline.corpora.people import read_people
from pipeline.errors import UserError
from pipeline.media.draw import encode_png
from pipeline.media.film import write_mp4
from pipeline.storage.sources import is_known


def refuse(error: UserError) -> None:
    raise error


PICTURE = np.full((100, 200, 3), 90, np.uint8)


def people(_: Sequence[Picture]) -> list[Detections]:
    boxes = np.array([[100, 20, 150, 100], [10, 0, 60, 90], [60, 0, 80, 50], [0, 0, 90, 90]], np.float32)
    return [Detections(boxes, np.array([0.9, 0.8, 0.7, 0.3], np.float32))]


def faces(crops: Sequence[Picture]) -> list[Faces]:
    """One in the first crop, that begins left of it; none in the others."""
    single = Faces(np.array([[-6.0, 8, 24, 28]], np.float32), np.ones(1, np.float32), np.zeros((1, 5, 2), np.float32))
    return [single, *[single[np.zeros(1, bool)]] * (len(crops) - 1)]


def test_sure_and_wide_people_become_crops_with_their_faces(tmp_path: Path) -> None:
    written = write_face_boxes(
        iter([("a", PICTURE)]), people, faces, tmp_path, min_score=0.5, min_width_px=30, margin=0.1
    )
    assert list(written) == [Counts(crops=2, faces=1)]
    with_face, without = read_people(tmp_path)
    assert with_face.picture.shape == (88, 60, 3)  # 8 px above, none below: the picture ends there
    assert with_face.boxes == pytest.approx(np.array([[0, 8, 24, 28]]), abs=0.01)
    assert len(without.boxes) == 0
    assert (tmp_path / "labels" / "a_1.txt").read_text() == ""


def write(draft: Path, names: str = "a") -> None:
    knobs = {"min_score": 0.5, "min_width_px": 30, "margin": 0.1}
    list(write_face_boxes(iter([(name, PICTURE) for name in names]), people, faces, draft, **knobs))


def listed(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_crops_appear_when_all_are_written(tmp_path: Path) -> None:
    with appearing_whole(tmp_path / "out") as draft:
        write(draft)
        with pytest.raises(UserError, match="out has no folder images"):
            read_people(tmp_path / "out")
    assert listed(tmp_path / "out") == ["images/a_0.jpg", "images/a_1.jpg", "labels/a_0.txt", "labels/a_1.txt"]
    assert len(read_people(tmp_path / "out")) == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, UserError])
def test_an_interrupted_run_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    def be_interrupted(place: Path) -> None:
        with appearing_whole(place) as draft:
            write(draft)
            raise error

    for place in (tmp_path / "new", tmp_path):
        with pytest.raises(error):
            be_interrupted(place)
    assert not list(tmp_path.iterdir())


def test_a_run_after_one_that_was_killed_begins_anew(tmp_path: Path) -> None:
    write(tmp_path / PARTIAL, "abc")
    with appearing_whole(tmp_path) as draft:
        write(draft, "d")
    assert listed(tmp_path) == ["images/d_0.jpg", "images/d_1.jpg", "labels/d_0.txt", "labels/d_1.txt"]


def test_a_run_that_was_killed_between_its_last_steps_is_completed(tmp_path: Path) -> None:
    write(tmp_path / PARTIAL)
    (tmp_path / PARTIAL / "labels").rename(tmp_path / "labels")
    with pytest.raises(UserError, match="must be empty"), appearing_whole(tmp_path):
        pass
    assert len(read_people(tmp_path)) == 2


def test_a_folder_with_anything_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="must be empty"), appearing_whole(tmp_path):
        pass
    assert listed(tmp_path) == ["notes.txt"]


def test_a_picture_of_nobody_gives_nothing(tmp_path: Path) -> None:
    def nobody(_: Sequence[Picture]) -> list[Detections]:
        return [Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))]

    written = write_face_boxes(
        iter([("a", PICTURE)]), nobody, faces, tmp_path, min_score=0.5, min_width_px=30, margin=0.1
    )
    assert list(written) == [Counts(0, 0)]
    assert not list(tmp_path.iterdir())


def test_frames_and_pictures_have_names_of_their_own(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.png").write_bytes(encode_png(PICTURE))
    with (tmp_path / "b" / "y.mp4").open("wb") as file:
        write_mp4(file, [PICTURE] * 10, fps=5, keyframe_every=5)
    paths = [tmp_path / "a", tmp_path / "b", tmp_path / "a" / "x.png"]
    pictures = list(read_named(paths, per_second=2, is_source=is_known, leave_out=refuse))
    assert [name for name, _ in pictures] == [
        "0_x.png", "1_x.png", "1_y.mp4_1", "1_y.mp4_4", "1_y.mp4_6", "1_y.mp4_9", "2_x.png",
    ]  # fmt: skip
    assert all(picture.shape == PICTURE.shape for _, picture in pictures)


def test_what_cannot_be_read_is_left_out_and_the_others_go_on(tmp_path: Path) -> None:
    for name in ("a.png", "x.mp4", "notes.txt", ".b.png"):
        (tmp_path / name).write_bytes(b"no picture")
    (tmp_path / "z.png").write_bytes(encode_png(PICTURE))
    left_out: list[UserError] = []
    pictures = read_named([tmp_path], per_second=1, is_source=is_known, leave_out=left_out.append)
    assert [name for name, _ in pictures] == ["0_z.png"]
    a, x = map(str, left_out)
    assert "a.png cannot be decoded" in a
    assert "x.mp4 cannot be read as a video" in x


def test_sources_that_do_not_exist_or_hold_nothing_are_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "z.png").write_bytes(encode_png(PICTURE))
    with pytest.raises(UserError, match="there is no file or folder"):
        read_named([tmp_path, tmp_path / "none"], per_second=1, is_source=is_known, leave_out=refuse)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"there is no picture or video in \S+/empty; name"):
        read_named([tmp_path / "empty"], per_second=1, is_source=is_known, leave_out=refuse)


def test_a_face_outside_of_its_crop_is_no_label(tmp_path: Path) -> None:
    def outside(crops: Sequence[Picture]) -> list[Faces]:
        face = np.array([[-20.0, 8, -5, 28]], np.float32)
        return [Faces(face, np.ones(1, np.float32), np.zeros((1, 5, 2), np.float32)) for _ in crops]

    written = write_face_boxes(
        iter([("a", PICTURE)]), people, outside, tmp_path, min_score=0.5, min_width_px=30, margin=0.1
    )
    assert list(written) == [Counts(crops=2, faces=0)]
    assert (tmp_path / "labels" / "a_0.txt").read_text() == ""
