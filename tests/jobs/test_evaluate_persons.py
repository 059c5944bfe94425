"""Tests of `rollcall evaluate persons` on written tables."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from jobs.evaluate import app
from pipeline.corpora.labelled_persons import COLUMNS
from pipeline.errors import UserError
from pipeline.rows import DATASETS
from pipeline.storage.output_index import SOURCES_FILE
from pipeline.storage.store import Store
from pipeline.storage.tables import write_rows
from tests.small_outputs import encode, write_output


def person(name: int, **values: Any) -> dict[str, Any]:
    return {"video_id": "v", "person_id": name, "num_faces": 1, "age": None, "gender": "N"} | values


def box(name: int, left: float) -> dict[str, Any]:
    place = {"bb_xmin": left, "bb_ymin": 0.0, "bb_width": 10.0, "bb_height": 20.0}
    return {"video_id": "v", "frame_num": 1, "time_s": 0.0, "person_id": name} | place


@pytest.fixture
def output(tmp_path: Path) -> str:
    """Return an output of one video with a woman of 30, and a person without a judged face."""
    place = str(tmp_path / "out")
    store = write_output(Store(place), ["v"])
    sources = [
        {"uri": "/in/a/film.mp4", "video_id": "v", "csv": "csv/a/film.mp4.csv", "status": "done", "current": True}
    ]
    write_rows(store, SOURCES_FILE, DATASETS["sources"], sources)
    rows = {"persons": [person(1, age=30.0, gender="F"), person(2, num_faces=0)], "detections": [box(1, 0), box(2, 50)]}
    for dataset, content in rows.items():
        store.put(f"{dataset}/v.parquet", encode(dataset, content))
    return place


def run(tmp_path: Path, output: str, *rows: str) -> tuple[Result, dict[str, Any]]:
    labels = tmp_path / "persons.csv"
    labels.write_text("\n".join([",".join(COLUMNS), *rows]) + "\n")
    report = tmp_path / "figures" / "persons.json"
    arguments = ["persons", "--result", output, "--reference", str(labels), "--json", str(report)]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    return result, json.loads(report.read_text())


def test_people_are_counted_by_their_labels(tmp_path: Path, output: str) -> None:
    rows = ("film.mp4,0,0,0,10,20,40-50,M,60", "film,0,50,0,10,20,unknown,M,0", "a/film.mp4,0,30,0,10,20,,,")
    result, report = run(tmp_path, output, *rows)
    pooled = report["pooled"]
    assert (pooled["found"]["count"], pooled["found"]["of"], pooled["judged"]["count"]) == (2, 3, 1)
    assert (pooled["gender_wrong"]["count"], pooled["gender_none"]["count"], pooled["age_wrong"]["of"]) == (1, 1, 1)
    assert [row["person_id"] for row in report["persons"]] == [1, 2, None]
    assert report["by"]["face"]["32–95 px"]["age_years_off"] == 10
    assert "film.mp4, 0 s, box at 0, 0: person 1: gender F, labelled M; age 30, labelled 40-50" in result.stdout
    assert "a/film.mp4, 0 s, box at 30, 0: not found" in result.stdout


def test_persons_of_the_output_without_a_label_are_counted(tmp_path: Path, output: str) -> None:
    result, report = run(tmp_path, output, "film.mp4,0,0,0,10,20,40-50,M,60")
    assert "1 of 2 persons of the result stand at no labelled moment" in result.stdout
    assert (report["result_persons"], report["result_persons_without_label"]) == (2, 1)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("film.mp4,3,0,0,10,20,,F,60", r"line 3: film\.mp4 ends at 0 s, before time_s 3; correct"),
        ("film.mp4,0,64,0,10,20,,F,60", r"line 3: the box lies outside of the picture of film\.mp4, 64x48 px"),
    ],
)
def test_a_moment_or_a_box_that_the_video_does_not_have_is_refused(
    tmp_path: Path, output: str, row: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        run(tmp_path, output, "film.mp4,0,0,0,10,20,40-50,M,60", row)


def test_people_of_videos_that_the_output_lacks_are_left_out(tmp_path: Path, output: str) -> None:
    result, report = run(tmp_path, output, "film.mp4,0,0,0,10,20,25-35,F,60", "other.mp4,0,0,0,10,20,,F,60")
    assert "left out: 1 video" in result.stdout
    assert "other.mp4" in result.stdout
    assert report["pooled"]["persons"] == report["pooled"]["gender_right"]["count"] == 1


def test_a_video_with_damaged_tables_is_left_out_and_named(tmp_path: Path, output: str) -> None:
    store = write_output(Store(output), ["w"])
    sources = [
        {"uri": f"/in/{name}.mp4", "video_id": video, "csv": f"csv/{name}.mp4.csv", "status": "done", "current": True}
        for name, video in (("film", "v"), ("bad", "w"))
    ]
    write_rows(store, SOURCES_FILE, DATASETS["sources"], sources)
    store.put("persons/w.parquet", b"damaged")
    rows = ("film.mp4,0,0,0,10,20,25-35,F,60", "bad.mp4,0,0,0,10,20,25-35,F,60")
    result, report = run(tmp_path, output, *rows)
    assert "left out: bad.mp4: " in result.stdout
    assert report["pooled"]["persons"] == 1
    with pytest.raises(UserError, match="no readable tables"):
        run(tmp_path, output, rows[1])


def test_an_output_without_any_of_the_videos_is_refused(tmp_path: Path, output: str) -> None:
    with pytest.raises(UserError, match="holds no video of"):
        run(tmp_path, output, "other.mp4,0,0,0,10,20,,F,60")


def test_a_name_that_two_videos_have_is_refused(tmp_path: Path, output: str) -> None:
    store = write_output(Store(output), ["w"])
    sources = [
        {"uri": f"/in/{name}/film.mp4", "video_id": video, "csv": f"csv/{name}/film.mp4.csv", "status": "done"}
        for name, video in (("a", "v"), ("b", "w"))
    ]
    write_rows(store, SOURCES_FILE, DATASETS["sources"], [row | {"current": True} for row in sources])
    with pytest.raises(UserError, match="2 videos named film"):
        run(tmp_path, output, "film.mp4,0,0,0,10,20,,F,60")
    _, report = run(tmp_path, output, "a/film.mp4,0,0,0,10,20,,F,60")
    assert report["pooled"]["found"]["count"] == 1
