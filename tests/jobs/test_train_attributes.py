import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from jobs.train import app
from pipeline.errors import UserError
from pipeline.media.pictures import encode_jpeg
from pipeline.models.attributes import AttributeFile, AttributeNet, Calibration, load_attributes


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 40 pictures of noise, named as UTKFace's."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for number in range(40):
        grain = rng.integers(0, 256, (16, 16, 3), np.uint8).repeat(3, 0).repeat(3, 1)
        name = f"{rng.integers(1, 90)}_{number % 2}_0_2017{number:013d}.jpg.chip.jpg"
        (folder / name).write_bytes(encode_jpeg(grain, 95))
    return folder


def train(pictures: Path, output: Path, *options: str) -> Result:
    arguments = ["attributes", "--data", str(pictures), "--output", str(output), "--epochs", "1", "--no-mirrored"]
    return CliRunner().invoke(app, [*arguments, "--device", "cpu", *options], catch_exceptions=False)


def test_a_run_ends_with_a_file_and_its_figures_and_resumes_from_its_folder(pictures: Path, tmp_path: Path) -> None:
    assert train(pictures, tmp_path / "run", "--batch", "16").exit_code == 0
    path = tmp_path / "run/starter-attributes.safetensors"
    network, file = load_attributes(path)
    assert (file.side_px, file.mirrored) == (96, False)
    sides = pd.read_csv(tmp_path / "run/split.csv")
    rows = pd.read_csv(tmp_path / "run/test.csv")
    originals = rows[rows["copy_px"] == 0] if "copy_px" in rows else rows
    assert {Path(path).name for path in originals["path"]} == set(sides["name"][sides["side"] == "test"])
    pooled = json.loads((tmp_path / "run/test.json").read_text())["pooled"]
    assert pooled["mae"] == pytest.approx(np.abs(originals["predicted_age"] - originals["age"]).mean(), abs=1e-4)
    history = (tmp_path / "run/history.csv").read_text()

    assert train(pictures, tmp_path / "run", "--batch", "16").exit_code == 0
    again, _ = load_attributes(path)
    assert (again.heads.weight == network.heads.weight).all()
    assert (tmp_path / "run/history.csv").read_text() == history


def test_too_few_pictures_are_refused_with_a_reason(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--batch 64 exceeds the"):
        train(pictures, tmp_path / "run", "--batch", "64")
    alone = tmp_path / "alone"
    alone.mkdir()
    picture = next(iter(pictures.iterdir()))
    (alone / picture.name).write_bytes(picture.read_bytes())
    with pytest.raises(UserError, match="has too few pictures: no picture falls to"):
        train(alone, tmp_path / "other")


def test_a_blend_needs_a_start(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="give --start FILE"):
        train(pictures, tmp_path / "run", "--blend", "0.5")


def test_a_start_of_another_width_is_refused(pictures: Path, tmp_path: Path) -> None:
    start = tmp_path / "narrow.safetensors"
    file = AttributeFile(side_px=48, mirrored=False, calibration=Calibration.neutral(), width=0.5)
    file.write(start, AttributeNet(width=0.5))
    with pytest.raises(UserError, match=r"has a network of width 0\.5; give --width 0\.5"):
        train(pictures, tmp_path / "run", "--start", str(start))
    whole = tmp_path / "whole.safetensors"
    replace(file, width=1.0).write(whole, AttributeNet())
    with pytest.raises(UserError, match=r"width 0\.5, and --start one of 1; give the file from which"):
        train(pictures, tmp_path / "run", "--start", str(whole), "--calibrate", str(start))
    assert not (tmp_path / "run").exists()
