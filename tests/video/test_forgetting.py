"""After `forget`, nothing in an output is about the person, and everything else keeps its bytes."""

import io
import json
import re
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.compact import compact
from jobs.forget import forget
from jobs.relink import relink
from jobs.shared.cleanup import prune_output
from pipeline import rows
from pipeline.cores.retention import AgeBy
from pipeline.errors import UserError
from pipeline.storage import event_log, records, tables, tombstones
from pipeline.storage.compaction import compact_output
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.store import Store
from pipeline.video import forgetting
from pipeline.video.left_out import LeftOut
from pipeline.video.proof import find_traces
from pipeline.video.reduce import reduce_video
from pipeline.video.track import track_part
from tests.builders import Film, Walker, job, publish, with_recipe
from tests.interruptions import FragileStore, Killed
from tests.small_outputs import video_row

FILM = Film(
    8.0,
    [
        Walker(0, 4, x=20, look=1, age=30.0, face=1),
        Walker(0.5, 3.9, x=300, look=2, age=50.0, face=2),
        Walker(2, 4, x=120, speed=0, look=3, age=20.0, face=3),
        Walker(4, 8, x=200, look=2.05, age=51.0, face=2.05),
    ],
    cuts=[4.0],
    strangers=[1.2],
)
OTHER = Film(2.0, [Walker(0, 2, x=20, look=7, age=40.0, face=7)])
KEPT = "biometrics.keep=true"
LEFT = re.compile(r"^compact/|\.partial$")


def contents(place: Path) -> dict[str, bytes]:
    """Return every file of an output by its name, but not the lease and the tombstones."""
    names = (path for path in sorted(place.rglob("*")) if path.is_file())
    files = {path.relative_to(place).as_posix(): path.read_bytes() for path in names}
    return {name: content for name, content in files.items() if not name.startswith(("_lease/", "_forgotten/"))}


def flat(content: bytes) -> bytes:
    """Return the bytes of a file, of Parquet without compression and encodings."""
    if content[:4] != b"PAR1":
        return content
    out = io.BytesIO()
    pq.write_table(pq.read_table(io.BytesIO(content)), out, compression="none", use_dictionary=False)
    return out.getvalue()


