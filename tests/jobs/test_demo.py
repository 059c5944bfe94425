import subprocess
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from jobs import demo
from jobs.demo import FPS, SECONDS_PER_SHOT, STORY, make_clip, verdicts
from pipeline.config import load
from pipeline.errors import UserError
from pipeline.media.cuts import find_shots
from pipeline.media.decode import SpanDecoder
from pipeline.media.probe import probe
from tests.shared import SHARED, needs_shared

RIGHT = [{1: 75}, {2: 70}, {3: 75, 4: 60}, {5: 75}, {1: 75}]


def judged(found: Sequence[dict[int, int]]) -> list[bool]:
    return [verdict.endswith(": right") for verdict in verdicts(found)]


def test_the_story_has_one_who_comes_back_and_is_alone() -> None:
    assert [shot.people for shot in (STORY[0], STORY[-1])] == [("the astronaut",)] * 2
    assert "the astronaut is in shots 1, 5: person 1: right" in verdicts(RIGHT)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (RIGHT, [True, True, True]),
        ([*RIGHT[:4], {6: 75}], [False, True, False]),  # she came back as somebody else
        ([*RIGHT[:2], {3: 75}, {4: 75}, {1: 75}], [False, False, True]),  # one was missed
        ([*RIGHT[:2], {3: 75}, {4: 75, 5: 9}, {1: 75}], [True, False, True]),  # one missed, one too many
        ([*RIGHT[:4], {1: 75, 5: 9}], [True, False, True]),
        ([*RIGHT[:4], {}], [True, False, False]),
        ([{}, *RIGHT[1:4], {}], [False, False, False]),
    ],
)
def test_what_differs_from_the_story_is_called_wrong(found: Sequence[dict[int, int]], expected: list[bool]) -> None:
    assert judged(found) == expected


def test_the_clip_has_the_shots_of_the_story_and_can_be_entered(tmp_path: Path) -> None:
    path = tmp_path / "demo.mp4"
    with path.open("wb") as file:
        make_clip(file)
    probed = probe(lambda: str(path))
    assert (probed.codec, probed.width, probed.height, probed.fps) == ("h264", 960, 540, Fraction(FPS))
    assert max(np.diff([*probed.keyframe_ns, round(probed.duration_s * 1e9)])) <= 2e9

    cuts = load().cuts
    decoder = SpanDecoder(lambda: str(path), probed, 0, -1, fps=1, cell_seconds=1, thumbnail_px=64, threads=1)
    frames = list(decoder)
    differences = np.array([frame.differences or (0, 0, 0) for frame in frames], np.int64)
    shots = find_shots(
        np.array([frame.time_ns for frame in frames]),
        *differences.T,
        pixels=decoder.thumbnail_pixels,
        threshold=cuts.threshold,
        min_shot_s=cuts.min_shot_s,
    )
    length = SECONDS_PER_SHOT * FPS
    assert shots == [(i * length, (i + 1) * length) for i in range(len(STORY))]


def test_without_weights_it_names_them_and_their_places_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = yaml.safe_load(demo.CONFIG.read_text())
    moved = tmp_path / "a" / "b" / "c" / demo.CONFIG.name
    moved.parent.mkdir(parents=True)
    moved.write_text(yaml.safe_dump(config))
    monkeypatch.setattr(demo, "CONFIG", moved)
    told = CliRunner().invoke(demo.app, ["--output", str(tmp_path / "out")])
    assert isinstance(told.exception, UserError)
    for name in ("yolov8n", "osnet-x0-25-msmt17", "yunet", "retinaface-mobile0.25"):
        uri = config["weights"]["extra"][name]["uri"]
        assert f"{name} ({(moved.parent / uri).resolve()})" in str(told.exception)
    assert "put the files there" in str(told.exception)
    assert not (tmp_path / "out").exists()


def test_a_bucket_is_refused() -> None:
    told = CliRunner().invoke(demo.app, ["--output", "s3://bucket/demo"])
    assert isinstance(told.exception, UserError)
    assert "name a folder" in str(told.exception)


@needs_shared
@pytest.mark.ray
def test_the_demo_finds_the_people_of_its_clip_and_a_second_time_has_nothing_left_to_do(tmp_path: Path) -> None:
    def run() -> str:
        command = [sys.executable, "-m", "jobs.demo", "--output", str(tmp_path)]
        told = subprocess.run(command, capture_output=True, text=True, check=False, cwd=demo.CONFIG.parents[2])
        assert (told.returncode, told.stderr) == (0, "")
        return told.stdout

    first = run()
    assert "people: 5 found, 5 in the clip: right" in first
    assert "in each shot: 1, 1, 2, 1, 1 found, 1, 1, 2, 1, 1 in the clip: right" in first
    assert "the astronaut is in shots 1, 5: person 1: right" in first
    checked = subprocess.run(
        [sys.executable, str(SHARED / "tools" / "check_output.py"), str(tmp_path), "--done", "1", "--persons", "5"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout
    uri = pd.read_parquet(tmp_path / "videos").uri.item()
    assert Path(uri) == tmp_path / "demo.mp4"
    assert Path(uri).is_file()

    second = run()
    assert "1 unchanged" in second
    assert verdict_lines(second) == verdict_lines(first)


def verdict_lines(told: str) -> list[str]:
    return [line for line in told.splitlines() if line.endswith((": right", ": WRONG"))]
