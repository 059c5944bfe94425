import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from jobs.config import app
from jobs.plan import app as plan
from jobs.shared import checks
from pipeline.config import load
from pipeline.errors import UserError
from tests.models.onnx_files import write_means

SHARED_WEIGHTS = Path(__file__).parents[1] / "conf" / "shared-weights.yaml"


def test_show_prints_yaml_that_is_the_effective_configuration() -> None:
    options = ["--config", str(SHARED_WEIGHTS), "--set", "observe.fps=4", "--set", "track.options={match_thresh: 0.9}"]
    result = CliRunner().invoke(app, ["show", *options])
    assert yaml.safe_load(result.stdout) == load([SHARED_WEIGHTS], ["observe.fps=4", options[-1]]).plain()


def test_show_names_the_layer_that_gave_a_value() -> None:
    result = CliRunner().invoke(app, ["show", "--profile", "full", "--set", "observe.fps=4"])
    lines = {line.split(":")[0].strip(): line for line in result.stdout.splitlines()}
    assert lines["fps"].endswith("# --set observe.fps=4")
    assert lines["mode"].endswith("full.yaml")
    assert "#" not in lines["cell_seconds"]


def test_validate_names_every_model_with_its_licence() -> None:
    result = CliRunner().invoke(app, ["validate", "--profile", "full"])
    assert result.exit_code == 0
    assert "detector: yolo11m (AGPL-3.0)" in result.stdout


def test_validate_refuses_a_licence_that_is_not_allowed() -> None:
    result = CliRunner().invoke(app, ["validate", "--set", "licences.allow=[MIT]"])
    assert isinstance(result.exception, UserError)
    assert "starter-person is under AGPL-3.0" in str(result.exception)


@pytest.mark.parametrize("knob", ["compute.precision=half", "compute.device=cuda"])
def test_validate_refuses_what_needs_a_card_where_there_is_none(knob: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "has_gpu", lambda: False)
    result = CliRunner().invoke(app, ["validate", "--set", knob])
    assert f"{knob} needs a GPU" in str(result.exception)


def test_validate_asks_no_cluster_for_its_cards() -> None:
    knobs = ["--set", "compute.precision=half", "--set", "run.address=ray://nowhere:10001"]
    assert "is valid" in CliRunner().invoke(app, ["validate", *knobs]).stdout


@pytest.fixture
def mine(tmp_path: Path) -> Callable[..., list[str]]:
    """Return a function that writes a configuration with an estimator of an ONNX file, and returns its options."""

    def write(*, output: str = "age", scale: float = 100, uri: str = "mine.onnx") -> list[str]:
        age = {"output": output, "form": "years", "scale": scale, "std": 6}
        options = {"input": {"size": 8, "std": 255}, "age": age}
        entry = {"kind": "onnx-estimator", "uri": uri, "licence": "MIT", "note": "made here", "options": options}
        config = {"estimate": {"estimator": "mine"}, "weights": {"cache": str(tmp_path), "extra": {"mine": entry}}}
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config))
        return ["--config", str(tmp_path / "mine.yaml")]

    return write


def write_network(folder: Path) -> None:
    write_means(folder / "mine.onnx", {"age": ([[1], [0], [0]], [0])})


def test_validate_accepts_an_onnx_file_that_fits_and_pins_nothing(
    mine: Callable[..., list[str]], tmp_path: Path
) -> None:
    write_network(tmp_path)
    result = CliRunner().invoke(app, ["validate", *mine()])
    assert "estimator: mine (MIT)\n" in result.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"mine.yaml", "mine.onnx"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"uri": "gone.onnx"}, r"weights that are not on this machine: mine \(.*gone\.onnx\); put the files there"),
        ({"uri": "."}, r"weights that are not on this machine: mine"),
        ({"uri": "mine.yaml"}, r"registry entry mine: weights .*mine\.yaml are no network that ONNX Runtime can read"),
        ({"output": "years"}, r"registry entry mine: weights .* have no output years"),
        ({"scale": 800}, r"registry entry mine, kind onnx-estimator: its ages go to 398\.4 years"),
    ],
)
def test_validate_and_plan_find_what_is_wrong_with_an_onnx_file(
    mine: Callable[..., list[str]], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    write_network(tmp_path)
    options = mine(**changes)
    for result in (
        CliRunner().invoke(app, ["validate", *options]),
        CliRunner().invoke(plan, [str(tmp_path), "--output", str(tmp_path / "out"), *options]),
    ):
        assert isinstance(result.exception, UserError)
        assert re.search(message, str(result.exception))
        assert "\n" not in str(result.exception)


def test_validate_names_a_file_whose_bytes_are_not_the_registered_ones(
    mine: Callable[..., list[str]], tmp_path: Path
) -> None:
    write_network(tmp_path)
    options = [*mine(), "--set", f"weights.extra.mine.sha256={'ab' * 32}"]
    result = CliRunner().invoke(app, ["validate", *options])
    assert re.search(r"weights mine: .*mine\.onnx must have sha256 abab", str(result.exception))


def test_validate_says_which_files_are_not_here_yet(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["validate", "--profile", "full", "--set", f"weights.cache={tmp_path}"])
    assert "detector: yolo11m (AGPL-3.0); not here yet, `process` fetches it" in result.stdout


def test_schema_is_json() -> None:
    assert json.loads(CliRunner().invoke(app, ["schema"]).stdout)["title"] == "Config"
