import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from typer.testing import CliRunner, Result

from jobs.evaluate import app
from pipeline.errors import UserError
from pipeline.evaluation.attributes import COLUMNS
from pipeline.media.pictures import encode_jpeg
from pipeline.models.attributes import AttributeFile, AttributeNet, Calibration

NAMES = ("7_0_0_20170100000000001.jpg.chip.jpg", "31_1_2_20170100000000002.jpg.chip.jpg", "80_0_20170100000000003.jpg")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a registry with two estimators of random weights, one of them under the starter's name."""
    folder = tmp_path_factory.mktemp("estimators")
    extra = {}
    for number, name in enumerate(("starter-attributes", "second")):
        torch.manual_seed(number)
        file = AttributeFile(side_px=32, mirrored=False, calibration=Calibration.neutral())
        file.write(folder / f"{name}.safetensors", AttributeNet().eval())
        extra[name] = {
            "kind": "attributes",
            "uri": f"{name}.safetensors",
            "licence": "none-stated",
            "note": "made by a test",
        }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({"weights": {"extra": extra, "cache": str(folder / "cache")}}))
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, name in enumerate(NAMES):
        grain = np.random.default_rng(number).integers(0, 256, (50, 50, 3), np.uint8)
        (folder / name).write_bytes(encode_jpeg(grain, 90))
    return folder


def evaluate(config: Path, data: Path, *options: str) -> Result:
    arguments = ["attributes", "--data", str(data), "--config", str(config), "--resamples", "20", *options]
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_every_picture_has_a_row_and_every_figure_its_interval(config: Path, pictures: Path, tmp_path: Path) -> None:
    out, report = tmp_path / "out/all.csv", tmp_path / "out/all.json"
    result = evaluate(config, pictures, "--estimator", "starter", "--output", str(out), "--json", str(report))
    assert result.exit_code == 0
    rows = pd.read_csv(out)
    assert rows.columns[: len(COLUMNS)].tolist() == list(COLUMNS)
    assert {Path(path).name: (age, gender) for path, age, gender in rows[["path", "age", "gender"]].to_numpy()} == {
        NAMES[0]: (7, "M"),
        NAMES[1]: (31, "F"),
        NAMES[2]: (80, "M"),
    }
    assert (rows["age_low"] <= rows["predicted_age"]).all()
    assert (rows["predicted_age"] <= rows["age_high"]).all()
    pooled = json.loads(report.read_text())["pooled"]
    assert pooled["mae"] == pytest.approx(np.abs(rows["predicted_age"] - rows["age"]).mean(), abs=1e-4)
    for name in ("mae", "cs5", "gender_accuracy", "ece", "coverage80"):
        assert pooled[f"{name}_low"] <= pooled[name] <= pooled[f"{name}_high"] or name == "ece"
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_several_estimators_stand_in_one_table(config: Path, pictures: Path, tmp_path: Path) -> None:
    out, report = tmp_path / "all.csv", tmp_path / "all.json"
    options = ["--estimator", "second,starter", "--estimator", "second", "--output", str(out), "--json", str(report)]
    result = evaluate(config, pictures, *options, "--sizes", "16,24")
    assert "second" in result.stdout
    assert "starter-attributes" in result.stdout
    figures = json.loads(report.read_text())
    assert list(figures["estimators"]) == ["second", "starter-attributes"]
    assert figures["pooled"] == figures["estimators"]["second"]["pooled"]
    assert list(figures["by"]["copy_px"]) == ["16", "24"]
    assert len(pd.read_csv(out)) == 2 * 3 * 3
    assert [len(estimator["sha256"]) for estimator in figures["estimators"].values()] == [1, 1]


