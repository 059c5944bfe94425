"""Tests of the page on which the persons of an output are labelled: over HTTP in this process, and in Chromium."""

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from flask.testing import FlaskClient
from typer.testing import CliRunner
from werkzeug.serving import make_server

from jobs.evaluate import app as evaluate
from jobs.review import app
from jobs.reviewing.page import hosts_of
from jobs.reviewing.person_page import create_person_app
from jobs.reviewing.person_queue import PersonQueue, open_person_queue
from pipeline.cores.forgotten import Path as Track
from pipeline.corpora.labelled_persons import COLUMNS, read_persons, read_rows
from pipeline.errors import UserError
from pipeline.storage import tombstones
from pipeline.storage.output_index import OutputIndex
from tests import clips
from tests.browser import chromium, eventually, press, wait_for
from tests.filmed_outputs import Passer, publish_clips

KEY = "secret"
FIRST, SECOND = Passer(x=10, speed=0, age=34.2, gender="F"), Passer(x=100, speed=0, age=None, gender="N")


def grey_clip(path: Path) -> Path:
    """Write a clip of 1 s whose frames become brighter."""
    pictures = (np.full((96, 160, 3), 40 + 6 * number, np.uint8) for number in range(25))
    return clips.write_video(path, pictures)


@pytest.fixture
def output(tmp_path: Path) -> str:
    """Return an output of two clips: a woman of 34 and somebody without an estimate, and nobody."""
    place = str(tmp_path / "out")
    publish_clips(place, {grey_clip(tmp_path / "a.mp4"): [FIRST, SECOND], clips.make_clip(tmp_path / "b.mp4"): []})
    return place


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    return tmp_path / "labels" / "persons.csv"


def queue_of(output: str, labels: Path, *, is_blind: bool = True, again: bool = False) -> PersonQueue:
    index = OutputIndex.open(output)
    return open_person_queue(index, output, sorted(index.done()), labels, is_blind=is_blind, again=again)


def client_of(queue: PersonQueue) -> FlaskClient:
    return create_person_app(queue, KEY, hosts_of("127.0.0.1")).test_client()


@pytest.fixture
def client(output: str, labels: Path) -> FlaskClient:
    return client_of(queue_of(output, labels))


def decide(client: FlaskClient, index: int, what: str = "save", **changes: Any) -> Any:
    match = re.search(r'TOKEN = "([^"]+)"', client.get(f"/{KEY}/").get_data(as_text=True))
    assert match is not None
    moment = client.get(f"/{KEY}/item/{index}").get_json()["moments"][0]
    body = {"index": index, "what": what, **moment, "age": "30-40", "gender": "F", "face_px": "12"}
    return client.post(
        f"/{KEY}/decide", json=body | {"person": "", "note": ""} | changes, headers={"X-Token": match[1]}
    )


# --- blind ------------------------------------------------------------------------------------------------------------


def test_nothing_that_the_page_gets_says_what_was_estimated(client: FlaskClient, output: str, labels: Path) -> None:
    item = client.get(f"/{KEY}/item/0").get_json()
    assert (item["name"], item["facts"], item["age"], item["gender"]) == ("a.mp4, person 1", {}, "", "")
    assert "34" not in json.dumps(item)
    shown = client_of(queue_of(output, labels, is_blind=False)).get(f"/{KEY}/item/0").get_json()
    assert shown["facts"] == {"output says": "age: 34 (28 to 41); gender: F"}


@pytest.mark.parametrize("is_blind", [True, False])
def test_a_label_says_whether_it_was_given_blind(output: str, labels: Path, is_blind: bool) -> None:
    decide(client_of(queue_of(output, labels, is_blind=is_blind)), 0)
    assert [person.is_blind for person in read_persons(labels)] == [is_blind]


def test_labels_that_were_not_blind_can_be_given_again_without_being_shown(output: str, labels: Path) -> None:
    decide(client_of(queue_of(output, labels, is_blind=False)), 0, age="70-80")
    assert queue_of(output, labels).num_done == 1
    again = client_of(queue_of(output, labels, again=True))
    item = again.get(f"/{KEY}/item").get_json()
    assert (item["index"], item["done"], item["age"], item["facts"]) == (0, 0, "", {})
    decide(again, 0, age="20-30")
    assert [(person.age, person.is_blind) for person in read_persons(labels)] == [(25, True)]


# --- labels -----------------------------------------------------------------------------------------------------------


