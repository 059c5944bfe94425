import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from jobs.config import app
from jobs.shared import checks
from pipeline.config import load
from pipeline.errors import UserError

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


def test_schema_is_json() -> None:
    assert json.loads(CliRunner().invoke(app, ["schema"]).stdout)["title"] == "Config"
