"""`relink` from the command line, on an output of `process`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from jobs import relink as relink_module
from jobs.demo import make_clip
from jobs.relink import relink
from pipeline.errors import PassingError
from pipeline.flow.deferrals import Deferrals
from pipeline.planning.changes import Basis
from pipeline.planning.relink import Relink
from pipeline.video import relink as video_relink
from tests.builders import Film, Walker, publish
from tests.commands import rollcall
from tests.golden.by_hand import contents

ROOT = Path(__file__).parents[2]
FILM = Film(
    6.0, [Walker(0, 2, x=20, look=1, age=30.0), Walker(2, 4, x=200, look=1.1), Walker(4, 6, x=90, look=2)], cuts=[2, 4]
)


def test_it_tells_what_it_did(tmp_path: Path) -> None:
    publish(FILM, [], str(tmp_path))
    done = rollcall("relink", tmp_path, "--set", "identity.wrong_joins=1e-9")
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 video to be made again, from scores (1)" in done.stdout
    assert "2 -> 3" in done.stdout
    assert pd.read_parquet(tmp_path / "videos").num_persons.tolist() == [3]
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "done"


def test_what_it_cannot_do_is_a_line_and_exit_2(tmp_path: Path) -> None:
    publish(FILM, [], str(tmp_path))
    refused = rollcall("relink", tmp_path, "--set", "track.memory_s=1")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert len(refused.stderr.splitlines()) == 1
    assert "track.memory_s" in refused.stderr
    assert "biometrics.keep=true" in refused.stderr


@pytest.mark.parametrize(("failures", "exit_status"), [(1, None), (2, 4)])
def test_a_place_that_is_asleep_costs_a_video_time_and_is_left_to_the_next_run_if_that_is_not_enough(
    failures: int, exit_status: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for video_id in "ab":
        publish(FILM, [], str(tmp_path), video_id=video_id)
    left = [failures]

    def relink_video(task: Relink, basis: Basis) -> dict[str, Any]:
        if task.video_id == "b" and left[0]:
            left[0] -= 1
            raise PassingError("s3://bucket: SlowDown")
        return video_relink.relink_video(task, basis)

    monkeypatch.setattr(relink_module, "relink_video", relink_video)
    monkeypatch.setattr(relink_module, "Deferrals", lambda _: Deferrals((0,)))
    ended = None
    try:
        relink(str(tmp_path), ["identity.wrong_joins=1e-9"])
    except SystemExit as end:
        ended = end.code
    assert ended == exit_status
    this_run = json.loads((tmp_path / "run.json").read_text())["this_run"]
    assert (this_run["published"], this_run["deferred"]) == ((2, 0) if exit_status is None else (1, 1))


def test_a_video_that_fails_stays_as_it_was_and_stops_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for video_id in "abc":
        publish(FILM, [], str(tmp_path), video_id=video_id)
    links = tmp_path / "links" / "b.parquet"
    links.write_bytes(links.read_bytes()[:-20])
    before = {path: path.read_bytes() for path in tmp_path.rglob("b*.parquet")}
    with pytest.raises(SystemExit) as ended:
        relink(str(tmp_path), ["identity.wrong_joins=1e-9"])
    assert ended.value.code == 3
    assert "stays as it was: /in/b.mp4: what is stored of it cannot be read" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in tmp_path.rglob("b*.parquet")} == before
    assert pd.read_parquet(tmp_path / "videos").set_index("video_id").num_persons.to_dict() == {"a": 3, "b": 2, "c": 3}
    assert json.loads((tmp_path / "run.json").read_text())["this_run"] == {
        "published": 2,
        "quarantined": 0,
        "failed": 1,
        "deferred": 0,
    }
    assert not [path for path in (tmp_path / "_work").rglob("*") if path.is_file()]


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize(
    ("kept", "knobs"),
    [
        ("false", ["identity.wrong_joins=0.01", "identity.max_gap_s=1", "person.min_faces=3"]),
        ("true", ["identity.candidates=20", "identity.wrong_joins=0.5", "track.fill_gap_s=0.3"]),
    ],
)
def test_it_makes_what_process_would_have_made(tmp_path: Path, kept: str, knobs: Sequence[str]) -> None:
    clip = tmp_path / "clip.mp4"
    with clip.open("wb") as file:
        make_clip(file)
    common = ["--set", "observe.fps=2", "--set", f"biometrics.keep={kept}"]
    chosen = [word for knob in knobs for word in ("--set", knob)]
    for output, settings in (("one", []), ("anew", chosen)):
        made = rollcall("process", clip, "--output", tmp_path / output, *common, *settings)
        assert made.returncode == 0, made.stdout + made.stderr
    assert lasting(tmp_path / "one") != lasting(tmp_path / "anew")
    done = rollcall("relink", tmp_path / "one", *chosen)
    assert done.returncode == 0, done.stderr
    assert lasting(tmp_path / "one") == lasting(tmp_path / "anew")
    again = rollcall("process", clip, "--output", tmp_path / "one", *common, *chosen)
    assert "0 videos done, 0 persons, 1 unchanged" in again.stdout


def lasting(place: Path) -> dict[str, bytes]:
    changing = ("run.json", "runs/", "recipes/")  # an output that was relinked keeps two recipes
    return {name: content for name, content in contents(place).items() if not name.startswith(changing)}
