"""Tests of the commands that train and measure, on a few pictures. Their files are loaded and used as their messages
say."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from numpy.testing import assert_allclose
from typer.testing import CliRunner

from jobs.evaluate import app as evaluate_app
from jobs.train import app as train_app
from jobs.train import device as devices
from pipeline.config import load
from pipeline.errors import UserError
from pipeline.media.film import write_mp4
from pipeline.media.pictures import encode_jpeg
from pipeline.models.body_embedder import build_osnet
from pipeline.models.estimator import HeadsEstimator, NetworkEstimator
from pipeline.models.loading import Loader
from pipeline.models.mobilefacenet import MobileFaceNet
from pipeline.storage.blobs import fetch
from pipeline.weights import Registry

NUM_FACES = 48


def run(app: object, *arguments: object) -> str:
    device = ("--device", "cpu") if app is train_app and "--device" not in arguments else ()
    result = CliRunner().invoke(app, [str(argument) for argument in (*arguments, *device)], catch_exceptions=False)  # type: ignore
    assert result.exit_code == 0, result.output
    return result.output


def noise(seed: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faces")
    for number in range(NUM_FACES):
        name = f"{1 + 2 * number}_{number % 2}_0_201701000000000{number:02d}.jpg"
        (folder / name).write_bytes(encode_jpeg(noise(number, 40, 40), 90))
    return folder


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a registry with a MobileFaceNet and an OSNet of random weights."""
    folder = tmp_path_factory.mktemp("registry")
    torch.manual_seed(0)
    torch.save({"net_state_dict": MobileFaceNet().state_dict()}, folder / "mobilefacenet")
    torch.save(build_osnet("osnet_x0_25").state_dict(), folder / "osnet")
    common = {"licence": "none-stated", "note": "made by a test"}
    extra = {name: {"kind": kind, "uri": name, **common} for name, kind in (("mobilefacenet",) * 2, ("osnet", "reid"))}
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({"weights": {"extra": extra, "cache": str(folder / "cache")}}))
    return path


def opened(fragment: Path, estimator: str, *settings: str) -> Loader:
    chosen = ["compute.device=cpu", f"estimate.estimator={estimator}", *settings]
    config = load([fragment], chosen)
    registry = Registry.of(config, fetch)
    registry.models_of(config)
    return Loader(config, registry)


def test_heads_come_with_an_entry_that_is_used_at_once(faces: Path, config: Path, tmp_path: Path) -> None:
    output = tmp_path / "heads"
    options = ("--data", faces, "--embedder", "mobilefacenet", "--output", output, "--epochs", 2, "--config", config)
    printed = run(train_app, "heads", *options)
    assert f"--config {output / 'registry.yaml'} --set estimate.estimator=mobilefacenet-heads" in printed
    cache = f"weights.cache={tmp_path}"
    loader = opened(output / "registry.yaml", "mobilefacenet-heads", "estimate.face_embedding=mobilefacenet", cache)
    estimator, embedder = loader.estimator(), loader.face_embedder()
    assert isinstance(estimator, HeadsEstimator)
    assert embedder is not None
    assert embedder(noise(0, 64, 64)[None]).shape == (1, 128)
    assert len(estimator(noise(0, 64, 64)[None]).ages) == 1
    figures = json.loads((output / "figures.json").read_text())
    sides = pd.read_csv(output / "split.csv")["side"]
    assert figures["pictures"] == (sides == "test").sum() > 0
    # The same command again has nothing left to do and gives the same figures.
    run(train_app, "heads", *options)
    again = json.loads((output / "figures.json").read_text())
    assert {**again, "seconds": 0} == {**figures, "seconds": 0}


