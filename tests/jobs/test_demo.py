import subprocess
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import rollcall
from jobs import demo
from jobs.demo import FPS, SECONDS_PER_SHOT, STORY, names_of, verdicts_on_estimates, verdicts_on_people
from pipeline.config import load
from pipeline.errors import UserError
from pipeline.media.cuts import find_shots
from pipeline.media.decode import SpanDecoder
from pipeline.media.probing import probe
from tests.bench import readme_front
from tests.shared import SHARED

ROOT = Path(__file__).parents[2]

RIGHT = [{1: 75}, {2: 70}, {3: 75, 4: 60}, {5: 75}, {1: 75}]


def judged(frames_by_shot: Sequence[dict[int, int]]) -> list[bool]:
    return [verdict.endswith(": right") for verdict in verdicts_on_people(frames_by_shot)]


def test_the_story_has_one_who_comes_back_and_is_alone() -> None:
    assert [[known.name for known in shot.people] for shot in (STORY[0], STORY[-1])] == [["the astronaut"]] * 2
    assert "the astronaut is in shots 1, 5: person 1: right" in verdicts_on_people(RIGHT)


@pytest.mark.parametrize(
    ("frames_by_shot", "expected"),
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
def test_what_differs_from_the_story_is_called_wrong(
    frames_by_shot: Sequence[dict[int, int]], expected: list[bool]
) -> None:
    assert judged(frames_by_shot) == expected


def rows_of(*people: tuple[int, int, float]) -> list[dict[str, Any]]:
    """Return rows of `detections` from the shot of the STORY counted from 0, the person, and the left edge."""
    return [
        {"time_s": (shot + 0.5) * SECONDS_PER_SHOT, "person_id": person, "bb_xmin": left}
        for shot, person, left in people
    ]


def test_people_are_named_from_left_to_right_and_not_where_one_is_missing() -> None:
    rows = rows_of((0, 1, 10), (1, 2, 10), (2, 3, 300), (2, 4, 100), (3, 5, 10))
    frames_by_shot = [{1: 1}, {2: 1}, {3: 1, 4: 1}, {5: 1}, {}]
    names = {number: known.name for number, known in names_of(frames_by_shot, rows).items()}
    assert names == {
        1: "the astronaut",
        2: "the one who watches",
        3: "the dark coat",
        4: "the light coat",
        5: "the one who shouts",
    }
    assert set(names_of([{1: 1}, {2: 1}, {3: 1}, {5: 1, 6: 1}, {}], [*rows, *rows_of((3, 6, 99))])) == {1, 2}


def person(number: int, gender: str, age: float | None, off: float = 15) -> dict[str, Any]:
    low, high = (None, None) if age is None else (age - off, age + off)
    return {"person_id": number, "gender": gender, "age": age, "age_low": low, "age_high": high}


@pytest.mark.parametrize(
    ("watching", "shouting", "expected"),
    [
        (person(2, "M", 64), person(5, "M", 31), [True, True]),
        (person(2, "M", 64.1), person(5, "M", 31), [True, False]),
        (person(2, "M", 60), person(5, "M", 30.9), [True, False]),
        (person(2, "F", 60), person(5, "M", 41), [False, True]),
        (person(2, "N", None), person(5, "M", 41), [False, False]),  # two judged people are too few
        (person(2, "M", 48, off=6), person(5, "M", 47, off=5), [True, True]),  # he is 41 until he turns 42
        (
            person(2, "M", 48, off=6),
            person(5, "M", 47, off=4.9),
            [True, False],
        ),  # too narrow an interval
        (person(2, "M", 48, off=5.9), person(5, "M", 47, off=5), [True, False]),
    ],
)
def test_a_wrong_gender_or_age_is_called_wrong(
    watching: dict[str, Any], shouting: dict[str, Any], expected: list[bool]
) -> None:
    names = names_of(RIGHT, rows_of((0, 1, 0), (1, 2, 0), (2, 3, 0), (2, 4, 9), (3, 5, 0), (4, 1, 0)))
    result = verdicts_on_estimates([person(1, "F", 38), watching, person(4, "N", None), shouting], names)
    assert [verdict.endswith(": right") for verdict in result] == expected


def test_a_bucket_is_refused() -> None:
    result = CliRunner().invoke(demo.app, ["--output", "s3://bucket/demo"])
    assert isinstance(result.exception, UserError)
    assert "name a folder" in str(result.exception)


def run_demo(output: Path) -> str:
    command = [sys.executable, "-m", "jobs.demo", "--output", str(output)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Run the demo. Return its output and what it says."""
    output = tmp_path_factory.mktemp("demo")
    return output, run_demo(output)


@pytest.mark.ray
def test_the_clip_has_the_shots_of_the_story_and_can_be_entered(shown: tuple[Path, str]) -> None:
    path = shown[0] / "demo.mp4"
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


@pytest.mark.ray
def test_the_demo_finds_the_people_of_its_clip_and_a_second_time_has_nothing_left_to_do(
    shown: tuple[Path, str],
) -> None:
    output, first = shown
    assert "people: 5 found, 5 in the clip: right" in first
    assert "in each shot: 1, 1, 2, 1, 1 found, 1, 1, 2, 1, 1 in the clip: right" in first
    assert "the astronaut is in shots 1, 5: person 1: right" in first
    assert "WRONG" not in first
    with av.open(str(output / "annotated" / "demo.mp4")) as copy:
        assert sum(1 for _ in copy.decode(video=0)) == FPS * SECONDS_PER_SHOT * len(STORY)
    assert "demo.mp4" in (output / "report" / "index.html").read_text()
    assert (output / "demo.png").read_bytes().startswith(b"\x89PNG")
    check_readme(rollcall.read(output).persons())
    if SHARED.is_dir():
        check_contract(output)
    uri = pd.read_parquet(output / "videos").uri.item()
    assert Path(uri) == output / "demo.mp4"
    assert Path(uri).is_file()

    second = run_demo(output)
    assert "1 unchanged" in second
    assert verdict_lines(second) == verdict_lines(first)


def check_readme(persons: pd.DataFrame) -> None:
    """Check that the README shows these persons. Another kind of CPU may round an age otherwise."""
    heading, _, *lines = readme_front.table_in(readme_front.README.read_text()).splitlines()
    columns = heading.strip("| ").split(" | ")
    shown = pd.DataFrame([line.strip("| ").split(" | ") for line in lines], columns=pd.Index(columns))
    assert columns == readme_front.COLUMNS
    same = ["file", "person_id", "start_s", "end_s", "gender"]
    assert shown[same].to_numpy().tolist() == persons[same].astype(str).to_numpy().tolist()
    ages = ["age", "age_low", "age_high"]
    assert shown[ages].astype(float).to_numpy() == pytest.approx(persons[ages].to_numpy(), abs=1.0)


def check_contract(output: Path) -> None:
    checked = subprocess.run(
        [sys.executable, str(SHARED / "tools" / "check_output.py"), str(output), "--done", "1", "--persons", "5"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout


def verdict_lines(result: str) -> list[str]:
    return [line for line in result.splitlines() if line.endswith((": right", ": WRONG"))]
