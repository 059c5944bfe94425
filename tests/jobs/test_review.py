"""Tests of the review page: over HTTP in this process, with a real server, and in headless Chromium if there is one."""

import json
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from flask.testing import FlaskClient
from typer.testing import CliRunner

from jobs.review import app
from jobs.reviewing.page import create_app, hosts_of
from jobs.reviewing.queue import Queue, open_queue
from pipeline.corpora import corrections
from pipeline.corpora.corrections import Correction
from pipeline.corpora.loading import load_faces
from pipeline.errors import UserError
from tests.browser import chromium, eventually, press, wait_for
from tests.patience import PATIENCE_S

KEY = "secret"
NAMES = ["15_0_0_20170101.jpg", "30_1_0_20170101.jpg", "40_0_0_20170101.jpg", "8_1_0_20170101.jpg"]


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """Write four pictures with ages 15, 30, 40 and 8, and an estimator's predictions for them."""
    folder = tmp_path / "faces"
    folder.mkdir()
    random = np.random.default_rng(0)
    for name in NAMES:
        cv2.imwrite(str(folder / name), cv2.resize(random.integers(0, 255, (9, 9, 3), np.uint8), (48, 48)))
    pd.DataFrame(
        {
            "path": [str(folder / name) for name in NAMES],
            "predicted_age": [15, 55, 41, 9],
            "age_low": [11, 50, 33, 5],
            "age_high": [19, 60, 49, 13],
            "female_prob": [0.3, 0.9, 0.6, 0.99],
        }
    ).to_csv(tmp_path / "predictions.csv", index=False)
    return folder


def queue_of(faces: Path) -> Queue:
    return open_queue(str(faces), faces.parent / "c.csv", faces.parent / "predictions.csv")


@pytest.fixture
def queue(faces: Path) -> Queue:
    return queue_of(faces)


@pytest.fixture
def client(queue: Queue) -> FlaskClient:
    return create_app(queue, KEY, hosts_of("127.0.0.1")).test_client()


def token_of(client: FlaskClient) -> str:
    match = re.search(r'TOKEN = "([^"]+)"', client.get(f"/{KEY}/").get_data(as_text=True))
    assert match is not None
    return match[1]


def decide(client: FlaskClient, index: int, what: str = "save", **changes: str) -> Any:
    body = {"index": index, "what": what, "age": "15", "gender": "M", "note": ""} | changes
    return client.post(f"/{KEY}/decide", json=body, headers={"X-Token": token_of(client)})


# --- order ------------------------------------------------------------------------------------------------------------


def test_the_young_come_first_then_the_least_certain(queue: Queue) -> None:
    assert [item.age for item in queue.items] == ["15", "8", "30", "40"]
    assert queue.items[0].facts == {"label": "15, M", "predicted": "15 (11 to 19), 70% male", "certainty": "70.0%"}
    assert queue.items[2].facts["certainty"] == "0.0%"


def test_without_predictions_the_order_is_by_name(faces: Path) -> None:
    queue = open_queue(str(faces), faces.parent / "c.csv")
    assert [item.name for item in queue.items] == [NAMES[0], NAMES[3], NAMES[1], NAMES[2]]


def test_copies_that_contradict_each_other_come_before_the_rest(faces: Path) -> None:
    shutil.copy(faces / NAMES[2], faces / "70_0_0_20170101.jpg")
    queue = open_queue(str(faces), faces.parent / "c.csv", copies=True)
    assert [item.age for item in queue.items] == ["15", "8", "40", "70", "30"]
    assert queue.items[2].facts["copies say"] == "70, M"


def test_labels_without_a_picture_are_left_out_but_their_corrections_stand(tmp_path: Path) -> None:
    (tmp_path / "fgnet.csv").write_text("full_path,age\n001A02.JPG,2\n002A03.JPG,3\n")
    (tmp_path / "001A02.JPG").write_bytes(b"")
    corrections.append(tmp_path / "c.csv", Correction("002A03.JPG", age="4"))
    queue = open_queue(str(tmp_path / "fgnet.csv"), tmp_path / "c.csv")
    assert [item.name for item in queue.items] == ["001A02.JPG"]
    assert queue.shown(0)["done"] == 0


# --- decisions --------------------------------------------------------------------------------------------------------


