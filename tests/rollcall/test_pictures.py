"""Pictures of persons are given where biometrics are kept and pictures were exported, and refused clearly elsewhere."""

import os
from pathlib import Path

import pytest

import rollcall
from tests.exports.outputs import run_export
from tests.exports.test_pictures import KNOBS, write_film, write_output


@pytest.fixture
def film(tmp_path: Path) -> Path:
    write_film(tmp_path / "film.mp4")
    return tmp_path / "film.mp4"


def test_a_person_has_a_picture_and_a_face_if_one_was_judged(tmp_path: Path, film: Path) -> None:
    uri = write_output(tmp_path / "out", film)
    with pytest.raises(
        rollcall.UserError, match=r"no pictures of the persons of a/film\.mp4 yet; run `rollcall export"
    ):
        rollcall.read(uri).pictures(1)
    run_export(uri, "pictures")
    run = rollcall.read(uri)
    body, face = run.pictures(1)
    assert body.mode == "RGB"
    assert body.width > face.width
    assert len(run.pictures(2, "film.mp4")) == 1
    assert run.pictures("film.mp4:2")[0].size == run.pictures(2)[0].size
    with pytest.raises(rollcall.UserError, match="VIDEO_ID:PERSON_ID"):
        run.pictures("film.mp4")
    with pytest.raises(rollcall.UserError, match="has no person 7"):
        run.pictures(7)


def test_a_video_without_kept_biometrics_has_no_pictures(tmp_path: Path, film: Path) -> None:
    uri = write_output(tmp_path / "out", film, KNOBS | {"biometrics.keep": False})
    with pytest.raises(rollcall.UserError, match=r"processed without biometrics\.keep: true"):
        rollcall.read(uri).pictures(1)


def test_pictures_that_are_older_than_the_tables_are_refused(tmp_path: Path, film: Path) -> None:
    uri = write_output(tmp_path / "out", film)
    run_export(uri, "pictures")
    row = next(path for path in (tmp_path / "out" / "videos").glob("*.parquet") if path.stem != "schema")
    row.write_bytes(row.read_bytes())  # as a later run does
    os.utime(row)
    with pytest.raises(rollcall.UserError, match="older than its tables"):
        rollcall.read(uri).pictures(1)
