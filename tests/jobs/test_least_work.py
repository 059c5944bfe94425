"""`process` takes the cheapest way to other tables, `plan` predicts it, and the bytes are those of a fresh run.

The tests need neither Ray nor models: see test_process_leaves_no_trace.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from jobs import plan as planning
from pipeline.planning import catalog
from pipeline.storage import tables
from pipeline.storage.store import Store
from tests.builders import Film, Walker
from tests.fake_films import in_haste
from tests.interruptions import FragileStore, Killed
from tests.jobs.test_process_leaves_no_trace import Attempt, Case, Scene, Video, lasting, probe_all, process

FILM = Film(
    6.0,
    [
        Walker(0, 2, x=20, look=1, age=30.0),
        Walker(2, 4, x=200, look=1.1, age=34.0),
        Walker(4, 6, x=90, look=2),
        Walker(4, 6, x=400, look=1.4, hidden=((4.8, 5.1),)),
    ],
    cuts=[2, 4],
)
OTHER = Film(4.0, [Walker(0, 4, x=50, look=3, age=50.0), Walker(1, 3, x=300, look=4, hidden=((1.8, 2.4),))])
CASE = Case((Video(FILM, (0, 2, 4), True, None), Video(OTHER, (0,), True, None)), (), None, ())
KEEP = "biometrics.keep=true"
IN_CHUNKS = Attempt(settings=("chunk.max_seconds=2",))

SCORES = "link again from stored scores"
EMBEDDINGS = "link again from kept embeddings"
CHUNKS = "track and link again from kept boxes and embeddings"
FACES = "estimate again from kept faces"
VIDEO = "decode and detect again"


@pytest.fixture(scope="module", autouse=True)
def _in_haste() -> Iterator[None]:
    with in_haste():
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "in"
    place.mkdir()
    for number in range(len(CASE.videos)):
        (place / f"{number}.mp4").write_text(f"film {number}")
    return place


Made = Callable[..., Scene]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def made(folder: Path, tmp_path: Path) -> Made:
    """Return a function that runs `process` with settings, and returns the record of the fake stages."""

    def make(*settings: str, at: str = "out", attempt: Attempt = IN_CHUNKS, case: Case = CASE, **options: Any) -> Scene:
        store = options.pop("store", None) or Store(str(tmp_path / at))
        return process(folder, case, settings, attempt, store, **options)

    return make


def foretold(folder: Path, output: Path, settings: Sequence[str], capsys: Capture) -> str:
    """Return the output of `plan`. It must not write anything."""
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        videos = {str(folder / f"{number}.mp4"): video for number, video in enumerate(CASE.videos)}
        patch.setattr(catalog, "probe_all", partial(probe_all, Scene(videos, Attempt())))
        patch.setattr(planning, "check_tracking", lambda _: None)
        patch.setattr(planning.console.console, "width", 300)
        planning.plan([str(folder)], str(output), settings=["compute.device=cpu", *settings], profile="")
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == before
    return capsys.readouterr().out


def differing(first: dict[str, bytes], second: dict[str, bytes]) -> list[str]:
    """Return the names of files whose bytes differ, without recipes and schemas.

    Recipes and schemas of datasets depend on every configuration that the output ever had.
    """
    names = {name for name in first.keys() | second.keys() if first.get(name) != second.get(name)}
    return sorted(name for name in names if not name.startswith("recipes/") and not name.endswith(tables.SCHEMA_FILE))


# --- the way, and the same bytes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "work", "steps"),
    [
        ([], ["identity.wrong_joins=0.3"], SCORES, [f"identity.wrong_joins 0.05 -> 0.3: {SCORES}"]),
        ([], ["person.min_faces=3"], SCORES, [f"person.min_faces 2 -> 3: {SCORES}"]),
        ([], ["identity.max_gap_s=2"], SCORES, [f"identity.max_gap_s 5 -> 2: {SCORES}"]),
        ([], ["identity.max_gap_s=8"], VIDEO, [f"identity.max_gap_s 5 -> 8: {VIDEO} (its embeddings are not kept"]),
        ([KEEP], [KEEP, "identity.max_gap_s=8"], EMBEDDINGS, [f"identity.max_gap_s 5 -> 8: {EMBEDDINGS}"]),
        ([KEEP], [KEEP, "track.memory_s=1"], CHUNKS, [f"track.memory_s 2 -> 1: {CHUNKS}"]),
        ([], ["track.memory_s=1"], VIDEO, [f"track.memory_s 2 -> 1: {VIDEO} (its boxes and embeddings are not kept"]),
        ([KEEP], [KEEP, "estimate.batch=8"], FACES, [f"estimate.batch 16 -> 8: {FACES}"]),
        ([], ["estimate.batch=8"], VIDEO, [f"estimate.batch 16 -> 8: {VIDEO} (its faces are not kept"]),
        ([KEEP], [KEEP, "observe.detector.batch=4"], VIDEO, [f"observe.detector.batch 8 -> 4: {VIDEO}"]),
        ([], [KEEP], VIDEO, [f"biometrics.keep false -> true: {VIDEO}"]),
        ([KEEP], [], SCORES, [f"biometrics.keep true -> false: {SCORES}"]),
        ([KEEP], ["track.memory_s=1"], CHUNKS, [f"biometrics.keep true -> false: {SCORES}"]),
        ([KEEP], ["estimate.batch=8"], FACES, [f"biometrics.keep true -> false: {SCORES}"]),
        (
            [KEEP],
            [KEEP, "estimate.batch=8", "track.memory_s=1", "person.min_faces=3"],
            FACES,
            [f"estimate.batch 16 -> 8: {FACES}", f"track.memory_s 2 -> 1: {CHUNKS}", f"min_faces 2 -> 3: {SCORES}"],
        ),
    ],
    ids=str,
)
def test_the_cheapest_way_is_taken_foretold_and_makes_the_bytes_of_a_fresh_run(
    made: Made,
    folder: Path,
    tmp_path: Path,
    capsys: Capture,
    before: list[str],
    after: list[str],
    work: str,
    steps: list[str],
) -> None:
    made(*before)
    old = lasting(tmp_path / "out")
    printed = foretold(folder, tmp_path / "out", after, capsys)
    for step in steps:
        assert step in printed
    assert f"2 videos: {work}" in printed
    scene = made(*after)
    assert f"2 videos: {work}: " in capsys.readouterr().out
    assert len(scene.decoded) == (2 if work == VIDEO else 0)
    made(*after, at="fresh")
    assert differing(lasting(tmp_path / "out"), lasting(tmp_path / "fresh")) == []
    assert differing(lasting(tmp_path / "out"), old)
    if KEEP not in after:
        assert not [path for path in (tmp_path / "out" / "_work").rglob("*") if path.is_file()]
    capsys.readouterr()
    assert not made(*after).decoded
    assert "0 videos done, 0 persons, 2 unchanged" in capsys.readouterr().out


def test_faces_of_an_interrupted_run_are_estimated_once(made: Made, tmp_path: Path) -> None:
    before, after = [KEEP], [KEEP, "estimate.batch=8"]
    made(*after, at="fresh")
    for killed_at in (6, 14, 20, 30, 40):
        output = tmp_path / f"{killed_at}"
        made(*before, at=output.name)
        with pytest.raises(Killed):
            made(*after, store=FragileStore(str(output), killed_at))
        assert not made(*after, at=output.name).decoded
        assert differing(lasting(output), lasting(tmp_path / "fresh")) == []


def test_work_that_was_begun_before_counts_as_it_lies_there(
    made: Made, folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    made()
    other = ["observe.detector.batch=4"]
    with pytest.raises(Killed):
        made(*other, store=FragileStore(str(tmp_path / "out"), 24))
    printed = foretold(folder, tmp_path / "out", other, capsys)
    assert "chunks of an earlier run are there" in printed
    made(*other)
    made(*other, at="fresh")
    assert differing(lasting(tmp_path / "out"), lasting(tmp_path / "fresh")) == []


def test_the_books_tell_what_a_relink_was(made: Made, tmp_path: Path) -> None:
    made()
    made("identity.wrong_joins=0.3")
    printed = json.loads((tmp_path / "out" / "run.json").read_text())
    assert printed["chunks"] == {"done": 0, "reused": 0}
    assert list(printed["stages"]) == ["relink"]
    assert printed["this_run"] == {"published": 2, "quarantined": 0, "kept": 0, "deferred": 0}
    assert printed["configuration"]["identity"]["wrong_joins"] == 0.3
    runs, videos = (pd.read_parquet(tmp_path / "out" / name) for name in ("runs", "videos"))
    rows_of_run = runs[runs.run_id == printed["run_id"]]
    assert rows_of_run.num_chunks.tolist() == [0, 0]
    assert rows_of_run.attempts.tolist() == [1, 1]
    assert set(videos.config_id) == {printed["config_id"]}


def test_estimating_again_reuses_every_chunk(made: Made, tmp_path: Path) -> None:
    made(KEEP)
    made(KEEP, "estimate.batch=8")
    printed = json.loads((tmp_path / "out" / "run.json").read_text())
    assert printed["chunks"] == {"done": 0, "reused": 4}
    assert sorted(printed["stages"]) == ["commit", "estimate", "read_faces", "reduce"]


def test_turning_the_keeping_off_leaves_no_vector(made: Made, tmp_path: Path) -> None:
    made(KEEP)
    assert len(pd.read_parquet(tmp_path / "out" / "embeddings"))
    made()
    assert len(pd.read_parquet(tmp_path / "out" / "embeddings")) == 0


# --- what is missing or damaged --------------------------------------------------------------------------------------


def files_of(output: Path, uri: str) -> dict[str, Path]:
    videos = pd.read_parquet(output / "videos")
    (video_id,) = videos[videos.uri.str.endswith(uri)].video_id
    return {path.parent.name: path for path in output.rglob(f"{video_id}.parquet")}


@pytest.mark.parametrize("dataset", ["links", "detections", "tracklets", "faces", "shots", "likenesses"])
@pytest.mark.parametrize("damage", ["gone", "cut", "other bytes"])
def test_a_video_whose_tables_are_damaged_is_made_again_and_stops_no_other(
    made: Made, tmp_path: Path, capsys: Capture, dataset: str, damage: str
) -> None:
    made()
    mine = files_of(tmp_path / "out", "0.mp4")[dataset]
    if damage == "gone":
        mine.unlink()
    elif damage == "cut":
        mine.write_bytes(mine.read_bytes()[:-40])
    else:
        mine.write_bytes(mine.read_bytes().replace(b"PAR1", b"1RAP"))
    scene = made("identity.wrong_joins=0.3")
    made("identity.wrong_joins=0.3", at="fresh")
    assert differing(lasting(tmp_path / "out"), lasting(tmp_path / "fresh")) == []
    assert {Path(uri).name for uri in scene.decoded} <= {"0.mp4"}
    assert "0 quarantined" not in capsys.readouterr().out


def test_a_video_of_unknown_making_is_decoded_again_and_said_so(made: Made, tmp_path: Path, capsys: Capture) -> None:
    made()
    for path in (tmp_path / "out" / "recipes").glob("*.json"):
        path.write_text("{}")
    assert len(made("identity.wrong_joins=0.3").decoded) == 2
    assert "json does not say how it was made" in capsys.readouterr().out


# --- sequences -------------------------------------------------------------------------------------------------------


def test_files_of_a_sequence_are_linked_again_from_scores_while_they_can(made: Made, tmp_path: Path) -> None:
    other = "identity.wrong_joins=0.3"
    made(sequence="cam")
    before = pd.read_parquet(tmp_path / "out" / "sequences")
    assert not made(other, sequence="cam").decoded
    made(other, at="fresh", sequence="cam")
    assert differing(lasting(tmp_path / "out"), lasting(tmp_path / "fresh")) == []
    assert len(before)


def test_files_of_a_closed_sequence_are_decoded_again(
    made: Made, folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    other = "identity.wrong_joins=0.3"
    made(sequence="cam", close_sequences=True)
    printed = foretold(folder, tmp_path / "out", [other], capsys)
    assert f"{other.replace('=', ' 0.05 -> ')}: {VIDEO} (links of its sequence need its embeddings" in printed
    assert len(made(other, sequence="cam").decoded) == 2
    made(other, at="fresh", sequence="cam")
    assert differing(lasting(tmp_path / "out"), lasting(tmp_path / "fresh")) == []
