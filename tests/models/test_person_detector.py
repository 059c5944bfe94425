from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torchvision  # noqa: F401  (the suppression of the library takes another path where this is not loaded)
import ultralytics
from numpy.testing import assert_array_equal

from pipeline.arrays import Detections, Picture
from pipeline.boxes import pairwise_iou
from pipeline.errors import UserError
from pipeline.models.networks import write_checkpoint
from pipeline.models.person_detector import CLASS_OFFSET, GREY, Fit, PersonDetector, of_class, suppress, write_network
from tests.shared import SHARED, needs_shared

ASSETS = Path(ultralytics.__file__).parent / "assets"
KNOBS: dict[str, Any] = {"min_score": 0.1, "nms_iou": 0.7, "max_per_frame": 300, "device": "cpu", "half": False}


def asset(name: str) -> Picture:
    picture = cv2.imread(str(ASSETS / name), cv2.IMREAD_COLOR_RGB)
    assert picture is not None
    return np.asarray(picture, np.uint8)


def noise(seed: int, height: int = 48, width: int = 64) -> Picture:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture(scope="module")
def yolov8n() -> PersonDetector:
    return PersonDetector(SHARED / "weights" / "yolov8n.pt", image_size=640, batch=4, **KNOBS)


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that writes a checkpoint in the layout of Ultralytics.

    The values are random, and the scores are spread over 0..1.
    """

    def write(layout: str, names: dict[int, str], task: str = "detect") -> Path:
        from ultralytics.nn.tasks import DetectionModel

        torch.manual_seed(3)
        network = DetectionModel(layout, nc=len(names), verbose=False)
        for name, tensor in network.named_parameters():
            if "cv3" in name and name.endswith((".2.weight", ".2.bias")):
                tensor.data = 2 * torch.randn_like(tensor) - 1
        vars(network).update(names=names, task=task)
        path = tmp_path_factory.mktemp("weights") / "0123456789abcdef"  # the cache names files without a suffix
        torch.save({"model": network, "train_args": {}}, path)
        return path

    return write


def test_each_picture_gets_the_same_bits_whatever_its_place_and_its_neighbours(
    untrained: Callable[..., Path],
) -> None:
    path = untrained("yolov8n.yaml", {0: "person", 1: "dog"})
    detector = PersonDetector(path, image_size=64, batch=4, **{**KNOBS, "min_score": 0.2})
    pictures = [noise(seed) for seed in range(6)]
    (first,) = detector(pictures[:1])
    assert len(first) > 3
    for others in ([pictures[0], pictures[1]], [*pictures[1:], pictures[0]], [pictures[5], *pictures[:4]]):
        detections = detector(others)[[id(p) for p in others].index(id(pictures[0]))]
        assert_array_equal(detections.boxes, first.boxes)
        assert_array_equal(detections.scores, first.scores)


def test_batches_have_one_shape_however_many_pictures_there_are(untrained: Callable[..., Path]) -> None:
    detector = PersonDetector(untrained("yolov8n.yaml", {0: "person"}), image_size=64, batch=4, **KNOBS)
    shapes: list[tuple[int, ...]] = []
    detector._network.register_forward_pre_hook(lambda _, inputs: shapes.append(tuple(inputs[0].shape)))
    for count in (1, 3, 4, 6):
        detector([noise(seed) for seed in range(count)])
    assert shapes == [(4, 3, 64, 64)] * 5
    detector([noise(seed, 60, 120) for seed in range(2)], alone=True)
    assert shapes[5:] == [(1, 3, 32, 64)] * 2


@pytest.mark.parametrize("layout", ["yolov8n.yaml", "yolo11n.yaml", "yolov10n.yaml", "yolo26n.yaml"])
def test_networks_with_and_without_suppression_give_boxes_in_the_picture_by_falling_score(
    untrained: Callable[..., Path], layout: str
) -> None:
    path = untrained(layout, {0: "dog", 1: "person"})
    detector = PersonDetector(path, image_size=64, batch=2, **{**KNOBS, "min_score": 0.2, "max_per_frame": 20})
    (detections,) = detector([noise(1, 100, 200)])
    assert 0 < len(detections) <= 20
    assert (np.diff(detections.scores) <= 0).all()
    assert (detections.scores >= np.float32(0.2)).all()
    assert (detections.boxes >= 0).all()
    assert (detections.boxes <= [200, 100, 200, 100]).all()
    assert (detections.boxes[:, 2:] > detections.boxes[:, :2]).all()
    assert_array_equal(detections.boxes, np.round(detections.boxes, 1))
    assert_array_equal(detections.scores, np.round(detections.scores, 3))


def test_pictures_of_several_sizes_come_back_in_their_order(untrained: Callable[..., Path]) -> None:
    path = untrained("yolov8n.yaml", {0: "person"})
    detector = PersonDetector(path, image_size=64, batch=2, **KNOBS)
    pictures = [noise(1), noise(2, 90, 40), noise(3), noise(4, 2, 64), noise(5, 90, 40)]
    for picture, detections in zip(pictures, detector(pictures), strict=True):
        (expected,) = detector([picture])
        assert_array_equal(detections.boxes, expected.boxes)


@pytest.mark.parametrize(("target", "num_classes"), [(0, 1), (0, 3), (1, 3), (2, 3)])
def test_people_are_chosen_as_the_library_chooses_them(target: int, num_classes: int) -> None:
    """The rows and their order are the same in crowds of boxes with many equal scores."""
    from ultralytics.utils.nms import non_max_suppression

    random = np.random.default_rng(target)
    for iou in (0.4, 0.7):
        prediction = np.empty((3, 4 + num_classes, 700), np.float32)
        prediction[:, :2] = random.uniform(0, 640, (3, 2, 700))
        prediction[:, 2:4] = random.uniform(1, 200, (3, 2, 700))
        prediction[:, 4:] = random.integers(0, 21, (3, num_classes, 700)) / np.float32(20)
        theirs: Any = non_max_suppression(
            torch.from_numpy(prediction.copy()), 0.0995, iou, [target], max_det=60, nc=num_classes
        )
        candidates = of_class(torch.from_numpy(prediction), target, num_classes).numpy()
        for one, other in zip(candidates, theirs, strict=True):
            ours = suppress(one, np.float32(0.0995), iou, 60, offset=CLASS_OFFSET * np.float32(target))
            assert 20 < len(ours) <= 60
            assert_array_equal(ours, other[:, :5].numpy())


def test_a_network_that_knows_no_persons_is_refused(untrained: Callable[..., Path]) -> None:
    path = untrained("yolov8n.yaml", {0: "dog", 1: "cat"})
    with pytest.raises(UserError, match="do not know the class person, only dog, cat"):
        PersonDetector(path, image_size=64, batch=1, **KNOBS)


def test_a_network_for_another_task_is_refused(untrained: Callable[..., Path]) -> None:
    path = untrained("yolov8n.yaml", {0: "person"}, task="segment")
    with pytest.raises(UserError, match="for the task 'segment'"):
        PersonDetector(path, image_size=64, batch=1, **KNOBS)


@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04 cut off", b"hello, this is text", b"M"])
def test_a_file_that_is_no_checkpoint_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "weights").write_bytes(content)
    with pytest.raises(UserError, match="are no detector of Ultralytics") as refusal:
        PersonDetector(tmp_path / "weights", image_size=64, batch=1, **KNOBS)
    assert "\n" not in str(refusal.value)


def test_a_checkpoint_that_wants_to_run_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"model": Evil()}, tmp_path / "weights")
    with pytest.raises(UserError, match="are no detector of Ultralytics"):
        PersonDetector(tmp_path / "weights", image_size=64, batch=1, **KNOBS)
    assert not (tmp_path / "ran").exists()


def test_a_network_written_by_us_finds_what_it_found(untrained: Callable[..., Path], tmp_path: Path) -> None:
    checkpoint = untrained("yolov8n.yaml", {0: "person", 1: "dog"})
    network = torch.load(checkpoint, weights_only=False)["model"].half().float()  # in half precision, as it is written
    torch.save({"model": network, "train_args": {}}, tmp_path / "checkpoint")
    write_network(network, "yolov8n.yaml", tmp_path / "0123456789abcdef", {"note": "untrained"})
    assert (tmp_path / "0123456789abcdef").stat().st_size < 7e6
    theirs, ours = (
        PersonDetector(tmp_path / name, image_size=64, batch=2, **KNOBS) for name in ("checkpoint", "0123456789abcdef")
    )
    (expected,), (detections,) = theirs([noise(1)]), ours([noise(1)])
    assert len(detections) > 3
    assert_array_equal(detections.boxes, expected.boxes)
    assert_array_equal(detections.scores, expected.scores)


@pytest.mark.parametrize("facts", [{"note": "another model"}, {"architecture": "none.yaml", "names": {"0": "person"}}])
def test_a_safetensors_file_of_another_model_is_refused(tmp_path: Path, facts: dict[str, Any]) -> None:
    write_checkpoint(tmp_path / "weights", {"weight": torch.zeros(2)}, facts, half=True)
    with pytest.raises(UserError, match="are no detector that `rollcall train detector` wrote"):
        PersonDetector(tmp_path / "weights", image_size=64, batch=1, **KNOBS)


def test_tensors_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    facts = {"architecture": "yolov8n.yaml", "names": {"0": "person"}}
    write_checkpoint(tmp_path / "weights", {"weight": torch.zeros(2)}, facts, half=True)
    with pytest.raises(UserError, match="do not fit DetectionModel"):
        PersonDetector(tmp_path / "weights", image_size=64, batch=1, **KNOBS)


@pytest.mark.parametrize(("width", "height"), [(640, 480), (480, 640), (1920, 1080), (2, 2), (999, 3)])
def test_a_box_of_the_sample_goes_back_to_where_it_was_in_the_picture(width: int, height: int) -> None:
    fit = Fit.of(width, height, 320)
    assert max(fit.out_width, fit.out_height) == 320
    assert fit.out_width % 32 == fit.out_height % 32 == 0
    sample = np.zeros((fit.out_height, fit.out_width, 3), np.uint8)
    fit.paste(np.full((height, width, 3), 255, np.uint8), sample)
    ys, xs = np.nonzero(sample[..., 0] == 255)
    assert set(np.unique(sample)) <= {GREY, 255}
    whole = np.array([[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]], np.float32)
    assert_array_equal(np.round(fit.back(whole), 3), [[0, 0, width, height]])


@needs_shared
def test_people_are_found_where_the_library_finds_them(yolov8n: PersonDetector) -> None:
    from ultralytics import YOLO

    reference = YOLO(str(SHARED / "weights" / "yolov8n.pt"))
    for name in ("bus.jpg", "zidane.jpg"):
        (detections,) = yolov8n([asset(name)])
        result: Any = reference.predict(
            asset(name)[..., ::-1], conf=0.1, iou=0.7, classes=[0], imgsz=640, verbose=False
        )
        theirs = result[0].boxes
        order = np.argsort(-theirs.conf.numpy(), kind="stable")
        assert np.abs(detections.boxes - theirs.xyxy.numpy()[order]).max() < 0.2
        assert np.abs(detections.scores - theirs.conf.numpy()[order]).max() < 0.002


@needs_shared
def test_nobody_is_found_on_a_grey_wall(yolov8n: PersonDetector) -> None:
    (detections,) = yolov8n([np.full((360, 640, 3), 128, np.uint8)])
    assert isinstance(detections, Detections)
    assert detections.boxes.shape == (0, 4)


@needs_shared
def test_real_pictures_get_the_same_bits_in_every_place(yolov8n: PersonDetector) -> None:
    bus = asset("bus.jpg")
    (first,) = yolov8n([bus])
    mirrored, *_, last = yolov8n([bus[:, ::-1].copy(), bus[::-1].copy(), bus // 2, bus])
    assert_array_equal(last.boxes, first.boxes)
    assert_array_equal(last.scores, first.scores)
    assert not np.array_equal(mirrored.boxes, first.boxes)


@needs_shared
def test_half_precision_moves_boxes_by_less_than_a_pixel(yolov8n: PersonDetector) -> None:
    half = PersonDetector(SHARED / "weights" / "yolov8n.pt", image_size=640, batch=1, **{**KNOBS, "half": True})
    people, same = (detector([asset("bus.jpg")], alone=True)[0] for detector in (yolov8n, half))
    assert len(people) == len(same)
    assert 0 < np.abs(people.boxes - same.boxes).max() < 1
    assert np.abs(people.scores - same.scores).max() < 0.01


def test_the_detector_that_ships_finds_people() -> None:
    path = Path(__file__).parents[2] / "weights" / "starter-person.safetensors"
    detector = PersonDetector(path, image_size=416, batch=1, **{**KNOBS, "min_score": 0.45})
    (detections,) = detector([asset("bus.jpg")])
    theirs = np.array([[50, 399, 245, 903], [222, 406, 345, 858]], np.float32)  # boxes of YOLOv8n
    assert (pairwise_iou(theirs, detections.boxes).max(axis=1) > 0.6).all()
    assert path.stat().st_size < 7e6
