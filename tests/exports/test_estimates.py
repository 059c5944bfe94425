"""Tests of the CSV with the estimates over time."""

import csv
import shutil
from pathlib import Path

import pytest

from pipeline.storage import tables
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.store import Store
from tests.builders import Film, Walker
from tests.exports.outputs import publish, run_export, set_columns


def lines(place: str) -> list[dict[str, str]]:
    text = Path(place, "export/estimates/estimates.csv").read_text(encoding="utf-8-sig")
    return list(csv.DictReader(text.splitlines()))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return an output of a person who stays for 70 s, and who looks older in one face of the second minute."""
    folder = str(tmp_path_factory.mktemp("output"))
    publish(folder, {"long.mp4": Film(70.0, [Walker(0, 70, x=20, speed=5, look=1, age=30, age_lean=0.5)])})
    (video_id,) = OutputIndex.open(folder).done()
    num_faces = tables.read_one(Store(folder), "faces", video_id).num_rows
    set_columns(folder, "faces", video_id, [{}] * (num_faces - 1) + [{"age": 44.0, "female_prob": 0.1}])
    assert run_export(folder, "estimates").exit_code == 0
    return folder


def test_each_minute_of_a_tracklet_has_its_estimate(place: str) -> None:
    first, second = lines(place)
    assert (first["from"], first["to"], second["from"]) == ("0:00:00.0", "0:01:00.0", "0:01:00.0")
    assert (first["tracklet_id"], first["person_id"], first["age"], first["gender"]) == ("1", "1", "30.0", "F")
    assert int(first["num_faces"]) > int(second["num_faces"]) > 1


def test_intervals_lean_as_those_of_the_faces_do(place: str) -> None:
    (first, _), (person,) = lines(place), tables.read(Store(place), "persons").to_pylist()
    for row in (first, person):
        down, up = 30 - float(row["age_low"]), float(row["age_high"]) - 30
        assert up == pytest.approx(3 * down, rel=0.3)


def test_a_face_that_says_something_else_shows_in_its_minute_alone(place: str) -> None:
    first, second = lines(place)
    assert (first["lowest_age"], first["highest_age"]) == ("30.0", "30.0")
    assert (second["lowest_age"], second["highest_age"]) == ("30.0", "44.0")
    assert (second["lowest_female_prob"], second["highest_female_prob"]) == ("0.1", "0.9")


def test_restored_faces_speak_for_the_minutes_that_have_enough_of_them(tmp_path: Path) -> None:
    walker = Walker(0, 64, x=20, speed=5, look=1, age=30, restored_age=40)
    folder = publish(str(tmp_path), {"long.mp4": Film(64.0, [walker])})
    assert run_export(folder, "estimates").exit_code == 0
    first, second = lines(folder)
    assert (first["age"], first["num_faces"]) == ("40.0", "60")
    assert 30 < float(second["age"]) < 40


def test_a_person_known_by_bodies_alone_has_lines_too(tmp_path: Path) -> None:
    walkers = [
        Walker(0, 70, x=20, speed=5, look=1, body_age=61),
        Walker(0, 70, x=20, y=300, speed=5, look=2, age=30, body_age=70),
    ]
    folder = publish(str(tmp_path), {"long.mp4": Film(70.0, walkers)}, "estimate.uses=both")
    assert run_export(folder, "estimates").exit_code == 0
    by_person = {(line["person_id"], line["from"]): line for line in lines(folder)}
    of_body, of_face = by_person["1", "0:01:00.0"], by_person["2", "0:01:00.0"]
    assert (of_body["num_faces"], of_body["num_bodies"], of_body["estimated_from"]) == ("0", "10", "body")
    assert (of_body["age"], of_body["lowest_age"], of_body["highest_age"]) == ("61.0", "61.0", "61.0")
    assert (of_face["age"], of_face["highest_age"], of_face["estimated_from"]) == ("30.0", "30.0", "face")


def test_a_damaged_video_is_left_out_and_named(place: str, tmp_path: Path) -> None:
    place = shutil.copytree(place, str(tmp_path / "damaged"))
    (video_id,) = OutputIndex.open(place).done()
    Path(place, f"faces/{video_id}.parquet").write_bytes(b"damaged")
    result = run_export(place, "estimates")
    assert result.exit_code == 3
    assert f"left out: /in/{video_id}.mp4" in result.output
    assert lines(place) == []
