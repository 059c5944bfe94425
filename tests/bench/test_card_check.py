"""The command that tests and measures on a machine with a card, without one."""

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

from pipeline.config import load
from pipeline.storage.blobs import fetch
from pipeline.weights import Registry
from tests.commands import ROOT
from tests.gpu import check, random_models
from tests.gpu.agreement import agreement


class Told(check.Check):
    """Runs nothing. commands: the words of each command."""

    commands: list[list[str]] = []  # noqa: RUF012  (one for all tests)

    def run(self, name: str, words: Sequence[str], most_s: float) -> str:
        self.commands.append([name, *words])
        if "--json" in words:
            figures = {"analysed frames per s": {"median": 123.456}, "seconds": {"median": 1}}
            Path(words[-1]).write_text(json.dumps({"rows": [{"way": "crowded 720p", "figures": figures}]}))
        return "tests/gpu/x.py::y PASSED\nE   1 != 2\n1 failed, 3 passed in 2 s\n"


def test_one_command_runs_every_test_of_cards_and_every_way(tmp_path: Path) -> None:
    Told.commands = []
    assert check.main([str(tmp_path), "--videos", "3", "--set", "observe.fps=4"], Told) == 0
    groups = [command for command in Told.commands if command[1] == "pytest"]
    named = {word for command in groups for word in command if word.endswith(".py")}
    assert {f"tests/gpu/{path.name}" for path in (ROOT / "tests/gpu").glob("test_*.py")} <= named
    assert all((ROOT / name).is_file() for name in named)
    benches = [command for command in Told.commands if command[1] == "jobs.bench"]
    assert [name for name, *_ in benches] == [f"bench-{way}" for way in check.USUAL]
    assert all(command[-6:-2] == ["--videos", "3", "--set", "observe.fps=4"] for command in benches)
    summary = (tmp_path / "summary.txt").read_text()
    assert "nvdec: crowded 720p: analysed frames per s 123.5" in summary
    assert "runs: 1 failed, 3 passed in 2 s" in summary


def test_every_other_way_is_run_by_its_name(tmp_path: Path) -> None:
    Told.commands = []
    assert check.main([str(tmp_path), "--only", "bench", "--ways", ",".join(check.WAYS), "--videos", "3"], Told) == 0
    benches = {command[0]: command[1:] for command in Told.commands if command[1] == "jobs.bench"}
    assert list(benches) == [f"bench-{way}" for way in check.WAYS]
    assert benches["bench-limit"][1] == "limit"
    assert "--videos" not in benches["bench-limit"]
    assert "tests/conf/shared-weights.yaml" in benches["bench-production"]


def test_the_ways_are_configurations_of_a_card() -> None:
    ways = {
        way: load(settings=chosen.knobs).on_device("cuda", "card")
        for way, chosen in check.WAYS.items()
        if not chosen.is_random
    }
    chosen = {
        way: (config.observe.decoder, config.compute.pixels, config.run.observe.spans) for way, config in ways.items()
    }
    assert chosen == {
        "rgb": ("cpu", "rgb", 6),
        "planes": ("cpu", "planes", 6),
        "nvdec": ("auto", "rgb", 6),
        "nvdec-planes": ("auto", "planes", 6),
        "nvdec-many": ("auto", "planes", 3),
        "alone": ("cpu", "rgb", 1),
        "pool": ("cpu", "rgb", 6),
    }


def test_the_production_networks_are_measured_with_random_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {name: lambda path, name=name: path.write_text(name) for name in random_models.MADE}
    monkeypatch.setattr(random_models, "MADE", made)
    file = random_models.write_models(tmp_path, list(random_models.NETWORKS))
    assert file.name == random_models.FILE
    assert {way for way, chosen in check.WAYS.items() if chosen.is_random} == {"production", "limit", "limit-faces"}
    seeing = load([ROOT / check.WEIGHTS, file], check.WAYS["limit-faces"].knobs)
    assert (seeing.observe.detector.weights, seeing.restore.weights) == ("yolov8n", "random-gfpgan")
    for way in ("production", "limit"):
        chosen = check.WAYS[way]
        assert chosen.is_random
        config = load([ROOT / check.WEIGHTS, file], chosen.knobs)
        models = Registry.of(config, fetch).models_of(config)
        names = {role: name for role, name in models.items() if name.startswith("random-")}
        assert names == {
            "detector": "random-yolo11x",
            "body": "random-osnet-x1-0",
            "face_detector": "random-retinaface-r50",
            "restorer": "random-gfpgan",
            "face_embedding": "random-facenet",
        }
    assert load([ROOT / check.WEIGHTS, file]).observe.detector.weights == "random-yolo11m"


def people(*rows: tuple[int, int, float, float]) -> pd.DataFrame:
    """Return rows of `detections` from (frame, person, x, score)."""
    frames, persons, left, scores = map(list, zip(*rows, strict=True))
    table = pd.DataFrame({"frame_num": frames, "person_id": persons, "bb_xmin": left, "score": scores})
    return table.assign(video_id="v", bb_ymin=0.0, bb_height=100.0, bb_width=40.0, interpolated=False)


def test_card_and_cpu_are_compared_by_boxes_identities_and_ages() -> None:
    walk = [(frame, person, 100.0 * person + frame, 0.9) for frame in range(1, 11) for person in (1, 2)]
    truth = people(*walk, (10, 3, 500, 0.4)), people((1, 1, 110, 0.9), (5, 2, 210, 0.9)).assign(age=[30.0, 50.0])
    same = agreement(truth, truth, ["v"])
    assert (same.idf1, same.num_ages, same.years) == (1.0, 2, (0.0, 0.0))
    assert same.ap50 > 0.99
    moved = people(*[(frame, person, x + 30, score) for frame, person, x, score in walk])
    swapped = people(*[(frame, 3 - person if frame > 5 else person, x, score) for frame, person, x, score in walk])
    older = truth[1].assign(age=[31.0, 53.0])
    assert agreement((moved, older), truth, ["v"]).ap50 == 0
    other = agreement((swapped, older), truth, ["v"])
    assert other.idf1 < 0.6
    assert other.ap50 > 0.99
    assert other.years[0] == 2


def test_a_part_that_takes_too_long_is_interrupted_and_one_without_time_does_not_begin(tmp_path: Path) -> None:
    whole = check.Check(tmp_path, 60)
    assert whole.run("long", ["http.server", "--bind", "127.0.0.1", "0"], check.LEAST_S - 1) == ""
    assert "long: no time left" in whole.lines[0]
    check_lines = check.Check(tmp_path, 60)
    check.LEAST_S, before = 0, check.LEAST_S
    try:
        check_lines.run("long", ["http.server", "--bind", "127.0.0.1", "0"], 0.5)
    finally:
        check.LEAST_S = before
    assert "long: status interrupted" in check_lines.lines[0]
