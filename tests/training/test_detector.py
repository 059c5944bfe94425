from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from numpy.testing import assert_allclose
from typer.testing import CliRunner

from jobs.shared.checks import decide_device
from jobs.train import app
from pipeline.arrays import Picture
from pipeline.config import load
from pipeline.errors import UserError
from pipeline.models.loading import Loader
from pipeline.models.person_detector import PersonDetector, write_network
from pipeline.storage.blobs import fetch
from pipeline.training import loop
from pipeline.training.detector import (
    ARCHITECTURE,
    DetectorTrainingParams,
    Trainer,
    as_detector,
    blended,
    new_network,
    pseudo_labelled,
    train,
)
from pipeline.training.detector_inputs import Example, _photometric, _view, compose
from pipeline.training.detector_losses import REG_MAX, SoftBackground, distribution_loss, feature_loss
from pipeline.weights import Registry, sha256_of

pytestmark = pytest.mark.usefixtures("no_plots")

KNOBS: dict[str, Any] = {
    "batch": 2,
    "min_score": 0.1,
    "nms_iou": 0.7,
    "max_per_frame": 50,
    "device": "cpu",
    "half": False,
}
TINY: dict[str, Any] = {"batch": 2, "sizes": (64,), "seed": 1}


def white_box(seed: int, height: int = 90, width: int = 120, labelled: bool = True) -> Example:
    """Return a picture of a white box on black, with its corners."""
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, width - 50), rng.integers(0, height - 60)
    picture = np.zeros((height, width, 3), np.uint8)
    picture[y : y + 50, x : x + 40] = 255
    return Example(picture, np.array([[x, y, x + 40, y + 50]], np.float32), labelled)


def bright(picture: Picture) -> tuple[int, int, int, int]:
    ys, xs = np.nonzero(picture[..., 0] > 190)
    return xs.min(), ys.min(), xs.max() + 1, ys.max() + 1


def test_boxes_go_where_the_picture_goes() -> None:
    """Boxes follow at all scales, shifts and mirrorings. An object outside the window has no box."""
    shown = 0
    for seed in range(60):
        window = np.zeros((64, 96, 3), np.uint8)
        boxes = _view(white_box(seed), window, 0.3, np.random.default_rng(seed))
        assert len(boxes) == 0 or np.abs(boxes[0] - bright(window)).max() <= 2.5
        shown += len(boxes)
        if not len(boxes) and (window[..., 0] > 190).any():
            left, top, right, bottom = bright(window)
            assert min(right - left, bottom - top) < 25  # a sliver is no person
    assert shown > 40


def test_four_pictures_of_one_kind_make_a_mosaic() -> None:
    examples = [white_box(seed, labelled=seed % 2 == 0) for seed in range(8)]
    counts = []
    for seed in range(20):
        picture, boxes, labelled = compose(examples, 2, 128, mosaic=True, close=0.2, rng=np.random.default_rng(seed))
        assert picture.shape == (128, 128, 3)
        assert picture.dtype == np.uint8
        assert labelled
        assert (boxes >= 0).all()
        assert (boxes <= 128).all()
        counts.append(len(boxes))
    assert max(counts) == 4
    unlabelled = [Example(each.picture, each.boxes[:0], labelled=False) for each in examples[1::2]]
    for seed in range(10):
        _, boxes, labelled = compose(
            [*examples[::2], *unlabelled], 5, 128, mosaic=True, close=0.2, rng=np.random.default_rng(seed)
        )
        assert not labelled
        assert len(boxes) == 0


def test_colours_change_and_the_picture_stays() -> None:
    coarse = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    picture = np.asarray(cv2.resize(coarse, (64, 64)), np.uint8)
    changed = [_photometric(picture, np.random.default_rng(seed)) for seed in range(30)]
    assert all(each.shape == picture.shape and each.dtype == np.uint8 for each in changed)
    likeness = [np.corrcoef(each.mean(2).ravel(), picture.mean(2).ravel())[0, 1] for each in changed]
    assert np.median(likeness) > 0.8
    assert len({each.tobytes() for each in changed}) == 30


def test_features_are_alike_whatever_their_scale() -> None:
    torch.manual_seed(0)
    teacher, other = torch.randn(2, 3, 4, 4, 4), torch.randn(2, 3, 4, 4, 4)
    teachers = {2: teacher[0], 4: teacher[1]}
    assert float(feature_loss({2: 3 * teacher[0] + 1, 4: teacher[1]}, teachers)) == pytest.approx(0, abs=1e-3)
    assert float(feature_loss({2: -teacher[0], 4: -teacher[1]}, teachers)) == pytest.approx(2, abs=1e-3)
    assert float(feature_loss({2: other[0], 4: other[1]}, teachers)) == pytest.approx(1, abs=0.3)


def test_background_is_what_the_teacher_says_and_people_are_what_labels_say() -> None:
    loss = SoftBackground()
    loss.soft = torch.tensor([[[0.4], [0.4]]])
    logits = torch.tensor([[[0.4], [0.9]]]).logit().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(logits, torch.tensor([[[0.0], [0.9]]])).sum(), logits)
    assert_allclose(gradient.numpy(), 0, atol=1e-6)