def test_the_list_is_the_one_that_evaluate_persons_reads(client: FlaskClient, output: str, labels: Path) -> None:
    assert decide(client, 0, gender="male").get_json()["index"] == 1
    assert decide(client, 1, age="unknown", gender="unknown", face_px="").get_json()["index"] == 2
    report = labels.parent / "report.json"
    arguments = ["persons", "--result", output, "--reference", str(labels), "--json", str(report)]
    result = CliRunner().invoke(evaluate, arguments, catch_exceptions=False)
    assert "gender F, labelled M" in result.stdout
    pooled = json.loads(report.read_text())["pooled"]
    assert (pooled["found"]["count"], pooled["age_right"]["count"], pooled["age_right"]["of"]) == (2, 1, 1)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"age": ""}, "give an age or a range such as 20-35, or say that nobody can tell"),
        ({"gender": ""}, "choose a gender, or say that nobody can tell"),
        ({"age": "old"}, "age must be years"),
        ({"face_px": "wide"}, "face_px must be a number"),
        ({"face_px": "-3"}, "face_px must not be below 0"),
        ({"box": [500, 0, 10, 10]}, "the box has no area"),
        ({"time_s": 400}, "no moment at 400 s"),
        ({"box": [1, 2, 3]}, "a post has"),
        ({"box": [1, 2, 3, None]}, "a post has"),
        ({"what": "burn"}, "a post has"),
    ],
)
def test_what_cannot_be_read_is_refused_and_not_written(
    client: FlaskClient, labels: Path, changes: dict[str, Any], reason: str
) -> None:
    answer = decide(client, 0, **changes)
    assert answer.status_code == 400
    assert reason in answer.get_json()["error"]
    assert not labels.exists()


def test_a_box_that_is_no_person_stays_out_of_the_figures_and_is_not_asked_for_again(
    client: FlaskClient, output: str, labels: Path
) -> None:
    decide(client, 0)
    decide(client, 1, "drop", age="", gender="", note="a coat\non a hook")
    assert len(read_persons(labels)) == 1
    assert read_rows(labels)[1]["note"] == "a coat on a hook"
    again = client_of(queue_of(output, labels))
    assert again.get(f"/{KEY}/item").get_json()["index"] == 2
    assert again.get(f"/{KEY}/item/1").get_json()["facts"] == {"list says": "left out"}


def test_somebody_whom_the_output_misses_is_added_with_a_drawn_box(
    client: FlaskClient, output: str, labels: Path
) -> None:
    after = decide(client, 0, "add", time_s=0.5, box=[60, -5, 20, 50], age="5-9", gender="unknown").get_json()
    assert (after["index"], after["total"], after["done"]) == (0, 4, 1)
    (person,) = read_persons(labels)
    assert (person.video, person.time_s, person.box, person.age) == ("a.mp4", 0.5, (60, 0, 80, 45), 7)
    again = client_of(queue_of(output, labels))
    item = again.get(f"/{KEY}/item/2").get_json()
    assert (item["name"], item["age"]) == ("a.mp4, of the list alone", "5-9")
    boxes = again.get(f"/{KEY}/boxes/0?t=0.5").get_json()
    assert [box["name"] for box in boxes] == ["person 1", "person 2", "labelled"]


def test_rows_with_one_name_are_one_person_of_the_list(client: FlaskClient, output: str, labels: Path) -> None:
    decide(client, 0, time_s=0.2, person=" Ann ")
    decide(client, 1, time_s=0.6, person="Ann", age="unknown", gender="unknown")
    (person,) = read_persons(labels)
    assert [box.time_s for box in person.boxes] == [0.2, 0.6]
    assert client_of(queue_of(output, labels)).get(f"/{KEY}/item/1").get_json()["person"] == "Ann"


def test_a_video_in_which_nobody_was_found_is_shown_too(client: FlaskClient, output: str, labels: Path) -> None:
    item = client.get(f"/{KEY}/item/2").get_json()
    assert (item["name"], item["moments"]) == ("b.mp4, nobody found", [{"time_s": 0.0, "box": [0, 0, 160, 96]}])
    decide(client, 2, "drop")
    assert queue_of(output, labels).num_done == 1


