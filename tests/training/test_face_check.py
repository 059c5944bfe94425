from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from numpy.testing import assert_allclose
from typer.testing import CliRunner

from jobs.shared.checks import decide_device
from jobs.train import app
from pipeline.arrays import Faces
from pipeline.boxes import pairwise_iou
from pipeline.config import load
from pipeline.evaluation.face_check import figures_of
from pipeline.models.face_check import FaceCheck, write_face_check
from pipeline.models.loading import Loader
from pipeline.models.mtcnn import Mtcnn
from pipeline.models.refined_faces import RefinedFaces
from pipeline.storage.blobs import fetch
from pipeline.training import loop
from pipeline.training.detector_inputs import Example
from pipeline.training.face_check import FaceCheckTrainingParams, Trainer, train
from pipeline.weights import Registry, sha256_of

TINY: dict[str, Any] = {"batch": 8, "size": 64, "mosaic": 0.0, "ema_decay": 0.9}


def disc(seed: int) -> Example:
    """Return a dark picture with a bright disc, and its box."""
    rng = np.random.default_rng(seed)
    picture = rng.integers(0, 60, (64, 64, 3), np.uint8)
    radius = int(rng.integers(8, 16))
    x, y = (int(rng.integers(radius, 64 - radius)) for _ in range(2))
    cv2.circle(picture, (x, y), radius, (230, 220, 210), -1)
    box = np.array([[x - radius, y - radius, x + radius, y + radius]], np.float32)
    return Example(picture, box, labelled=True)


def test_it_learns_to_find_bright_discs(tmp_path: Path) -> None:
    params = FaceCheckTrainingParams(epochs=12, learning_rate=6e-3, **TINY)
    network = train(Trainer([disc(seed) for seed in range(48)], params), loop.Run(tmp_path, {}), lambda average: {})
    write_face_check(tmp_path / "check", network, 64, {})
    check = FaceCheck(tmp_path / "check", batch=4, min_score=0.01, device="cpu", half=False)
    tests = [disc(seed) for seed in range(100, 108)]
    found = check([example.picture for example in tests])
    for faces, example in zip(found, tests, strict=True):
        assert pairwise_iou(faces.boxes[:1], example.boxes)[0, 0] > 0.4
    (empty,) = check([np.random.default_rng(0).integers(0, 60, (64, 64, 3), np.uint8)])
    assert empty.scores.max(initial=0) < min(faces.scores[0] for faces in found)


def test_an_interrupted_training_goes_on_where_it_was(tmp_path: Path) -> None:
    examples, params = [disc(seed) for seed in range(8)], FaceCheckTrainingParams(epochs=2, **TINY)
    runs = [loop.Run(tmp_path / name, {}) for name in ("whole", "parts")]
    whole = train(Trainer(examples, params), runs[0], lambda average: {})

    class KilledError(Exception):
        pass

    killed = Trainer(examples, params)

    def kill(num_steps: int, losses: object) -> None:
        if num_steps > killed.steps_per_epoch:
            raise KilledError

    with pytest.raises(KilledError):
        train(killed, runs[1], lambda average: {}, kill)
    assert runs[1].resume(**Trainer(examples, params).parts()).epoch == 1
    parts = train(Trainer(examples, params), runs[1], lambda average: {})
    for mine, other in zip(whole.parameters(), parts.parameters(), strict=True):
        assert_allclose(mine.detach(), other.detach(), atol=1e-5)


def test_the_figures_say_how_many_faceless_crops_pass_at_the_recall() -> None:
    def found(score: float) -> Faces:
        return Faces(
            np.array([[0, 0, 10, 10]], np.float32), np.array([score], np.float32), np.zeros((1, 5, 2), np.float32)
        )

    face, none = np.array([[0, 0, 10, 10]], np.float32), np.zeros((0, 4), np.float32)
    figures = figures_of([found(0.9), found(0.4), found(0.5), found(0.1)], [face, face, none, none])
    assert figures["threshold"] == pytest.approx(0.4)
    assert figures["passed"] == 0.5
    assert figures_of([found(0.9)], [face])["ap50"] > 0.9


def write_crops(folder: Path, count: int) -> None:
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    for index in range(count):
        cv2.imwrite(str(folder / "images" / f"{index}.png"), disc(index).picture)
        (folder / "labels" / f"{index}.txt").write_text("0 0.5 0.5 0.4 0.4\n" if index % 2 else "")


def command(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, ["faces", *map(str, arguments)])
    return result.stdout + str(result.exception or "")


def test_the_command_writes_a_check_that_fills_both_roles(tmp_path: Path) -> None:
    write_crops(tmp_path / "data", 8)
    write_crops(tmp_path / "others", 3)
    run = tmp_path / "run"
    options = ("--epochs", "1", "--size", "64", "--batch", "4", "--held-out", tmp_path / "others")
    assert "3 crops held out: ap50 0." in command("--data", tmp_path / "data", "--output", run, *options)
    entries = yaml.safe_load((run / "registry.yaml").read_text())["weights"]["extra"]
    assert entries["run-face-check"]["sha256"] == sha256_of(run / "face-check.safetensors")
    config = decide_device(load([run / "registry.yaml"], ["candidates.look=run-face-check", "faces.detector=run-face"]))
    loader = Loader(config, Registry.of(config, fetch))
    assert isinstance(loader.face_check(), FaceCheck)
    assert isinstance(loader.face_detector(), RefinedFaces)
    assert isinstance(loader.face_detector(in_pictures=True), Mtcnn)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [(("--size", "100"), "--size must be a multiple of 8, got 100"), (("--batch", "64"), "fewer than --batch 64")],
)
def test_settings_that_do_not_fit_are_refused(arguments: tuple[str, str], reason: str, tmp_path: Path) -> None:
    write_crops(tmp_path / "data", 4)
    assert reason in command("--data", tmp_path / "data", "--output", tmp_path / "run", *arguments)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("option", ["--data", "--held-out"])
def test_crops_without_a_face_are_refused(option: str, tmp_path: Path) -> None:
    for name in ("data", "others"):
        write_crops(tmp_path / name, 4)
    bare = tmp_path / ("data" if option == "--data" else "others")
    for file in (bare / "labels").iterdir():
        file.write_text("")
    options = ("--data", tmp_path / "data", "--held-out", tmp_path / "others", "--output", tmp_path / "run")
    assert f"no face in {option} {bare}: " in command(*options, "--batch", "4")
    (bare / "labels" / "2.txt").unlink()
    assert "have no label file in" in command(*options, "--batch", "4")
    assert not (tmp_path / "run").exists()