def test_distributions_count_where_the_teacher_sees_a_person() -> None:
    torch.manual_seed(0)
    teacher = torch.randn(1, 4 * REG_MAX, 3)
    student = teacher.clone()
    student[..., 2] += torch.randn(4 * REG_MAX)
    assert float(distribution_loss(student, teacher, torch.tensor([[0.9, 0.5, 0.01]]))) == pytest.approx(0, abs=1e-6)
    little, much = (float(distribution_loss(student, teacher, torch.tensor([[0.9, 0.9, last]]))) for last in (0.1, 0.9))
    assert 0 < 2 * little < much
    assert float(distribution_loss(student, teacher, torch.zeros(1, 3))) == 0


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    """Write an untrained network of two classes, of which the second is a person."""
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(5)
    network: Any = DetectionModel(ARCHITECTURE, nc=2, verbose=False)
    network.names = {0: "dog", 1: "person"}
    path = tmp_path / "teacher"
    write_network(network, ARCHITECTURE, path, {})
    return path


def run_to_the_end(folder: Path, teacher: Path, stop_after: int | None = None) -> dict[str, Any]:
    examples = [white_box(seed, labelled=seed < 3) for seed in range(4)]
    params = DetectorTrainingParams(epochs=3, quick_start=0.4, **TINY)
    trainer = Trainer(examples, params, PersonDetector(teacher, image_size=64, **KNOBS))
    run = loop.Run(folder, {})

    def advance(done: int, losses: Any) -> None:
        if losses and stop_after is not None and done > stop_after * trainer.steps_per_epoch:
            raise KeyboardInterrupt

    return train(trainer, run, lambda average: {"figure": 1.0}, advance).state_dict()


def test_a_killed_training_ends_as_an_unbroken_one(tmp_path: Path, teacher: Path) -> None:
    whole = run_to_the_end(tmp_path / "whole", teacher)
    with pytest.raises(KeyboardInterrupt):
        run_to_the_end(tmp_path / "broken", teacher, stop_after=1)
    again = run_to_the_end(tmp_path / "broken", teacher)
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    header = (tmp_path / "whole" / "history.csv").read_text().splitlines()[0]
    assert {"features", "distribution", "box", "score", "sides", "figure"} <= set(header.split(","))


def test_the_inputs_do_not_depend_on_the_number_of_workers() -> None:
    examples = [white_box(seed, labelled=seed < 3) for seed in range(5)]
    params = DetectorTrainingParams(epochs=2, passes=2, **TINY)
    trainers = [Trainer(examples, params, workers=workers) for workers in (0, 2)]
    shares = []
    for here, there in zip(*(trainer.inputs(0) for trainer in trainers), strict=True):
        assert all(torch.equal(mine, its) for mine, its in zip(here[:4], there[:4], strict=True))
        assert here.done == there.done
        shares.append(here.done)
    assert shares == pytest.approx(np.arange(0, 1, 0.1))


def test_a_training_whose_time_is_up_ends_with_weights(tmp_path: Path) -> None:
    examples = [white_box(seed) for seed in range(4)]
    params = DetectorTrainingParams(epochs=1000, minutes=0.02, **TINY)
    trainer, kept = Trainer(examples, params), []
    train(trainer, loop.Run(tmp_path, {}), lambda average: {"figure": 1.0}, lambda done, losses: None, kept.append)
    assert 0 < len(kept) < 1000
    assert len((tmp_path / "history.csv").read_text().splitlines()) == len(kept) + 1


def test_a_teacher_of_another_shape_is_refused(tmp_path: Path) -> None:
    network = new_network(0)
    for layout in ("yolov8s.yaml", "yolo11n.yaml"):
        from ultralytics.nn.tasks import DetectionModel

        network = DetectionModel(layout, nc=1, verbose=False)
        network.names = {0: "person"}  # type: ignore[assignment]
        write_network(network, layout, tmp_path / "teacher", {})
        with pytest.raises(UserError, match="must be a yolov8n"):
            Trainer([], DetectorTrainingParams(epochs=1), PersonDetector(tmp_path / "teacher", image_size=64, **KNOBS))


def test_a_training_may_begin_from_written_weights(tmp_path: Path) -> None:
    write_network(new_network(9), ARCHITECTURE, tmp_path / "weights", {})
    mine = Trainer([], DetectorTrainingParams(epochs=1, seed=2), None, tmp_path / "weights").network
    assert_allclose(mine.model[0].conv.weight.detach(), new_network(9).model[0].conv.weight.detach(), atol=1e-3)
    assert mine.model[0].conv.weight.requires_grad
    assert not mine.model[22].dfl.conv.weight.requires_grad