def test_heads_on_something_that_embeds_no_faces_are_refused(faces: Path, config: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must be of kind facenet or mobilefacenet, osnet is of kind reid"):
        run(train_app, "heads", "--data", faces, "--embedder", "osnet", "--output", tmp_path / "x", "--config", config)


def test_networks_test_each_fold_on_faces_that_it_did_not_see(faces: Path, tmp_path: Path) -> None:
    output = tmp_path / "networks"
    options = ("--folds", 3, "--fold", 0, "--fold", 2, "--epochs", 1, "--batch", 8)
    printed = run(train_app, "networks", "--network", "ssrnet", "--data", faces, "--output", output, *options)
    assert "from random weights" in printed
    table = pd.read_csv(output / "folds.csv")
    assert table["fold"].tolist() == [0, 2]
    parts = pd.read_csv(output / "split.csv", dtype=str).set_index("name")["side"]
    for fold in (0, 2):
        predictions = pd.read_csv(output / f"fold-{fold}/predictions.csv")
        assert sorted(Path(path).name for path in predictions["path"]) == sorted(parts.index[parts == str(fold)])
    cache = f"weights.cache={tmp_path}"
    estimator = opened(output / "registry.yaml", "ssrnet-2", cache).estimator()
    assert isinstance(estimator, NetworkEstimator)
    mae = np.abs(predictions["predicted_age"] - predictions["age"]).mean()
    assert mae == pytest.approx(table["mae"][1], abs=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--fold", 10), "must be 0 … 9, got 10"),
        (("--crops", 5), "must be 10 or 1, got 5"),
    ],
)
def test_impossible_folds_and_crops_are_refused(
    options: tuple[object, ...], message: str, faces: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        run(train_app, "networks", "--network", "ssrnet", "--data", faces, "--output", tmp_path / "x", *options)


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write crops of six people of one colour each, two under each of two cameras."""
    folder = tmp_path_factory.mktemp("crops")
    for person in range(6):
        colour = np.random.default_rng(person).integers(0, 256, 3)
        for index in (0, 1, 5, 6):
            picture = (np.full((80, 30, 3), colour) + noise(person * 10 + index, 80, 30) // 8).clip(0, 255)
            (folder / f"{person:04d}_{index:02d}.jpg").write_bytes(encode_jpeg(picture.astype(np.uint8), 95))
    return folder


def test_a_body_embedder_is_trained_written_and_measured(crops: Path, config: Path, tmp_path: Path) -> None:
    output = tmp_path / "reid"
    options = ("--held-out", 2, "--validated", 1, "--epochs", 1, "--people-per-batch", 2, "--teacher", "osnet")
    run(train_app, "reid", "--data", crops, "--output", output, "--config", config, *options)
    assert pd.read_csv(output / "history.csv").columns.tolist()[:2] == ["epoch", "seconds"]
    video, truth = tmp_path / "walk.mp4", tmp_path / "gt.txt"
    picture = noise(0, 96, 128) // 4
    picture[:, :48, 0] += 180
    picture[:, 48:, 2] += 180
    with video.open("wb") as file:
        write_mp4(file, [picture] * 9, fps=3, keyframe_every=3)
    truth.write_text("".join(f"{k},1,0,0,30,90,1\n{k},2,60,0,30,90,1\n" for k in range(1, 10)))
    report = tmp_path / "figures.json"
    options = ("--people", crops, "--held-out", 2, "--video", video, "--truth", truth, "--json", report)
    written = ("--weights", "reid-body", "--config", output / "registry.yaml")
    run(evaluate_app, "reid", *written, "--resamples", 5, *options)
    figures = json.loads(report.read_text())
    assert figures["pooled"].keys() >= {"rank1", "map", "auc"}
    embedder = figures["embedders"]["reid-body"]
    assert embedder["cameras"]["first_to_second"]["queries"] == 4
    assert embedder["cameras"]["all"]["queries"] == 8
    # With nine frames at three per second, 6 + 5 + … + 1 pairs are at least a second apart.
    assert embedder["videos"]["walk.mp4"]["same_pairs"] == embedder["videos"]["walk.mp4"]["different_pairs"] == 2 * 21
    # In a still picture, every track looks the same all the time.
    assert_allclose(figures["pooled"]["auc"], 1, atol=0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "there is nothing to measure"),
        (("--video", "a.mp4"), "got 1 --video and 0 --truth; give one of each per video"),
    ],
)
def test_missing_inputs_for_measuring_are_named(options: tuple[str, ...], message: str, config: Path) -> None:
    with pytest.raises(UserError, match=message):
        run(evaluate_app, "reid", "--weights", "osnet", "--config", config, *options)


def test_crops_without_names_need_a_teacher(crops: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="add a --teacher"):
        run(train_app, "reid", "--data", crops, "--output", tmp_path / "x", "--unlabelled", crops)


REQUIRED = {
    "attributes": (),
    "detector": (),
    "heads": ("--embedder", "mobilefacenet"),
    "networks": ("--network", "ssrnet"),
    "reid": (),
}


@pytest.mark.parametrize("command", REQUIRED)
def test_every_training_goes_to_the_device_that_is_named(
    command: str, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "has_gpu", lambda: False)
    options = ("--data", faces, "--output", tmp_path / "x", *REQUIRED[command], "--device", "cuda")
    with pytest.raises(UserError, match="--device cuda: torch finds no NVIDIA GPU here; "):
        run(train_app, command, *options)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("named", "gpu", "taken"),
    [("auto", False, "cpu"), ("auto", True, "cuda"), ("cpu", True, "cpu"), ("cuda", True, "cuda")],
)
def test_auto_takes_a_gpu_where_there_is_one(
    named: str, gpu: bool, taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "has_gpu", lambda: gpu)
    assert devices.decided(devices.Device(named)) == taken
