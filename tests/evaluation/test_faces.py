import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner, Result

from jobs.evaluate import app
from pipeline.errors import UserError
from pipeline.evaluation.faces import figures
from pipeline.media.pictures import encode_jpeg
from tests.models.onnx_files import write_means

RNG = np.random.default_rng


def units(*degrees: float) -> np.ndarray:
    radians = np.deg2rad(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def test_pairs_of_one_person_that_are_all_nearer_are_all_found() -> None:
    values = figures(units(0, 5, 90, 95, 180, 185), np.array([0, 0, 1, 1, 2, 2]), resamples=50, rng=RNG(0))
    assert (values["faces"], values["people"], values["same_pairs"], values["different_pairs"]) == (6, 3, 3, 12)
    assert (values["auc"], values["found"]) == (1.0, 1.0)
    assert values["auc_interval"] == (1.0, 1.0)


def test_half_of_the_pairs_are_right_where_nothing_is_known() -> None:
    values = figures(units(7, 7, 7, 7), np.array([0, 0, 1, 1]), resamples=0, rng=RNG(0))
    assert (values["auc"], values["found"], values["auc_interval"]) == (0.5, 0.0, None)


def test_found_are_the_pairs_above_all_but_a_hundredth_of_the_others() -> None:
    degrees = [0, 1, 60, 130, *range(200, 350, 10)]
    people = [0, 0, 1, 1, *range(2, 17)]
    values = figures(units(*degrees), np.array(people), resamples=0, rng=RNG(0))
    assert values["different_pairs"] == 169
    assert 0.5 < float(str(values["auc"])) < 1
    assert values["found"] == 0.5


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return a list of eight pictures, of two red and two green people, and of one without a name."""
    rows = ["path,age,gender,person"]
    for number, (red, person) in enumerate([(200, "a"), (190, "a"), (20, "b"), (30, "b"), (90, "")]):
        picture = np.zeros((40, 40, 3), np.uint8)
        picture[..., 0], picture[..., 1] = red, 220 - red
        (tmp_path / f"{number}.jpg").write_bytes(encode_jpeg(picture, 95))
        rows.append(f"{number}.jpg,,,{person}")
    path = tmp_path / "faces.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def run(data: Path, *options: str) -> Result:
    folder = data.parent
    write_means(folder / "mean.onnx", {"vector": (np.eye(3), [0, 0, 0])}, side="S")
    write_means(folder / "blind.onnx", {"vector": (np.zeros((3, 3)), [1, 1, 1])}, side="S")
    extra = {
        name: {
            "kind": "onnx-face-embedder",
            "uri": str(folder / f"{name}.onnx"),
            "licence": "MIT",
            "note": "made by a test",
            "options": {"input": {"size": 16}},
        }
        for name in ("mean", "blind")
    }
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump({"weights": {"extra": extra, "cache": str(folder / "cache")}}))
    arguments = ["faces", "--data", str(data), "--config", str(config), *options]
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_embedders_from_onnx_files_are_compared(data: Path) -> None:
    report = data.parent / "figures" / "faces.json"
    result = run(data, "--embedder", "mean", "--embedder", "blind", "--json", str(report))
    assert result.exit_code == 0
    embedders = json.loads(report.read_text())["embedders"]
    assert {name: figures["pooled"]["auc"] for name, figures in embedders.items()} == {"mean": 1.0, "blind": 0.5}
    assert embedders["mean"]["pooled"]["faces"] == 4
    assert "1.000" in result.stdout


def test_a_model_that_embeds_no_faces_and_data_without_people_are_refused(data: Path) -> None:
    with pytest.raises(UserError, match="--embedder must be of kind"):
        run(data, "--embedder", "starter-body")
    data.write_text("path,age,gender\n0.jpg,20,F\n1.jpg,20,F\n")
    with pytest.raises(UserError, match="no two pictures of one person"):
        run(data, "--embedder", "mean")