def test_weights_are_blended_with_those_of_the_start(tmp_path: Path) -> None:
    one, other = new_network(1), new_network(2)
    write_network(other, ARCHITECTURE, tmp_path / "start", {})
    weights = [
        network.model[0].conv.weight.detach() for network in (one, other, blended(one, tmp_path / "start", 0.25))
    ]
    assert_allclose(weights[2], 0.75 * weights[0] + 0.25 * weights[1], atol=1e-3)
    assert_allclose(one.model[0].conv.weight.detach(), weights[0])


def test_it_learns_to_find_white_boxes(tmp_path: Path) -> None:
    params = DetectorTrainingParams(
        epochs=16, batch=4, sizes=(96,), mosaic=0.0, calm=0.0, quick_start=0.0, learning_rate=4e-3, ema_decay=0.9
    )
    trainer = Trainer([white_box(seed) for seed in range(32)], params)
    network = train(trainer, loop.Run(tmp_path, {}), lambda average: {}, lambda done, losses: None)
    finder = as_detector(network, image_size=96, **KNOBS)
    found = finder([white_box(seed).picture for seed in range(100, 104)])
    for seed, each in zip(range(100, 104), found, strict=True):
        assert np.abs(each.boxes[0] - white_box(seed).boxes[0]).max() < 12
    pseudo = pseudo_labelled([white_box(100).picture], finder)[0]
    assert not pseudo.labelled
    assert len(pseudo.boxes) <= 1


def write_data(folder: Path, count: int) -> None:
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    for index in range(count):
        coarse = np.random.default_rng(index).integers(0, 256, (5, 5, 3), np.uint8)
        cv2.imwrite(str(folder / "images" / f"{index}.png"), cv2.resize(coarse, (64, 64)))
        (folder / "labels" / f"{index}.txt").write_text("0 0.5 0.5 0.4 0.6\n")


def command(*arguments: str | Path) -> str:
    return CliRunner().invoke(app, ["detector", *map(str, arguments)], catch_exceptions=False).stdout


def test_the_command_writes_weights_and_what_was_held_out(tmp_path: Path) -> None:
    write_data(tmp_path / "data", 10)
    common = ("--data", tmp_path / "data", "--output", tmp_path / "run", "--epochs", 1, "--size", 64, "--batch", 4)
    told = command(*map(str, common), "--held-out", "0.2")
    assert "2 pictures held out: ap50 0.000" in told
    names = {path.name for path in (tmp_path / "run" / "held-out").iterdir()}
    rows = (tmp_path / "run" / "held-out.csv").read_text().splitlines()
    assert len(names) == 2
    assert {row.split(",")[0] for row in rows[1:]} == names
    assert rows[1].split(",")[1:] == ["19.2", "12.8", "44.8", "51.2"]
    detector = PersonDetector(tmp_path / "run" / "detector.safetensors", image_size=64, **KNOBS)
    assert len(detector([white_box(0).picture])) == 1
    entry = yaml.safe_load((tmp_path / "run" / "registry.yaml").read_text())["weights"]["extra"]["run-person"]
    assert entry["kind"] == "yolo"
    assert entry["sha256"] == sha256_of(tmp_path / "run" / "detector.safetensors")


def test_a_detector_of_faces_serves_for_the_look(tmp_path: Path) -> None:
    write_data(tmp_path / "data", 4)
    run = tmp_path / "run"
    options = ("--name", "face", "--epochs", "1", "--size", "64", "--batch", "4")
    command("--data", tmp_path / "data", "--output", run, *options)
    config = decide_device(load([run / "registry.yaml"], ["candidates.look=run-face", "candidates.look_score=0"]))
    registry = Registry.of(config, fetch)
    assert registry.models_of(config)["look"] == "run-face"
    look = Loader(config, registry).face_check()
    assert look is not None
    (faces,) = look([white_box(0).picture])
    assert len(faces) >= 1
    assert np.isnan(faces.landmarks).all()
    with pytest.raises(UserError, match="do not know the class person, only face"):
        PersonDetector(run / "detector.safetensors", image_size=64, **KNOBS)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--size", "100"), "--size must be a multiple of 32, got 100"),
        (("--unlabelled", "clips"), "add a --teacher to label them"),
        (("--keep", "0.5"), "--keep is a share of --start"),
        (("--batch", "64"), "fewer than --batch 64; lower --batch"),
        (("--teacher", "mtcnn-onet"), "--teacher must be of kind yolo, mtcnn-onet is of kind"),
    ],
)
def test_a_mistake_is_refused_with_a_reason(tmp_path: Path, arguments: tuple[str, ...], reason: str) -> None:
    write_data(tmp_path / "data", 4)
    with pytest.raises(UserError, match=reason):
        command("--data", tmp_path / "data", "--output", tmp_path / "run", *arguments)


def test_labels_without_a_person_are_refused(tmp_path: Path) -> None:
    write_data(tmp_path / "data", 4)
    for file in (tmp_path / "data" / "labels").iterdir():
        file.write_text("")
    with pytest.raises(UserError, match=r"no person in --data \S+: "):
        command("--data", tmp_path / "data", "--output", tmp_path / "run")
