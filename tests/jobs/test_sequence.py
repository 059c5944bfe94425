"""Sequences from the command line: the folder of a camera is linked, shown, and closed."""

import json
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pandas as pd
import pytest

from jobs.shared.demo_clip import FPS, clip_frames
from pipeline.media.film import write_mp4
from tests import clips
from tests.commands import rollcall, rollcall_here
from tests.shared import SHARED

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def camera(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the demo's first seconds as two files. The second comes first in the alphabet."""
    place = tmp_path_factory.mktemp("in")
    with (place / "demo.mp4").open("wb") as file:
        write_mp4(file, islice(clip_frames(), 4 * FPS), fps=FPS, keyframe_every=FPS)
    whole = clips.re_encode(place / "demo.mp4", place / "whole.mp4", width=480, b_frames=0)
    (place / "cam").mkdir()
    for part, name in zip(clips.cut_into(whole, place, 2), ("part9.mp4", "part10.mp4"), strict=True):
        part.rename(place / "cam" / name)
    return place / "cam"


@pytest.mark.ray
def test_the_videos_of_a_folder_are_linked_told_of_and_closed(camera: Path, tmp_path: Path) -> None:
    named = [camera, "--output", tmp_path, "--sequence", "folder", "--set", "observe.fps=4"]
    plan = rollcall_here("plan", *named)
    assert "sequences: 1, of 2 files" in plan.stdout, plan.stderr
    done = rollcall("process", *named)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"sequence {camera}: 2 of 2 files done" in done.stdout

    table, videos = pd.read_parquet(tmp_path / "sequences"), pd.read_parquet(tmp_path / "videos").set_index("video_id")
    order = table.drop_duplicates("position").sort_values("position").video_id
    assert [Path(uri).name for uri in videos.uri[order]] == ["part9.mp4", "part10.mp4"]
    assert len(table) == videos.num_persons.sum() > 0
    (message,) = json.loads((tmp_path / "run.json").read_text())["sequences"]
    assert message == {
        "sequence": str(camera),
        "files": 2,
        "done": 2,
        "linkable": 2,
        "persons": table.sequence_person_id.nunique(),
        "times": "end to end",
    }
    if SHARED.is_dir():
        checker = [sys.executable, str(SHARED / "tools" / "check_output.py"), str(tmp_path), "--done", "2"]
        checked = subprocess.run(checker, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout

    again = rollcall("process", *named, "--close-sequences")
    assert again.returncode == 0, again.stderr
    assert "2 unchanged" in again.stdout
    assert "starting Ray" not in again.stdout
    assert not list((tmp_path / "_work").rglob("*.parquet"))
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "sequences"), table)
    assert json.loads(rollcall_here("status", tmp_path, "--json").stdout)["sequences"] == [message | {"linkable": 0}]
    assert "2 of 2 files can no longer be linked" in rollcall_here("status", tmp_path).stdout


@pytest.mark.parametrize(
    ("listed", "options", "message"),
    [
        ("uri\na.mp4\n", ["--sequence", "camera"], "--sequence camera: there is one way, folder"),
        ("uri,sequence\na.mp4,x\na.mp4,y\n", [], "a.mp4 is named in two sequences, x and y; a file has one"),
        ("uri,sequence,recorded_at\na.mp4,x,noon\n", [], "recorded_at of a.mp4 must be times, as 2024-05-01T10:00:00Z"),
    ],
)
@pytest.mark.parametrize("command", ["process", "plan"])
def test_a_persons_mistake_is_a_line_and_status_2(
    tmp_path: Path, command: str, listed: str, options: list[str], message: str
) -> None:
    (tmp_path / "a.mp4").write_bytes(b"")
    (tmp_path / "list.csv").write_text(listed)
    ended = rollcall_here(command, f"@{tmp_path}/list.csv", "--output", tmp_path / "out", *options)
    assert ended.returncode == 2, ended.stderr
    assert message in ended.stderr
    assert len(ended.stderr.strip().splitlines()) <= 2
    assert not (tmp_path / "out").exists()
