"""The output of `compare` names what differs between two outputs, and what does not."""

import io
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from jobs.compare import DIFFERENT, compare
from pipeline.storage import records
from pipeline.storage.store import Store
from tests.builders import Film, Walker, publish
from tests.commands import rollcall_here
from tests.small_outputs import encode, video_row, write_output

FILM = Film(4.0, [Walker(0, 4, x=20, look=1, age=30.0), Walker(0, 3, x=400, look=2)], cuts=[2.0])


def compared(a: Path, b: Path, tmp_path: Path) -> tuple[int, dict[str, Any]]:
    """Return the exit status of `compare` and its JSON."""
    file = tmp_path / "differences" / "all.json"
    try:
        compare(str(a), str(b), file)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else -1
    return status, json.loads(file.read_text())


def write_people(store: Store, video_id: str, people: list[dict[str, Any]], **values: Any) -> None:
    """Write a video. people: for each person id, x (px), frames, and columns of `persons`."""
    boxes = [
        {"video_id": video_id, "person_id": person["person_id"], "frame_num": frame, "tracklet_id": 1}
        | {"bb_xmin": float(person["x"]), "bb_ymin": 0.0, "bb_height": 20.0, "bb_width": 10.0}
        for person in people
        for frame in person["frames"]
    ]
    persons = [
        {"video_id": video_id} | {k: v for k, v in person.items() if k not in ("x", "frames")} for person in people
    ]
    store.put(f"detections/{video_id}.parquet", encode("detections", boxes))
    store.put(f"persons/{video_id}.parquet", encode("persons", persons))
    records.write_video(store, video_row(video_id, num_persons=len(people), **values))


def person(person_id: int, x: float, frames: range, age: float | None = None, gender: str = "N") -> dict[str, Any]:
    return {"person_id": person_id, "x": x, "frames": frames, "age": age, "gender": gender}


def test_equal_outputs_are_byte_for_byte_equal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    for place, borders in ((a, []), (b, [1, 3])):
        publish(FILM, borders, str(place))
    status, facts = compared(a, b, tmp_path)
    assert status == 0
    assert (facts["equal"], facts["byte_for_byte_equal"], facts["configurations"]) == (True, True, [])
    assert "the tables of 1 video in both are byte for byte equal" in capsys.readouterr().out


def test_a_line_that_one_of_them_has_is_a_difference_in_crossings_alone(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    publish(FILM, [], str(a))
    publish(FILM, [], str(b), "crossings.lines.door=[[0.1, 0], [0.1, 1]]")
    status, facts = compared(a, b, tmp_path)
    assert status == DIFFERENT
    assert facts["tables"] == {"crossings": {"videos": 1, "rows": [0, 1]}}


def test_equal_rows_in_other_bytes_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = (write_output(Store(str(tmp_path / name)), ["v", "w"]) for name in "ab")
    file = io.BytesIO()
    pq.write_table(pq.read_table(io.BytesIO(a.read("persons/v.parquet"))), file, compression="gzip")
    b.put("persons/v.parquet", file.getvalue())
    status, facts = compared(tmp_path / "a", tmp_path / "b", tmp_path)
    assert (status, facts["equal"], facts["byte_for_byte_equal"]) == (0, True, False)
    assert "2 videos in both: 1 with all tables byte for byte equal, 1 with equal rows" in capsys.readouterr().out


def test_persons_ids_estimates_and_counts_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = (write_output(Store(str(tmp_path / name)), ["v", "w"]) for name in "ab")
    write_people(
        a,
        "v",
        [
            person(1, 0, range(10), age=30.0, gender="F"),
            person(2, 100, range(10), age=40.0, gender="M"),
            person(3, 200, range(4), age=20.0),
            person(4, 200, range(4, 10)),
            person(5, 300, range(10), gender="F"),
        ],
    )
    write_people(
        b,
        "v",
        [
            person(2, 1, range(10), age=33.0, gender="M"),
            person(1, 100, range(6), gender="M"),
            person(6, 100, range(6, 10)),
            person(4, 200, range(10)),
            person(7, 600, range(3)),
        ],
        warning="odd",
    )
    status, facts = compared(tmp_path / "a", tmp_path / "b", tmp_path)
    assert status == DIFFERENT
    (video,) = facts["differences"]
    assert (video["gone"], video["new"], video["merged"], video["split"]) == ([5], [7], [[3, 4]], [[2, 6]])
    assert video["changed_columns"] == ["warning"]
    assert video["rows"] == {"detections": [40, 33], "persons": [5, 5]}
    assert [(each["a"], each["b"]) for each in video["changed_persons"]] == [(1, 2), (2, 1)]
    totals = facts["totals"]
    assert (totals["matched"], totals["same_id"], totals["moved_boxes"]) == (3, 1, 8)
    assert (totals["age_in_both"], totals["age_change_sum"], totals["age_only_in_a"]) == (1, 3.0, 1)
    assert (totals["gender_differs"], totals["gender_same"]) == (1, 1)
    said = capsys.readouterr().out
    assert "2 videos in both: 1 with all tables byte for byte equal, 1 with differences" in said
    assert "5 -> 5" in said
    assert "ages of matched persons: 1 in both, 3.00 years apart on average (+3.00 from A to B)" in said
    assert "detections differs in 1 video: 40 rows in A, 33 in B" in said


def test_other_configurations_are_named_with_their_knobs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish(FILM, [], str(tmp_path / "a"))
    publish(FILM, [], str(tmp_path / "b"), "person.min_faces=3")
    status, facts = compared(tmp_path / "a", tmp_path / "b", tmp_path)
    assert [each["changes"] for each in facts["configurations"]] == [["person.min_faces 2 -> 3"]]
    assert "person.min_faces 2 -> 3" in capsys.readouterr().out
    assert status == 0  # four faces are enough for both


def test_videos_of_one_output_alone_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_output(Store(str(tmp_path / "a")), ["u", "v", "w"])
    b = write_output(Store(str(tmp_path / "b")), ["v", "x"])
    records.write_video(b, records.quarantined_row("w", "/in/w.mp4", "c", "observe", "broken"))
    status, facts = compared(tmp_path / "a", tmp_path / "b", tmp_path)
    assert (status, facts["videos"]["only_in_a"], facts["videos"]["only_in_b"]) == (DIFFERENT, ["u", "w"], ["x"])
    said = capsys.readouterr().out
    assert "2 videos only in A (1 quarantined in the other): u.mp4, w.mp4" in said
    assert "1 video only in B: x.mp4" in said


def test_a_damaged_table_is_named_and_stops_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "ab":
        write_output(Store(str(tmp_path / name)), ["v", "w"])
    (tmp_path / "b/persons/v.parquet").write_bytes(b"PAR1 no")
    status, facts = compared(tmp_path / "a", tmp_path / "b", tmp_path)
    assert status == DIFFERENT
    assert [(each["video_id"], "damage" in each) for each in facts["differences"]] == [("v", True)]
    assert "cannot be compared: /in/v.mp4" in capsys.readouterr().out


def test_the_commands_end_with_their_status(tmp_path: Path) -> None:
    for name, ids in (("a", ["v"]), ("b", ["v", "w"])):
        write_output(Store(str(tmp_path / name)), ids)
    assert rollcall_here("compare", tmp_path / "a", tmp_path / "a").returncode == 0
    assert rollcall_here("compare", tmp_path / "a", tmp_path / "b").returncode == DIFFERENT
    nowhere = rollcall_here("compare", tmp_path / "a", tmp_path / "c")
    assert (nowhere.returncode, "Traceback" in nowhere.stderr) == (2, False)
