from pathlib import Path
from typing import Any

import cv2
import facenet_pytorch
import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from pipeline.arrays import Faces, Picture
from pipeline.errors import UserError
from pipeline.interfaces import FaceDetector
from pipeline.models.face_check import FaceCheckNet, boxes_of, write_face_check
from pipeline.models.face_detector import NO_FACES
from pipeline.models.loading import WHOLE, load_face_detector
from pipeline.models.mtcnn import Mtcnn
from pipeline.models.refined_faces import RefinedFaces
from pipeline.training.face_check import targets_of
from tests.models.test_face_detector import portrait
from tests.shared import needs_shared

KNOBS: dict[str, Any] = {"input_px": 96, "batch": 4, "min_score": 0.5, "device": "cpu", "half": False}
ALL_SCORES: dict[str, Any] = KNOBS | {"min_score": 0.0}
ONET = Path(facenet_pytorch.__file__).parent / "data/onet.pt"


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a network of random weights, whose scores vary around .5."""
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("weights") / "check.safetensors"
    write_face_check(path, FaceCheckNet(), 96, {})
    return path


def noise(seed: int, height: int = 48, width: int = 64) -> Picture:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height)), np.uint8)


def check_of(path: Path) -> FaceDetector:
    return load_face_detector("face-check", {WHOLE: path}, **ALL_SCORES)


def assert_same(a: Faces, b: Faces) -> None:
    assert_array_equal(a.boxes, b.boxes)
    assert_array_equal(a.scores, b.scores)


def test_a_crop_is_checked_alike_whatever_its_place_and_neighbours(untrained: Path) -> None:
    check, crop = check_of(untrained), noise(1)
    others = [noise(seed, 120, 90) for seed in range(2, 7)]
    (alone,) = check([crop])
    assert len(alone)
    assert np.isnan(alone.landmarks).all()
    for place in (0, 3, 5):
        assert_same(check([*others[:place], crop, *others[place:]])[place], alone)
    assert check([]) == []


def test_the_targets_of_a_box_are_what_the_network_must_return_for_it() -> None:
    box = np.array([[30.0, 17.0, 61.0, 58.0]])
    targets, places = targets_of(box, 96)
    rows, columns = np.nonzero(targets == 1)
    assert 1 <= len(rows) < (targets != 0).sum() < 40
    boxes = boxes_of(places[:, rows, columns].T, np.stack([columns, rows], axis=1))
    assert np.abs(boxes - box).max() < 1e-3


def test_a_face_too_small_to_see_is_neither_right_nor_wrong() -> None:
    targets, places = targets_of(np.array([[40.0, 40.0, 44.0, 45.0]]), 96)
    assert np.isnan(targets).sum() == 1
    assert np.nansum(targets) == 0
    assert np.isnan(places).all()


def test_of_two_faces_in_one_place_the_smaller_one_keeps_its_cells() -> None:
    large, small = [8.0, 8.0, 88.0, 88.0], [40.0, 40.0, 56.0, 56.0]
    for boxes in ([large, small], [small, large]):
        _, places = targets_of(np.array(boxes), 96)
        assert_array_equal(np.exp(places[2, 5, 5]).round(3), 2.0)


def test_weights_of_another_kind_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"layer.weight": torch.zeros(3)}, path)
    with pytest.raises(UserError, match="hold no network of kind face-check") as error:
        load_face_detector("face-check", {WHOLE: path}, **KNOBS)
    assert "\n" not in str(error.value)


class RoughPlaces:
    """Stands for the check: it finds what it is told."""

    def __init__(self, boxes: dict[int, np.ndarray]) -> None:
        self._boxes = boxes

    def __call__(self, crops: list[Picture]) -> list[Faces]:
        places = [self._boxes.get(id(crop), np.zeros((0, 4), np.float32)) for crop in crops]
        return [Faces(p, np.ones(len(p), np.float32), np.full((len(p), 5, 2), np.nan, np.float32)) for p in places]


def refined(path: Path, places: RoughPlaces | None = None) -> RefinedFaces:
    detector = RefinedFaces(path, ONET, **KNOBS)
    if places:
        detector._check = places  # type: ignore[assignment]
    return detector


def test_crops_without_a_place_and_places_without_a_face_give_none(untrained: Path) -> None:
    grey, other = np.full((80, 60, 3), 90, np.uint8), noise(2, 90, 40)
    outside = np.array([[-30, -30, 10, 12], [50, 70, 90, 120], [20, 20, 20.5, 20.5]], np.float32)
    detect = refined(untrained, RoughPlaces({id(grey): outside}))
    assert [len(faces) for faces in detect([other, grey])] == [0, 0]
    assert detect([other])[0] is NO_FACES
    assert detect([]) == []


@needs_shared
def test_a_rough_place_becomes_the_face_that_mtcnn_finds(untrained: Path) -> None:
    picture, box = portrait()
    (expected,) = Mtcnn(input_px=320, min_score=0.5, device="cpu")([picture])
    width, height = box[2:] - box[:2]
    rough = (box + np.array([0.15 * width, -0.1 * height, 0.25 * width, 0.1 * height])).astype(np.float32)[None]
    elsewhere = noise(4)
    places = RoughPlaces({id(picture): rough, id(elsewhere): rough})
    _, faces = refined(untrained, places)([elsewhere, picture])
    assert len(faces) == 1
    assert faces.scores[0] > 0.9
    eyes = np.linalg.norm(expected.landmarks[0, 1] - expected.landmarks[0, 0])
    assert np.abs(faces.landmarks[0] - expected.landmarks[0]).max() < 0.15 * eyes
    assert np.abs(faces.boxes[0] - expected.boxes[0]).max() < 0.4 * eyes