def test_every_decision_is_on_the_disk_and_the_next_picture_comes(client: FlaskClient, faces: Path) -> None:
    first = client.get(f"/{KEY}/item").get_json()
    assert (first["index"], first["total"], first["done"], first["young_left"]) == (0, 4, 0, 2)
    after = decide(client, 0, age="17", gender="M").get_json()
    assert (after["index"], after["done"], after["young_left"]) == (1, 1, 1)
    decide(client, 1, "keep", age="99", gender="M")
    decide(client, 2, "drop", note=" two people ")
    last = decide(client, 3, age="40", gender="F").get_json()
    assert (last["index"], last["done"]) == (None, 4)
    rows = [row for _, row in corrections.read(faces.parent / "c.csv")]
    assert rows == [
        Correction(NAMES[0], age="17"),
        Correction(NAMES[3]),
        Correction(NAMES[1], drop="1", note="two people"),
        Correction(NAMES[2], gender="F"),
    ]
    fixed = load_faces(faces, corrected_by=faces.parent / "c.csv")
    assert fixed[["age", "gender"]].to_numpy().tolist() == [[17, "M"], [40, "F"], [8, "F"]]


def test_the_same_command_continues_where_it_stopped(client: FlaskClient, faces: Path) -> None:
    decide(client, 0, age="17")
    decide(client, 1, "drop")
    again = create_app(queue_of(faces), KEY, None).test_client()
    item = again.get(f"/{KEY}/item").get_json()
    assert (item["index"], item["done"]) == (2, 2)
    before = again.get(f"/{KEY}/item/0").get_json()
    assert (before["age"], before["facts"]["decided"]) == ("17", "age 17")
    assert again.get(f"/{KEY}/item/1").get_json()["facts"]["decided"] == "drop"


def test_a_decision_can_be_changed(client: FlaskClient, faces: Path) -> None:
    decide(client, 0, "drop")
    decide(client, 0, "keep")
    assert len(load_faces(faces, corrected_by=faces.parent / "c.csv")) == 4


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"age": "old"}, "age must be years"), ({"gender": "x"}, "gender must be"), ({"what": "burn"}, "what must be")],
)
def test_a_value_that_cannot_be_read_is_refused_and_not_written(
    client: FlaskClient, faces: Path, changes: dict[str, str], reason: str
) -> None:
    answer = decide(client, 0, **changes)
    assert answer.status_code == 400
    assert reason in answer.get_json()["error"]
    assert not (faces.parent / "c.csv").exists()


def test_a_decision_that_cannot_be_written_is_reported(faces: Path) -> None:
    queue = queue_of(faces)
    queue.output.mkdir()
    client = create_app(queue, KEY, None).test_client()
    answer = decide(client, 0, "keep")
    assert answer.status_code == 500
    assert "could not be written" in answer.get_json()["error"]
    assert client.get(f"/{KEY}/item").get_json()["done"] == 0


def test_corrections_of_another_data_set_are_refused(faces: Path) -> None:
    corrections.append(faces.parent / "c.csv", Correction("else.jpg", age="3"))
    with pytest.raises(UserError, match=r"c\.csv, line 2: the data set has no picture else\.jpg"):
        queue_of(faces)


# --- strangers --------------------------------------------------------------------------------------------------------


def test_pictures_come_by_place_and_nothing_else_is_served(client: FlaskClient, faces: Path) -> None:
    assert client.get(f"/{KEY}/picture/0").data == (faces / NAMES[0]).read_bytes()
    for path in (
        "picture/4",
        "picture/-1",
        "picture/../c.csv",
        "picture/%2e%2e/%2e%2e/etc/passwd",
        "item/9",
        "static/x",
    ):
        assert client.get(f"/{KEY}/{path}").status_code == 404, path
    (faces / NAMES[0]).unlink()
    assert client.get(f"/{KEY}/picture/0").status_code == 404


def test_without_the_key_there_is_nothing(client: FlaskClient) -> None:
    for path in ("/", "/other/", "/other/item", "/other/picture/0", f"/{KEY}x/"):
        assert client.get(path).status_code == 404, path


def test_a_post_without_the_pages_token_is_refused(client: FlaskClient, faces: Path) -> None:
    body = {"index": 0, "what": "drop", "age": "", "gender": "", "note": ""}
    for headers in ({}, {"X-Token": "guess"}, {"X-Token": "ü"}):
        assert client.post(f"/{KEY}/decide", json=body, headers=headers).status_code == 403
    form = client.post(f"/{KEY}/decide", data=body, headers={"X-Token": token_of(client)})
    assert form.status_code in (400, 415)
    assert not (faces.parent / "c.csv").exists()


def test_a_foreign_host_name_is_refused(client: FlaskClient) -> None:
    assert client.get(f"/{KEY}/item", headers={"Host": "localhost:8765"}).status_code == 200
    assert client.get(f"/{KEY}/item", headers={"Host": "rebound.example"}).status_code in (400, 404)


def test_the_page_asks_nothing_of_other_hosts_and_says_so(client: FlaskClient) -> None:
    page = client.get(f"/{KEY}/")
    text = page.get_data(as_text=True)
    assert re.findall(r"""(?:https?:)?//[a-z]|@import|<link""", text) == []
    policy = page.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; img-src 'self'; connect-src 'self'")
    assert (page.headers["Cache-Control"], page.headers["Referrer-Policy"]) == ("no-store", "no-referrer")