def test_a_video_with_damaged_tables_is_left_out(output: str, labels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = OutputIndex.open(output)
    video_id = next(name for name in index.done() if index.file_names(name) == ["a.mp4"])
    Path(output, f"detections/{video_id}.parquet").write_bytes(b"damaged")
    assert [item.video for item in queue_of(output, labels).items] == ["b.mp4"]
    assert "left out: a.mp4: " in capsys.readouterr().out


def test_another_moment_takes_the_place_of_the_first(client: FlaskClient, labels: Path) -> None:
    moments = client.get(f"/{KEY}/item/0").get_json()["moments"]
    assert len(moments) > 1
    decide(client, 0)
    decide(client, 0, **moments[1])
    assert [person.time_s for person in read_persons(labels)] == [moments[1]["time_s"]]


def test_rows_of_other_videos_and_columns_of_others_stay(output: str, labels: Path) -> None:
    labels.parent.mkdir()
    labels.write_text(f"{','.join(COLUMNS)},rater\nfilm.mp4,1,0,0,5,5,unknown,F,,ann\na,0.04,10,40,24,40,20-25,F,9\n")
    client = client_of(queue_of(output, labels))
    assert client.get(f"/{KEY}/item").get_json()["done"] == 1
    decide(client, 1)
    rows = read_rows(labels)
    assert [(row["video"], row["rater"]) for row in rows] == [("film.mp4", "ann"), ("a", ""), ("a.mp4", "")]


def test_a_list_that_cannot_be_written_is_reported(client: FlaskClient, labels: Path) -> None:
    labels.parent.write_text("a file")
    answer = decide(client, 0)
    assert answer.status_code == 500
    assert "could not be written" in answer.get_json()["error"]


# --- pictures ---------------------------------------------------------------------------------------------------------


def picture_of(client: FlaskClient, path: str) -> Any:
    answer = client.get(f"/{KEY}/{path}")
    assert answer.status_code == 200, answer.get_data(as_text=True)
    return cv2.imdecode(np.frombuffer(answer.data, np.uint8), cv2.IMREAD_COLOR)


def test_frames_show_their_moment(client: FlaskClient) -> None:
    for time_s, number in ((0.0, 0), (0.41, 10), (0.96, 24), (99, 24)):
        assert abs(float(picture_of(client, f"frame/0?t={time_s}").mean()) - (40 + 6 * number)) < 3, time_s
    assert picture_of(client, "frame/0?t=0").shape == (96, 160, 3)
    assert picture_of(client, "moment/0/0").shape == (48, 30, 3)  # the box of 24x40 px with a tenth on each side


def test_forgotten_persons_are_covered(output: str, labels: Path) -> None:
    index = OutputIndex.open(output)
    video_id = next(name for name in index.done() if index.file_names(name) == ["a.mp4"])
    track = Track(np.array([1, 25]), np.array([0.0, 0.96]), np.array([[60.0, 10, 90, 80]] * 2))
    tombstones.raise_tombstone(index.store, tombstones.Removal(video_id=video_id, forgotten=((track,),)))
    shown = picture_of(client_of(queue_of(output, labels)), "frame/0?t=0.9").astype(int)
    bare = shown[90, 150]
    assert abs(shown[16, 75] - bare).max() > 20
    assert abs(shown[45, 22] - bare).max() < 5


def test_a_source_that_is_gone_is_told_in_place_of_the_frame(client: FlaskClient, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").unlink()
    answer = client.get(f"/{KEY}/frame/0?t=0")
    assert answer.status_code == 500
    assert answer.get_json() == {"error": "it is not there any more"}


def test_only_persons_and_their_moments_have_pictures(client: FlaskClient) -> None:
    for path in ("frame/9?t=0", "frame/0", "frame/0?t=-1", "frame/0?t=nan", "moment/0/9", "item/9", "boxes/0"):
        assert client.get(f"/{KEY}/{path}").status_code == 404, path
    assert client.get("/other/item").status_code == 404


# --- as a command -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give --data to correct labels of pictures, or --result"),
        (["--data", "d", "--result", "r"], "one of them"),
        (["--data", "d", "--estimates"], "--estimates goes with --result"),
        (["--data", "d", "--video", "a.mp4"], "--video goes with --result"),
        (["--result", "r", "--copies"], "--copies goes with --data"),
    ],
)
def test_options_of_the_other_review_are_refused(tmp_path: Path, options: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        CliRunner().invoke(app, [*options, "--output", str(tmp_path / "l.csv")], catch_exceptions=False)


@pytest.fixture
def url(output: str, labels: Path) -> Iterator[str]:
    """Serve the page in a thread and yield its address."""
    server = make_server("127.0.0.1", 0, create_person_app(queue_of(output, labels), KEY, None), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.port}/{KEY}/"
    server.shutdown()
    thread.join()


def test_persons_are_labelled_with_the_keyboard_and_missed_ones_drawn(url: str, labels: Path) -> None:
    with chromium() as window:
        from selenium import webdriver
        from selenium.webdriver.common.by import By
        from selenium.webdriver.common.keys import Keys

        window.get(url)

        wait_for(window, "a.mp4, person 1")
        frame = window.find_element(By.ID, "picture")
        eventually(window, lambda: frame.get_property("naturalWidth") == 160)
        eventually(window, lambda: len(window.find_elements(By.CSS_SELECTOR, "#boxes rect")) == 3)
        press(window, "3", "0", "-", "4", "0", Keys.ENTER)
        wait_for(window, "choose a gender")
        press(window, "f", Keys.ENTER)
        wait_for(window, "1 of 3 labelled")
        press(window, "u", "c", Keys.ENTER)
        wait_for(window, "2 of 3 labelled")
        wait_for(window, "nobody found")
        press(window, "a", Keys.ENTER)
        wait_for(window, "Draw a box")
        eventually(window, lambda: frame.get_property("complete") and frame.get_property("naturalWidth") == 160)
        width, height = frame.size["width"], frame.size["height"]
        drag = webdriver.ActionChains(window).move_to_element_with_offset(frame, -width // 4, -height // 4)
        drag.click_and_hold().move_by_offset(width // 2, height // 2).release().perform()
        press(window, "7", "m", Keys.ENTER)
        wait_for(window, "3 of 4 labelled")
        press(window, "d")
        wait_for(window, "All persons are labelled.")
        assert [entry for entry in window.get_log("browser") if not re.search("favicon|400", entry["message"])] == []
    first, second, added = read_persons(labels)
    assert (first.age_low, first.age_high, first.gender) == (30, 40, "F")
    assert (np.isnan(second.age), second.gender) == (True, None)
    assert (added.video, added.age, added.gender) == ("b.mp4", 7, "M")
    assert np.allclose(added.box, (40, 24, 120, 72), atol=2)
