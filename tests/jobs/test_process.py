"""The main job from the command line, on a folder like those in archives: good files, bad files, copies, and other
files."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from pipeline.media.decode import SpanDecoder
from pipeline.media.pictures import encode_jpeg
from pipeline.media.probing import probe
from pipeline.rows import CSV_HEADER, DATASETS
from tests import clips
from tests.commands import rollcall, rollcall_here
from tests.shared import SHARED, needs_shared

CONFIG = ["--config", "tests/conf/shared-weights.yaml", "--set", "observe.fps=4"]

pytestmark = [needs_shared, pytest.mark.ray]


@dataclass(frozen=True)
class Archive:
    folder: Path
    output: Path
    first: subprocess.CompletedProcess[str]

    def table(self, name: str) -> pd.DataFrame:
        return pd.read_parquet(self.output / name)

    def source(self, name: str) -> pd.Series:
        rows = self.table("sources")
        return rows[rows.uri == str(self.folder / name)].iloc[0]

    def video(self, name: str) -> pd.Series:
        rows = self.table("videos")
        return rows[rows.video_id == self.source(name).video_id].iloc[0]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    place = tmp_path_factory.mktemp("archive")
    folder, output = place / "in", place / "out"
    (folder / "sub").mkdir(parents=True)
    good = clips.re_encode(SHARED / "clips" / "talkshow.mp4", folder / "good.mp4", limit_s=2, width=640)
    (folder / "sub" / "again.mp4").write_bytes(good.read_bytes())
    other = clips.re_encode(SHARED / "clips" / "dance.avi", folder / "sub" / "good.mp4", limit_s=2, width=640)
    clips.text_named_video(folder / "text.mp4")
    clips.empty_file(folder / "empty.mp4")
    clips.without_index(good, folder / "no-index.mp4")
    clips.cut_off(clips.re_encode(other, place / "x.mkv"), folder / "cut-off.mkv")
    clips.sound_only(folder / "sound.mp4")
    clips.make_clip(folder / "tiny.mp4", seconds=0.4, width=2, height=2)
    clips.make_clip(folder / "nobody.mp4", seconds=1)
    clips.corrupt(other, folder / "corrupt.mp4", first=20)
    (folder / "notes.txt").write_text("not a video")
    (folder / "gone.mp4").symlink_to(place / "nowhere.mp4")
    frame = next(
        iter(
            SpanDecoder(
                lambda: str(good), probe(lambda: str(good)), 0, -1, fps=1, cell_seconds=1, thumbnail_px=64, threads=1
            )
        )
    )
    assert frame.picture is not None
    (folder / "picture.jpg").write_bytes(encode_jpeg(frame.picture, 95))
    first = rollcall("process", folder, "--output", output, *CONFIG)
    return Archive(folder, output, first)


def test_the_run_finishes_and_says_that_videos_were_quarantined(archive: Archive) -> None:
    assert archive.first.returncode == 3, archive.first.stderr
    assert archive.first.stderr == ""
    assert "1 other file left out" in archive.first.stdout
    assert "quarantined" in archive.first.stdout.splitlines()[-1]
    assert f"rollcall report {archive.output}" in archive.first.stdout
    assert f"{archive.output}/persons" in archive.first.stdout


def test_the_output_keeps_the_contract(archive: Archive) -> None:
    checker = SHARED / "tools" / "check_output.py"
    checked = subprocess.run(
        [sys.executable, str(checker), str(archive.output), "--done", "6", "--persons", "5", "--aged", "1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize(
    ("name", "stage", "reason"),
    [
        ("text.mp4", "probe", "not a video"),
        ("empty.mp4", "probe", "empty"),
        ("no-index.mp4", "probe", "moov"),
        ("sound.mp4", "probe", "only audio"),
        ("tiny.mp4", "probe", "2 x 2 px"),
        ("gone.mp4", "catalog", "nothing is"),
    ],
)
def test_a_bad_file_is_quarantined_with_a_stage_and_a_reason(
    archive: Archive, name: str, stage: str, reason: str
) -> None:
    row = archive.source(name)
    assert (row.status, row.stage) == ("quarantined", stage)
    assert reason in row.reason
    assert f"{name}: {row.reason}" in archive.first.stdout


def test_a_video_without_people_is_done(archive: Archive) -> None:
    assert archive.video("nobody.mp4")[["status", "num_persons"]].tolist() == ["done", 0]


@pytest.mark.parametrize(("name", "warning"), [("cut-off.mkv", "ends early"), ("corrupt.mp4", "damaged")])
def test_what_can_be_decoded_of_a_damaged_file_is_processed_and_flagged(
    archive: Archive, name: str, warning: str
) -> None:
    row = archive.video(name)
    assert row.status == "done"
    assert warning in row.warning
    assert row.num_frames > 10


def test_the_same_content_is_one_video_two_sources_and_two_csvs(archive: Archive) -> None:
    first, second = archive.source("good.mp4"), archive.source("sub/again.mp4")
    assert first.video_id == second.video_id
    assert archive.table("videos").video_id.is_unique
    texts = [(archive.output / row.csv).read_text() for row in (first, second)]
    assert first.csv != second.csv
    assert texts[0] == texts[1]
    assert texts[0].splitlines()[0] == CSV_HEADER


def test_two_videos_of_one_name_do_not_overwrite_each_other(archive: Archive) -> None:
    first, second = archive.source("good.mp4"), archive.source("sub/good.mp4")
    assert first.video_id != second.video_id
    assert {first.csv, second.csv} == {"csv/good.mp4.csv", "csv/sub/good.mp4.csv"}


def test_a_picture_is_a_video_of_one_frame(archive: Archive) -> None:
    row = archive.video("picture.jpg")
    assert row[["status", "num_frames", "num_persons"]].tolist() == ["done", 1, 2]
    assert pd.isna(row.fps)


def test_nothing_of_the_working_area_and_no_biometrics_stay(archive: Archive) -> None:
    assert list((archive.output / "_work").glob("*/*")) == []
    assert not (archive.output / "embeddings").exists()


def test_the_run_explains_itself(archive: Archive) -> None:
    run = json.loads((archive.output / "run.json").read_text())
    assert run["status"] == "done"
    assert run["models"]["detector"]["licence"] == "AGPL-3.0"
    assert len(run["models"]["detector"]["sha256"]) == 64
    assert run["configuration"]["observe"]["fps"] == 4
    assert run["chunks"]["done"] >= 6
    assert run["stages"]["observe"]["seconds"] > 0
    runs = archive.table("runs")
    assert set(runs.video_id) == set(archive.table("videos").query("status == 'done'").video_id)
    assert (runs.seconds > 0).all()


def test_a_second_run_does_nothing_and_changes_nothing_and_ends_well(archive: Archive, tmp_path: Path) -> None:
    before = {name: archive.table(name) for name in DATASETS if name != "runs"}
    output = shutil.copytree(archive.output, tmp_path / "out")  # other tests read what the first run says of itself
    again = rollcall("process", archive.folder, "--output", output, *CONFIG)
    # A file that cannot even be read has no id to remember it by, and so is reported again.
    assert again.returncode == 3
    assert "starting Ray" not in again.stdout
    for name, rows in before.items():
        pd.testing.assert_frame_equal(rows, pd.read_parquet(output / name))


def test_plan_and_status_tell_the_same(archive: Archive) -> None:
    plan = rollcall_here("plan", archive.folder, "--output", archive.output, *CONFIG)
    assert plan.returncode == 0, plan.stderr
    assert "6 done" in plan.stdout
    assert "to do: nothing to decode" in plan.stdout
    changed = rollcall_here("plan", archive.folder, "--output", archive.output, *CONFIG, "--set", "track.memory_s=3")
    assert "6 changed" in changed.stdout
    assert "of work, about" in changed.stdout
    status = json.loads(rollcall_here("status", archive.output, "--json").stdout)
    assert status["videos"]["done"] == 6
    assert status["videos"]["running"] == 0
    assert status["chunks"] == {"durable": 0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.mp4", "--output", "OUT"], "there is no file or folder absent.mp4 in "),
        ([".", "--output", "OUT", "--set", "observe.fsp=4"], "did you mean observe.fps?"),
        ([".", "--output", "OUT", "--profile", "huge"], "huge"),
        ([".", "--output", "/dev/null/x"], "/dev/null is a file where a folder is needed"),
        ([".", "--output", "OUT", "--set", "licences.allow=[MIT]"], "yolov8n is under AGPL-3.0"),
        ([".", "--output", "OUT", "--set", "candidates.look=yunnet"], "yunet"),
        ([".", "--output", "foo://x"], "foo://x: there is no protocol foo://; "),
        ([".", "--output", "OUT", "--set", "observe.body.weights=null"], "compares appearances of all detections"),
        ([".", "--output", "OUT", "--set", "track.options={nonsense: 1}"], "occluboost refuses them"),
        ([".", "--output", "OUT", "--address", "127.0.0.1:1"], "no Ray cluster answers at 127.0.0.1:1"),
    ],
)
def test_a_persons_mistake_is_a_line_and_status_2(arguments: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"")
    arguments = [str(tmp_path / "out") if word == "OUT" else word for word in arguments]
    source = str(tmp_path) if arguments[0] == "." else arguments[0]
    ended = rollcall_here("process", source, *arguments[1:3], *CONFIG, *arguments[3:])
    assert ended.returncode == 2, ended.stderr
    assert message in ended.stderr
    assert len(ended.stderr.strip().splitlines()) <= 2
    assert "Traceback" not in ended.stderr