def test_a_name_is_shown_as_text(faces: Path, tmp_path: Path) -> None:
    (faces / "own.csv").write_text(f'path,age,gender\n"{NAMES[0]}",3,\n')
    client = create_app(open_queue(str(faces / "own.csv"), tmp_path / "c.csv"), KEY, None).test_client()
    assert NAMES[0] not in client.get(f"/{KEY}/").get_data(
        as_text=True
    )  # names travel as JSON and are set as textContent


# --- as a command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def url(faces: Path) -> Iterator[str]:
    """Start the command and yield the address of its server."""
    options = ["--data", str(faces), "--predictions", str(faces.parent / "predictions.csv")]
    options += ["--output", str(faces.parent / "c.csv"), "--port", "0"]
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-m", "jobs.review", *options],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as server:
        assert server.stdout is not None
        lines: list[str] = []
        try:
            while not (match := re.search(r"http://127\.0\.0\.1:\d+/[\w-]+/", "".join(lines[-1:]))):
                line = server.stdout.readline()
                assert line, "".join(lines)
                lines.append(line)
            yield match[0]
            server.send_signal(signal.SIGINT)
            rest, _ = server.communicate(timeout=PATIENCE_S)
        finally:
            server.kill()
        assert "reviewed; the same command continues from here" in rest
        assert "Traceback" not in rest


def test_a_real_server_on_a_free_port(url: str, faces: Path) -> None:
    def ask(path: str, body: dict[str, Any] | None = None, **headers: str) -> bytes:
        request = urllib.request.Request(
            url + path,
            None if body is None else json.dumps(body).encode(),
            {"Content-Type": "application/json"} | headers,
        )
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return answer.read()

    match = re.search(r'TOKEN = "([^"]+)"', ask("").decode())
    assert match is not None
    assert ask("picture/0") == (faces / NAMES[0]).read_bytes()
    body = {"index": 0, "what": "save", "age": "12", "gender": "M", "note": ""}
    with pytest.raises(urllib.error.HTTPError, match="403"):
        ask("decide", body)
    assert json.loads(ask("decide", body, **{"X-Token": match[1]}))["done"] == 1
    assert (faces.parent / "c.csv").read_text().splitlines()[1] == f"{NAMES[0]},12,,,"


def test_a_port_that_is_taken_is_reported(url: str, faces: Path) -> None:
    port = url.rsplit(":", 1)[1].partition("/")[0]
    options = ["--data", str(faces), "--output", str(faces.parent / "d.csv"), "--port", port]
    with pytest.raises(UserError, match=rf"cannot serve at 127\.0\.0\.1, port {port}"):
        CliRunner().invoke(app, options, catch_exceptions=False)


def test_a_package_that_is_not_there_is_named_with_the_remedy(faces: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flask", None)
    with pytest.raises(UserError, match=r"needs the package flask; install it: pip install 'rollcall\[train\]'"):
        CliRunner().invoke(app, ["--data", str(faces), "--output", str(faces / "c.csv")], catch_exceptions=False)


def test_the_keyboard_alone_is_enough_in_a_browser(url: str, faces: Path) -> None:
    with chromium() as window:
        from selenium.webdriver.common.by import By
        from selenium.webdriver.common.keys import Keys

        window.get(url)

        wait_for(window, "0 of 4 reviewed")
        wait_for(window, "2 aged 0 to 20 left")
        picture = window.find_element(By.ID, "picture")
        eventually(window, lambda: picture.get_property("naturalWidth") == 48)
        press(window, "1", "2", Keys.ENTER)
        wait_for(window, "1 of 4 reviewed")
        press(window, "m", Keys.ENTER)
        wait_for(window, "2 of 4 reviewed")
        press(window, "d")
        wait_for(window, "3 of 4 reviewed")
        press(window, Keys.ARROW_LEFT)
        wait_for(window, NAMES[1])
        wait_for(window, "drop")
        press(window, "k")
        wait_for(window, "Kept.")
        wait_for(window, NAMES[2])
        press(window, "9", "9", "9", "9", Keys.ENTER)
        wait_for(window, "age must be years")
        press(window, Keys.ESCAPE, "k")
        wait_for(window, "All pictures are reviewed.")
        window.refresh()
        wait_for(window, "4 of 4 reviewed")
        assert [
            entry
            for entry in window.get_log("browser")
            if "favicon" not in entry["message"] and "400" not in entry["message"]
        ] == []
    rows = [row for _, row in corrections.read(faces.parent / "c.csv")]
    assert rows == [
        Correction(NAMES[0], age="12"),
        Correction(NAMES[3], gender="M"),
        Correction(NAMES[1], drop="1"),
        Correction(NAMES[1]),
        Correction(NAMES[2]),
    ]