def vectors(place: Path, video_id: str) -> pd.Series:
    """Return the vectors of the dataset `embeddings` as bytes, by tracklet."""
    table = pd.read_parquet(place / "embeddings" / f"{video_id}.parquet").set_index("tracklet_id").vector
    return table.map(lambda vector: np.asarray(vector, np.float32).tobytes())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an output with two videos, kept biometrics, a snapshot, events, and files made from the tables."""
    place = tmp_path_factory.mktemp("made")
    write_output(Store(str(place)))
    return place


@pytest.fixture
def output(made: Path, tmp_path: Path) -> Path:
    """Return a copy of `made` to work on."""
    return Path(shutil.copytree(made, tmp_path / "out"))


def write_output(store: Store) -> None:
    publish(FILM, [2, 5], store.uri, KEPT, video_id="xaxaxa")
    publish(OTHER, [], store.uri, KEPT, video_id="ybybyb")
    records.write_run(store, "20260101T000000-aa", [{"run_id": "r", "video_id": name} for name in ("xaxaxa", "ybybyb")])
    lines = [json.dumps({"ts": "t", "event": "chunk_done", "video": name}) for name in ("xaxaxa", "ybybyb")]
    store.put(f"{event_log.FOLDER}/20260101T000000-aa/driver.0000.jsonl", "".join(f"{x}\n" for x in lines).encode())
    for name in ("export/mot/xaxaxa.mp4.txt", "annotated/ybybyb.mp4", "annotated/xaxaxa.mp4", "export/xlsx/all.xlsx"):
        store.put(name, name.encode())
    store.put("report/index.html", b"<html>")
    compact_output(store)


def test_nothing_is_left_of_a_person_and_all_else_keeps_its_bytes(
    output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Store(str(output)).put("annotated/.xaxaxa.mp4.json", b"{}")
    before, was = contents(output), pd.read_parquet(output / "persons").query("video_id == 'xaxaxa'")
    tracklets = pd.read_parquet(output / "tracklets").query("video_id == 'xaxaxa'")
    gone = set(tracklets[tracklets.person_id == 2].tracklet_id)
    secret = [vector for tracklet, vector in vectors(output, "xaxaxa").items() if tracklet in gone]
    assert len(gone) == 2
    assert len(secret) > 4

    forget(str(output), ["xaxaxa:2"])

    for dataset in ("persons", "detections", "tracklets", "faces"):
        table = pd.read_parquet(output / dataset).query("video_id == 'xaxaxa'")
        assert 2 not in set(table.person_id), dataset
        assert 1 in set(table.person_id), dataset
    links = pd.read_parquet(output / "links").query("video_id == 'xaxaxa'")
    assert not gone & (set(links.tracklet_a) | set(links.tracklet_b))
    assert pd.read_parquet(output / "videos").set_index("video_id").num_persons["xaxaxa"] == len(was) - 1
    assert set(pd.read_csv(output / "csv/xaxaxa.mp4.csv")["person id"]) == {1, 3}
    after = contents(output)
    assert not [name for name, content in after.items() for vector in secret if vector in flat(content)]
    assert [name for name, content in before.items() for vector in secret if vector in flat(content)]
    changed = {name for name in before.keys() & after.keys() if before[name] != after[name]}
    per_video = {"persons", "detections", "tracklets", "faces", "links", "embeddings", "videos"}
    assert changed == {f"{name}/xaxaxa.parquet" for name in per_video} | {
        "csv/xaxaxa.mp4.csv",
        "compact/current.json",
        "_work/sequences/xaxaxa.parquet",
    }
    lost = {name for name in before.keys() - after.keys() if not name.startswith(("_work/xaxaxa/", "compact/"))}
    assert lost == {
        "export/mot/xaxaxa.mp4.txt",
        "annotated/xaxaxa.mp4",
        "annotated/.xaxaxa.mp4.json",
        "export/xlsx/all.xlsx",
        "report/index.html",
    }
    said = capsys.readouterr().out.replace("\n", " ")
    assert "5 files, as annotated/xaxaxa.mp4" in said  # not the hidden mark, which comes first in the folder


def test_the_tombstone_holds_no_number_of_the_person_and_no_estimate(output: Path) -> None:
    forget(str(output), ["xaxaxa:2"])
    (name,) = Store(str(output)).names("_forgotten")
    stone = json.loads((output / name).read_text())
    assert name == "_forgotten/persons/xaxaxa.json"
    assert stone.keys() == {"forgotten_at", "persons"}
    assert [path.keys() for paths in stone["persons"] for path in paths] == [{"frames", "times_s", "boxes"}] * 2


def test_a_snapshot_of_before_is_gone_and_the_new_one_has_everybody_else(output: Path) -> None:
    (generation,) = Store(str(output)).folders("compact")
    forget(str(output), ["xaxaxa:2"])
    (now,) = Store(str(output)).folders("compact")
    assert now != generation
    assert now == json.loads((output / "compact/current.json").read_text())["generation"]
    persons = pd.read_parquet(output / "compact" / now / "persons")
    assert set(zip(persons.video_id, persons.person_id, strict=True)) == {("xaxaxa", 1), ("xaxaxa", 3), ("ybybyb", 1)}


def test_the_same_bytes_come_out_when_the_video_is_processed_again(output: Path) -> None:
    forget(str(output), ["xaxaxa:2"])
    tables_of = {name: content for name, content in contents(output).items() if name.split("/")[-1] == "xaxaxa.parquet"}
    reduce_again(output, KEPT)
    again = contents(output)
    assert {name: again[name] for name in tables_of} == tables_of
    assert not [name for name in again if name.startswith("_work/xaxaxa/")]


@pytest.mark.parametrize("setting", ["track.tracker=bytetrack", "cuts.threshold=200", "identity.wrong_joins=1e-9"])
def test_a_forgotten_person_does_not_come_back_under_another_configuration(output: Path, setting: str) -> None:
    forget(str(output), ["xaxaxa:2"])
    reduce_again(output, setting)
    table = pd.read_parquet(output / "detections").query("video_id == 'xaxaxa'")
    near = table[(table.time_s < 3.9) & ((table.bb_xmin - (300 + 30 * (table.time_s - 0.5))).abs() < 8)]
    assert not len(near)
    assert len(table[table.time_s < 3.9])


def reduce_again(place: Path, *settings: str) -> None:
    work = with_recipe(job(FILM, [2, 5], str(place), *settings, video_id="xaxaxa"))
    work = replace(work, forgotten=tombstones.read_forgotten(Store(str(place)), "xaxaxa"))
    reduce_video(work, lambda parts: [track_part(part) for part in parts])


def test_an_output_with_a_forgotten_person_is_linked_again(output: Path) -> None:
    forget(str(output), ["xaxaxa:2"])
    ids = pd.read_parquet(output / "tracklets/xaxaxa.parquet").tracklet_id.tolist()
    relink(str(output), ["identity.wrong_joins=1e-9"])
    table = pd.read_parquet(output / "tracklets/xaxaxa.parquet")
    assert table.tracklet_id.tolist() == ids
    persons = pd.read_parquet(output / "persons/xaxaxa.parquet").person_id.tolist()
    assert set(persons) == set(table.person_id) == {1, 3}
    assert set(pd.read_parquet(output / "detections/xaxaxa.parquet").tracklet_id) == set(ids)


def test_nothing_is_left_of_a_video(output: Path) -> None:
    before = contents(output)
    forget(str(output), videos=["xaxaxa"])
    after = contents(output)
    assert not [name for name, content in after.items() if "xaxaxa" in name or b"xaxaxa" in flat(content)]
    for name in (*rows.DATASETS, "embeddings"):
        assert set(pd.read_parquet(output / name).get("video_id", [])) <= {"ybybyb"}, name
    changed = {name for name in before.keys() & after.keys() if before[name] != after[name]}
    assert changed == {
        "sources/sources.parquet",
        "runs/20260101T000000-aa.parquet",
        f"{event_log.FOLDER}/20260101T000000-aa/driver.0000.jsonl",
        "compact/current.json",
    }
    index = OutputIndex.load(Store(str(output)))
    assert index.tombstones.videos == {"xaxaxa"}


@pytest.mark.parametrize("named", [{"persons": ["xaxaxa:2"]}, {"videos": ["xaxaxa"]}], ids=["person", "video"])
def test_a_killed_removal_is_finished_by_the_next_command(
    output: Path, named: dict[str, list[str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    def begin(store: Store) -> None:
        index = OutputIndex.load(store)
        plan = forgetting.plan_videos if "videos" in named else forgetting.plan_persons
        tombstones.begin(store, plan(index, named.get("videos") or [("xaxaxa", 2)]))  # pyright: ignore[reportArgumentType]

    def copied() -> str:
        return shutil.copytree(output, tmp_path_factory.mktemp("copy") / "out").as_posix()

    whole = FragileStore(copied(), None)
    begin(whole)
    forgetting.finish(whole)
    wanted = lasting(Path(whole.uri.removeprefix("file://")))
    for changes in range(1, whole.num_changes, 5):
        place = copied()
        store = FragileStore(place, changes)
        begin(store)
        removals = tombstones.read_unfinished(store)
        with pytest.raises(Killed):
            forgetting.finish(store)
        forgetting.finish(Store(place))
        assert lasting(Path(place)) == wanted, changes
        assert find_traces(Store(place), removals)[1] == []


def lasting(place: Path) -> dict[str, bytes]:
    """Return the files of an output, but not those of snapshots, whose names are random, and unfinished ones."""
    return {name: content for name, content in contents(place).items() if not LEFT.search(name)}


def test_a_command_finishes_what_an_interrupted_one_began(output: Path) -> None:
    store = Store(str(output))
    tombstones.begin(store, forgetting.plan_persons(OutputIndex.load(store), [("xaxaxa", 2)]))
    compact(str(output))
    assert set(pd.read_parquet(output / "persons/xaxaxa.parquet").person_id) == {1, 3}
    assert tombstones.read_unfinished(store) == []


def test_to_forget_twice_says_so_and_a_wrong_name_is_an_error(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    forget(str(output), ["xaxaxa:2"])
    before = contents(output)
    forget(str(output), ["xaxaxa:2"])
    assert "1 person not there any more: forgotten before" in capsys.readouterr().out
    assert contents(output) == before
    with pytest.raises(UserError, match="has no person 2"):
        forget(str(output), ["ybybyb:2"])
    with pytest.raises(UserError, match="has no video zczczc"):
        forget(str(output), videos=["zczczc"])
    with pytest.raises(UserError, match="VIDEO_ID:PERSON_ID"):
        forget(str(output), ["xaxaxa/2"])


def test_old_videos_go_by_the_recording_or_by_the_first_processing(
    output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, now = Store(str(output)), datetime.now(UTC)
    for run_id, days in (("20260102T000000-aa", 40), ("20260103T000000-aa", 2)):
        runs = [records.run_row(run_id, video_id, now - timedelta(days=days)) for video_id in ("xaxaxa", "ybybyb")]
        records.write_run(store, run_id, runs)
    row = records.read_video(store, "xaxaxa")
    assert row is not None
    records.write_video(store, row | {"recorded_at": now - timedelta(days=10)})
    for age, by, old in (
        ("30d", "recorded", {"ybybyb"}),
        ("1w", "recorded", {"xaxaxa", "ybybyb"}),
        ("984h", "processed", set()),
    ):
        forget(str(output), older_than=age, by=AgeBy(by), dry_run=True)
        assert {line.split(":")[0] for line in capsys.readouterr().out.splitlines() if " UTC, " in line} == old, age
    forget(str(output), older_than="39d", by=AgeBy.PROCESSED)
    assert not len(pd.read_parquet(output / "videos"))
    with pytest.raises(UserError, match="as 30d"):
        forget(str(output), older_than="a month")


def test_a_face_on_no_tracklet_goes_if_it_lies_on_the_person() -> None:
    def table(dataset: str, *table_rows: dict[str, object]) -> pa.Table:
        schema = (rows.DATASETS | rows.BIOMETRIC_DATASETS)[dataset]
        return pa.Table.from_pylist([dict.fromkeys(schema.names) | row for row in table_rows], schema=schema)

    def box(left: float, top: float, size: float) -> dict[str, object]:
        return {"bb_xmin": left, "bb_ymin": top, "bb_width": size, "bb_height": size}

    faces = table(
        "faces",
        {"frame_num": 7} | box(30, 30, 10),
        {"frame_num": 7} | box(300, 30, 10),
        {"frame_num": 9} | box(30, 30, 10),
    )
    detections = table("detections", {"frame_num": 7, "tracklet_id": 4} | box(20, 20, 100))
    left_out = LeftOut.of({2}, np.array([3, 4]), np.array([1, 2]), faces, [detections])
    assert left_out.without("faces", faces)["frame_num"].to_pylist() == [7, 9]
    assert left_out.without("faces", faces)["bb_xmin"].to_pylist() == [300, 30]
    embeddings = table("embeddings", {"frame_num": 7}, {"frame_num": 9}, {"tracklet_id": 4}, {"tracklet_id": 3})
    left = left_out.without("embeddings", embeddings)
    assert list(zip(left["frame_num"].to_pylist(), left["tracklet_id"].to_pylist(), strict=True)) == [
        (9, None),
        (None, 3),
    ]


def test_a_dry_run_removes_nothing(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(output)
    forget(str(output), ["xaxaxa:2"], ["ybybyb"], dry_run=True)
    assert "would remove 1 video and 1 person" in capsys.readouterr().out
    assert contents(output) == before


def test_pruned_videos_and_what_a_killed_run_left_are_in_no_snapshot(output: Path) -> None:
    store = Store(str(output))
    records.write_video(store, video_row("kokoko"))
    records.hide_video(store, "zczczc")
    tables.write_rows(store, "videos/zczczc.parquet", rows.DATASETS["videos"], [])
    tables.write_rows(store, "detections/zczczc.parquet", rows.DATASETS["detections"], [])
    index = OutputIndex.load(store)
    index.set_source("/in/xaxaxa.mp4", current=False)
    prune_output(index)
    assert sorted(path.name for path in (output / "videos").iterdir()) == ["schema.parquet", "ybybyb.parquet"]
    assert not (output / "detections/zczczc.parquet").exists()
    (generation,) = store.folders("compact")
    assert set(pd.read_parquet(output / "compact" / generation / "persons").video_id) == {"ybybyb"}
