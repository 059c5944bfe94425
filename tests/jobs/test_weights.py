import hashlib
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from jobs.weights import app
from pipeline.errors import UserError

BYTES = b"weights"
SHA256 = hashlib.sha256(BYTES).hexdigest()


@pytest.fixture
def settings(tmp_path: Path) -> list[str]:
    """Write a configuration with one weights file of this machine, `mine`, and a cache of its own."""
    (tmp_path / "mine.pt").write_bytes(BYTES)
    extra = {"mine": {"kind": "reid", "uri": "mine.pt", "sha256": SHA256, "licence": "MIT"}}
    config = {"weights": {"cache": str(tmp_path / "cache"), "extra": extra}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config))
    return ["--config", str(tmp_path / "mine.yaml")]


def test_list_shows_every_entry_and_marks_what_the_configuration_uses(settings: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["list", *settings, "--profile", "full", "--set", "observe.body.weights=mine"])
    rows = {line[1:].split()[0]: line for line in result.stdout.splitlines()[1:]}
    assert rows["mine"].startswith("*")
    assert str(tmp_path / "mine.pt") in rows["mine"]
    assert rows["osnet-x1-0-msmt17"].startswith(" ")
    assert rows["retinaface-r50"].split()[-4:] == ["at", "first", "pull", "no"]
    assert rows["bosch-heads"].startswith("*")


def test_pull_prints_file_and_sha256(settings: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["pull", "mine", *settings])
    assert result.stdout.strip() == f"mine: {tmp_path / 'mine.pt'}, sha256 {SHA256}"


def test_pull_pins_what_nobody_published_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "new.pt").write_bytes(BYTES)
    extra = {"new": {"kind": "reid", "uri": "new.pt", "licence": "MIT", "note": "just trained"}}
    (tmp_path / "new.yaml").write_text(yaml.safe_dump({"weights": {"cache": str(tmp_path / "cache"), "extra": extra}}))
    options = ["--config", str(tmp_path / "new.yaml")]
    assert "no sha256 known" in CliRunner().invoke(app, ["verify", "new", *options]).stdout
    assert "pinned" in CliRunner().invoke(app, ["pull", "new", *options]).stdout
    assert CliRunner().invoke(app, ["verify", "new", *options]).exit_code == 0


def test_verify_finds_other_bytes_and_missing_files(settings: list[str], tmp_path: Path) -> None:
    sound = CliRunner().invoke(app, ["verify", "mine", *settings])
    assert (sound.exit_code, sound.stdout.split(",")[0]) == (0, "mine: verified")
    (tmp_path / "mine.pt").write_bytes(b"something else")
    changed = CliRunner().invoke(app, ["verify", "mine", *settings])
    assert (changed.exit_code, changed.stdout.split(",")[0]) == (1, "mine: other bytes")
    (tmp_path / "mine.pt").unlink()
    missing = CliRunner().invoke(app, ["verify", "mine", *settings])
    assert (missing.exit_code, missing.stdout.strip()) == (1, "mine: missing")


def test_verify_all_minds_other_bytes_but_not_what_was_never_fetched(settings: list[str]) -> None:
    result = CliRunner().invoke(app, ["verify", "--all", *settings])
    assert result.exit_code == 0
    assert "yolo11m: missing" in result.stdout
    assert "mine: verified" in result.stdout


def test_mirror_leaves_out_files_of_this_machine_and_says_when_nothing_is_left(
    settings: list[str], tmp_path: Path
) -> None:
    result = CliRunner().invoke(app, ["mirror", str(tmp_path / "mirror"), "mine", *settings])
    assert "mine: left out" in result.stdout
    assert "nothing to copy" in result.stdout
    assert not (tmp_path / "mirror").exists()


def test_names_and_all_exclude_each_other(settings: list[str]) -> None:
    result = CliRunner().invoke(app, ["pull", "mine", "--all", *settings])
    assert isinstance(result.exception, UserError)