def test_a_csv_names_pictures_of_its_own(config: Path, pictures: Path, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text(f"path,age,gender\npictures/{NAMES[1]},33.5,M\n")
    out = tmp_path / "out.csv"
    evaluate(config, table, "--estimator", "starter", "--output", str(out))
    assert pd.read_csv(out)[["age", "gender"]].to_numpy().tolist() == [[33.5, "M"]]


def test_the_test_side_is_a_part(config: Path, pictures: Path, tmp_path: Path) -> None:
    for number in range(30):
        grain = np.random.default_rng(100 + number).integers(0, 256, (50, 50, 3), np.uint8)
        (pictures / f"40_1_0_201701000000001{number:02d}.jpg").write_bytes(encode_jpeg(grain, 90))
    counts = []
    for side in ("train", "validation", "test"):
        evaluate(config, pictures, "--estimator", "starter", "--output", str(tmp_path / "o.csv"), "--split", side)
        counts.append(len(pd.read_csv(tmp_path / "o.csv")))
    assert sum(counts) == 33
    assert counts[0] > counts[2] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--estimator", ","], "--estimator is empty"),
        (["--estimator", "startre"], "no weights named startre; did you mean starter"),
        (
            ["--estimator", "starter", "--sizes", "16,large"],
            "--sizes takes sides in px, got '16,large'; for example 16,32",
        ),
        (["--estimator", "starter", "--sizes", "0"], "--sizes takes sides of at least 1 px"),
    ],
)
def test_wrong_usage_is_refused_with_a_reason(
    config: Path, pictures: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        evaluate(config, pictures, "--output", str(tmp_path / "o.csv"), *options)


def test_a_picture_that_cannot_be_read_is_named(config: Path, pictures: Path, tmp_path: Path) -> None:
    (pictures / NAMES[0]).write_bytes(b"no picture")
    with pytest.raises(UserError, match=rf"{NAMES[0]} is no picture"):
        evaluate(config, pictures, "--estimator", "starter", "--output", str(tmp_path / "o.csv"))


def test_pictures_without_a_label_are_left_out(config: Path, pictures: Path, tmp_path: Path) -> None:
    (pictures / "holiday.jpg").write_bytes((pictures / NAMES[0]).read_bytes())
    out = tmp_path / "o.csv"
    result = evaluate(config, pictures, "--estimator", "starter", "--output", str(out))
    assert "1 face left out: they have neither an age nor a gender" in result.stdout
    assert len(pd.read_csv(out)) == len(NAMES)


def test_a_list_is_judged_as_far_as_its_pictures_are_there(config: Path, pictures: Path, tmp_path: Path) -> None:
    folds, out = tmp_path / "folds", tmp_path / "o.csv"
    (folds / "aligned" / "album").mkdir(parents=True)
    columns = "user_id\toriginal_image\tface_id\tage\tgender\n"
    rows = ("a.jpg\t1\t(25, 32)\tf", "b.jpg\t2\tNone\tu", "c.jpg\t3\t(4, 6)\tm")
    (folds / "fold_0_data.txt").write_text(columns + "".join(f"album\t{row}\n" for row in rows))
    for number, name in ((1, "a"), (2, "b")):
        shutil.copy(pictures / NAMES[0], folds / f"aligned/album/landmark_aligned_face.{number}.{name}.jpg")
    result = evaluate(config, folds, "--estimator", "starter", "--output", str(out))
    assert "1 face left out: their pictures are missing" in result.stdout
    assert "1 face left out: they have neither" in result.stdout
    assert pd.read_csv(out)[["age", "gender"]].to_numpy().tolist() == [[28.5, "F"]]
    with pytest.raises(UserError, match="has no picture that is there; give their folder with --pictures"):
        evaluate(config, folds, "--estimator", "starter", "--output", str(out), "--pictures", str(tmp_path / "folds"))


def test_a_limit_judges_a_part_that_the_seed_draws(config: Path, pictures: Path, tmp_path: Path) -> None:
    parts = []
    for seed in ("1", "1", "2", "3", "4"):
        options = ("--output", str(tmp_path / "o.csv"), "--limit", "1", "--seed", seed)
        evaluate(config, pictures, "--estimator", "starter", *options)
        parts.append(pd.read_csv(tmp_path / "o.csv")["path"].tolist())
    assert parts[0] == parts[1]
    assert len({path for part in parts for path in part}) > 1
