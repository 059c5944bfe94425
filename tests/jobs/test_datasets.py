from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from skimage import data
from typer.testing import CliRunner, Result

from jobs.datasets import FORMS, app
from pipeline.corpora import csv_labels, splits
from pipeline.corpora.loading import LOADERS
from pipeline.corpora.people import read_face_crops
from pipeline.errors import UserError
from pipeline.evaluation.plots import plot_ages
from tests.shared import SHARED, needs_shared


@pytest.fixture
def utkface(tmp_path: Path) -> Path:
    """Write twelve pictures named as UTKFace's: one of them twice, one of a man of 116."""
    random = np.random.default_rng(0)
    folder = tmp_path / "utk"
    folder.mkdir()
    for age in (*range(20, 31), 116):
        picture = cv2.resize(random.integers(0, 255, (12, 12, 3), np.uint8), (64, 64))
        cv2.imwrite(str(folder / f"{age}_{age % 2}_0_201701.jpg".replace("_201701", "_20170101")), picture)
    cv2.imwrite(str(folder / "35_0_0_20170102.jpg"), cv2.imread(str(folder / "20_0_0_20170101.jpg")))  # type: ignore[arg-type]
    return folder


def test_list_names_every_form() -> None:
    result = CliRunner().invoke(app, ["list"]).stdout
    assert [line.split()[0] for line in result.splitlines()[1:]] == [form for form, *_ in FORMS]
    assert {form for form, *_ in FORMS} == set(LOADERS)


def test_clean_says_what_each_rule_took_out_and_writes_the_rest(utkface: Path, tmp_path: Path) -> None:
    (utkface / "me.jpg").write_bytes(b"")
    result = CliRunner().invoke(app, ["clean", str(utkface), "--output", str(tmp_path / "left.csv")])
    assert result.stdout.split("\n")[:3] == ["      14 pictures", "      -1 no age", "      -1 age outside 0..100"]
    assert "      12 left" in result.stdout
    assert len(csv_labels.load(tmp_path / "left.csv")) == 12
    result = CliRunner().invoke(app, ["clean", str(utkface), "--rule", "no gender"])
    assert result.stdout.split("\n")[1:3] == ["      -1 no gender", "      13 left"]
    with pytest.raises(UserError, match="--rule must be one of no age"):
        CliRunner().invoke(app, ["clean", str(utkface), "--rule", "no beard"], catch_exceptions=False)


def test_clean_applies_corrections(utkface: Path, tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("path,age,gender,drop,note\n116_0_0_20170101.jpg,16,,,\n21_1_0_20170101.jpg,,,1,\n")
    result = CliRunner().invoke(app, ["clean", str(utkface), "--corrections", str(tmp_path / "c.csv")])
    assert "      12 pictures" in result.stdout
    assert "      12 left" in result.stdout


def test_split_writes_a_side_for_every_picture(utkface: Path, tmp_path: Path) -> None:
    CliRunner().invoke(app, ["split", str(utkface), "--output", str(tmp_path / "split.csv")], catch_exceptions=False)
    side_by_name = pd.read_csv(tmp_path / "split.csv").set_index("path")["split"]
    assert len(side_by_name) == 13
    assert set(side_by_name) <= set(splits.SHARES)
    assert side_by_name["20_0_0_20170101.jpg"] == side_by_name["35_0_0_20170102.jpg"]


def test_plot_draws_the_ages(utkface: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["plot", str(utkface), "--output", str(tmp_path / "new" / "ages.png")])
    assert result.stdout.startswith("12 pictures in")
    assert "left out: 1 age outside 0..100" in result.stdout
    assert cv2.imread(str(tmp_path / "new" / "ages.png")) is not None


def test_ranges_are_hatched_over_their_years(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.axes import Axes

    drawn = []
    monkeypatch.setattr(Axes, "legend", lambda panel: drawn.append(panel))  # noqa: PLW0108 (append alone is no method)
    labels = pd.DataFrame(
        {"age_low": [3, 3, 25, np.nan], "age_high": [3, 3, 32, np.nan], "gender": ["M", "F", None, "F"]}
    )
    plot_ages(labels, tmp_path / "ages.png")
    bars = drawn[0].containers
    assert [bar.get_label() for bar in bars] == ["male, exact: 1", "female, exact: 1", "gender unknown, ranges: 1"]
    assert [patch.get_hatch() for patch in (bars[0][0], bars[2][0])] == [None, "///"]
    years = [patch.get_height() for patch in bars[2]]
    assert years[25:33] == pytest.approx([1 / 8] * 8)
    assert sum(years) == pytest.approx(1)
    assert [bars[1][3].get_y(), bars[1][3].get_height()] == [1, 1]  # stacked on the male ones


def test_align_cuts_chips_of_single_faces_with_the_default_detector(tmp_path: Path) -> None:
    """The pictures show skimage's astronaut, the astronaut twice, and a cup of coffee."""
    face = data.astronaut()[:300, 80:380]
    pictures = {"one": face, "two": np.concatenate([face, face], 1), "none": data.coffee()}
    for name, picture in pictures.items():
        cv2.imwrite(str(tmp_path / f"{name}.png"), picture[:, :, ::-1])
    (tmp_path / "raw.csv").write_text("path,age,gender\none.png,42,F\ntwo.png,42,F\nnone.png,,\n")
    out = tmp_path / "chips"
    result = CliRunner().invoke(
        app,
        ["align", str(tmp_path / "raw.csv"), "--output", str(out), "--set", "faces.input_px=320"],
        catch_exceptions=False,
    )
    assert "1 chips of 140 px" in result.stdout
    assert "1 several faces" in result.stdout
    assert "1 no face" in result.stdout
    chips = csv_labels.load(out / "labels.csv")
    assert chips[["name", "age", "gender"]].to_numpy().tolist() == [["one.png.jpg", 42, "F"]]
    chip = cv2.imread(chips["path"][0], cv2.IMREAD_COLOR_RGB)
    assert chip is not None
    assert chip.shape == (140, 140, 3)


def test_a_package_that_is_not_there_is_named_with_the_remedy(utkface: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "imagehash", None)
    monkeypatch.delitem(__import__("sys").modules, "pipeline.corpora.splits")
    monkeypatch.delattr("pipeline.corpora.splits", raising=False)
    with pytest.raises(UserError, match=r"needs the package imagehash; install it: pip install 'rollcall\[train\]'"):
        CliRunner().invoke(app, ["split", str(utkface), "--output", "x.csv"], catch_exceptions=False)


def faces(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["faces", *map(str, arguments)])


def test_faces_names_bad_pictures_and_goes_on(tmp_path: Path) -> None:
    source = tmp_path / "pictures"
    source.mkdir()
    cv2.imwrite(str(source / "b.png"), data.astronaut()[:, :, ::-1])
    (source / "a.jpg").write_bytes(b"no picture")
    (source / "notes.txt").write_text("no source")
    result = faces(source, "--output", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert f"left out: {source / 'a.jpg'} cannot be decoded as a picture" in result.stdout
    assert "1 people and 1 faces of 1 pictures" in result.stdout
    assert "; left out: 1 file that cannot be read" in result.stdout
    (crop,) = read_face_crops(tmp_path / "out")
    assert len(crop.boxes) == 1


def test_faces_of_nothing_are_refused_and_leave_nothing_behind(tmp_path: Path) -> None:
    output = tmp_path / "out"
    for name in ("empty", "broken", "nobody"):
        (tmp_path / name).mkdir()
    (tmp_path / "broken" / "a.jpg").write_bytes(b"no picture")
    cv2.imwrite(str(tmp_path / "nobody" / "a.png"), np.full((64, 64, 3), 90, np.uint8))
    reasons = {
        "absent": "there is no file or folder",
        "empty": "there is no picture or video in",
        "broken": "none of 1 file can be read; ",
        "nobody": "nobody was found in 1 picture from a score of 0.5 and a width of 48 px; lower",
    }
    for name, reason in reasons.items():
        result = faces(tmp_path / name, "--output", output)
        assert isinstance(result.exception, UserError)
        assert reason in str(result.exception)
        assert not output.exists()


@needs_shared
def test_the_seeds_counts_on_the_command_line() -> None:
    result = CliRunner().invoke(app, ["clean", str(SHARED / "labels" / "wiki.mat")]).stdout
    assert "  62,328 pictures" in result
    assert "  39,399 left" in result
