import csv
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from retinaface.commons import preprocess
from retinaface.model.retinaface_pth_model import RetinaFace
from retinaface.RetinaFace import detect_faces

from pipeline.arrays import Faces, Picture
from pipeline.boxes import pairwise_iou
from pipeline.errors import UserError
from pipeline.interfaces import FaceDetector
from pipeline.models.loading import WHOLE, load_face_detector
from pipeline.models.mtcnn import resample
from tests.shared import SHARED, needs_shared

KNOBS: dict[str, Any] = {"input_px": 320, "batch": 4, "min_score": 0.5, "device": "cpu", "half": False}
PATHS = {
    "retinaface-mobile0.25": SHARED / "weights/mobilenet0.25_Final.pth",
    "yunet": SHARED / "weights/yunet_n_640_640.onnx",
    "mtcnn": None,
}
SMALL: dict[str, Any] = KNOBS | {"input_px": 32}
SSD = {
    "layout": SHARED / "weights/opencv_face_detector.pbtxt",
    "network": SHARED / "weights/opencv_face_detector_uint8.pb",
}


def files_of(path: Path | None) -> dict[str, Path]:
    return {WHOLE: path} if path else {}


@pytest.fixture(scope="module")
def detectors() -> Callable[[str], FaceDetector]:
    loaded: dict[str, FaceDetector] = {}

    def get(kind: str) -> FaceDetector:
        return loaded.setdefault(kind, load_face_detector(kind, files_of(PATHS[kind]), **KNOBS))

    return get


@pytest.fixture(scope="module")
def untrained_r50(tmp_path_factory: pytest.TempPathFactory) -> FaceDetector:
    """Load a detector from a file in the layout of retina-face's own release (a plain state dict), with random
    values."""
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("weights") / "retinaface.pth"
    torch.save(RetinaFace().state_dict(), path)
    return load_face_detector(
        "retinaface-r50", files_of(path), **KNOBS | {"input_px": 96, "batch": 2, "min_score": 0.0}
    )


def noise(seed: int, height: int = 48, width: int = 64) -> Picture:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def news_pictures(count: int) -> list[tuple[Picture, np.ndarray]]:
    """Return pictures of FDDB with their (N, 4) face boxes."""
    boxes_by_name = defaultdict(list)
    with (SHARED / "datasets/faces/gt.csv").open() as file:
        for row in csv.DictReader(file):
            boxes_by_name[row["image"]].append([float(row[key]) for key in ("xmin", "ymin", "xmax", "ymax")])
    chosen = sorted(boxes_by_name)[:: len(boxes_by_name) // count][:count]
    folder = SHARED / "datasets/faces/images"
    return [(read(folder / name), np.array(boxes_by_name[name], np.float32)) for name in chosen]


def read(path: Path) -> Picture:
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    assert picture is not None
    return np.asarray(picture, np.uint8)


def portrait() -> tuple[Picture, np.ndarray]:
    """Return a picture with one large face, and the (4,) box of that face."""
    return next((picture, boxes[0]) for picture, boxes in news_pictures(20) if len(boxes) == 1)


def recall(found: Sequence[Faces], pictures: Sequence[tuple[Picture, np.ndarray]]) -> float:
    hits = [
        len(faces) > 0 and iou > 0.35
        for faces, (_, boxes) in zip(found, pictures, strict=True)
        for iou in (pairwise_iou(boxes, faces.boxes).max(axis=1) if len(faces) else [0] * len(boxes))
    ]
    return float(np.mean(hits))


def assert_same(a: Faces, b: Faces) -> None:
    assert_array_equal(a.boxes, b.boxes)
    assert_array_equal(a.scores, b.scores)
    assert_array_equal(a.landmarks, b.landmarks)


@needs_shared
@pytest.mark.parametrize("kind", PATHS)
def test_most_faces_in_news_pictures_are_found(kind: str, detectors: Callable[[str], FaceDetector]) -> None:
    pictures = news_pictures(16)
    assert recall(detectors(kind)([picture for picture, _ in pictures]), pictures) > 0.85


@needs_shared
@pytest.mark.parametrize("kind", PATHS)
def test_pictures_in_the_wrong_colour_order_show_fewer_faces(
    kind: str, detectors: Callable[[str], FaceDetector]
) -> None:
    """Seed B passed RGB to BGR models and lost a third of the faces."""
    pictures = [picture for picture, _ in news_pictures(16)]
    right, wrong = (
        detectors(kind)(each) for each in (pictures, [np.ascontiguousarray(p[..., ::-1]) for p in pictures])
    )
    right_sum, wrong_sum = (sum(float(faces.scores.sum()) for faces in found) for found in (right, wrong))
    assert wrong_sum < 0.97 * right_sum


@needs_shared
@pytest.mark.parametrize("kind", PATHS)
def test_a_crop_is_judged_alike_whatever_its_place_and_neighbours(
    kind: str, detectors: Callable[[str], FaceDetector]
) -> None:
    picture, _ = portrait()
    detect = detectors(kind)
    (alone,) = detect([picture])
    others = [noise(seed, 120, 90) for seed in range(5)]
    assert len(alone)
    for place in (0, 3, 5):
        assert_same(detect([*others[:place], picture, *others[place:]])[place], alone)


@needs_shared
@pytest.mark.parametrize("kind", PATHS)
def test_landmarks_lie_in_the_face_in_their_order(kind: str, detectors: Callable[[str], FaceDetector]) -> None:
    picture, box = portrait()
    (faces,) = detectors(kind)([picture])
    left_eye, right_eye, nose, left_mouth, right_mouth = faces.landmarks[0]
    assert pairwise_iou(box[None], faces.boxes[:1])[0, 0] > 0.5
    assert left_eye[0] < nose[0] < right_eye[0]
    assert left_mouth[0] < right_mouth[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])
    assert (faces.landmarks[0] > faces.boxes[0, :2]).all()
    assert (faces.landmarks[0] < faces.boxes[0, 2:]).all()


@needs_shared
@pytest.mark.parametrize("kind", PATHS)
def test_boxes_are_in_the_crops_own_pixels(kind: str, detectors: Callable[[str], FaceDetector]) -> None:
    """The same face, twice as large and shifted, is found at the expected place."""
    picture, _ = portrait()
    large = cv2.resize(picture, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
    shifted = np.pad(large, ((30, 0), (50, 0), (0, 0)), mode="edge")
    first, second = detectors(kind)([picture, np.asarray(shifted, np.uint8)])
    expected = 2 * first.boxes[:1] + np.array([50, 30, 50, 30], np.float32)
    assert pairwise_iou(expected, second.boxes[:1])[0, 0] > 0.8


@needs_shared
@pytest.mark.parametrize("kind", PATHS)
def test_a_face_with_12_px_between_the_eyes_is_found(kind: str, detectors: Callable[[str], FaceDetector]) -> None:
    detect = detectors(kind)
    pictures = [picture for picture, boxes in news_pictures(30) if len(boxes) == 1][:8]
    small = []
    for picture, faces in zip(pictures, detect(pictures), strict=True):
        scale = 12 / float(np.linalg.norm(faces.landmarks[0, 1] - faces.landmarks[0, 0]))
        small.append(np.asarray(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8))
    assert all(len(faces) for faces in detect(small))


@needs_shared
@pytest.mark.parametrize("kind", PATHS)
def test_faces_come_best_first_rounded_and_above_the_least_score(
    kind: str, detectors: Callable[[str], FaceDetector]
) -> None:
    for faces in detectors(kind)([picture for picture, _ in news_pictures(8)]):
        assert (np.diff(faces.scores) <= 0).all()
        assert (faces.scores >= np.float32(0.5)).all()
        assert_array_equal(faces.scores, np.round(faces.scores, 3))
        for places in (faces.boxes, faces.landmarks):
            assert_array_equal(places, np.round(places, 1))


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (320, 320)])
@pytest.mark.parametrize("kind", PATHS)
def test_crops_without_a_face_give_none(
    kind: str, size: tuple[int, int], detectors: Callable[[str], FaceDetector]
) -> None:
    if PATHS[kind] and not SHARED.is_dir():
        pytest.skip("needs the shared weights")
    (faces,) = detectors(kind)([np.full((*size, 3), 90, np.uint8)])
    assert len(faces) == 0
    assert detectors(kind)([]) == []


def test_the_official_layout_of_resnet50_loads_and_speaks_of_each_crop_alone(untrained_r50: FaceDetector) -> None:
    crop, others = noise(1), [noise(2, 30, 90), noise(3, 200, 10)]
    (alone,) = untrained_r50([crop])
    assert len(alone)
    for place in (0, 1, 2):
        assert_same(untrained_r50([*others[:place], crop, *others[place:]])[place], alone)


def test_resnet50_says_what_retina_faces_own_code_says(
    untrained_r50: FaceDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compare with its detect_faces, which gets BGR as it expects and does not scale to 1024 px: colours, anchors,
    decoding, NMS."""
    monkeypatch.setenv("DEEPFACE_BACKEND_ENGINE", "pytorch")
    monkeypatch.setattr(preprocess, "resize_image", lambda picture, *_: (picture, 1.0))
    crop = noise(4, 96, 96)
    network = cast(Any, untrained_r50)._network._network
    theirs = detect_faces(np.ascontiguousarray(crop[..., ::-1]), threshold=0.0, model=network).values()
    (ours,) = untrained_r50([crop])
    surest = sorted(theirs, key=lambda face: -face["score"])[:3]
    assert surest[0]["score"] - surest[-1]["score"] > 0.002  # random values, but not all alike
    for face in surest:
        eyes = np.array([face["landmarks"]["right_eye"], face["landmarks"]["left_eye"]])
        near = np.abs(ours.landmarks[:, :2] - eyes).max(axis=(1, 2)) < 0.2
        assert np.abs(ours.scores[near] - face["score"]).min(initial=1) < 0.001


def test_an_unknown_kind_is_refused_with_the_kinds_there_are() -> None:
    with pytest.raises(UserError, match=r"must be one of retinaface-r50, .*, got 'haar'"):
        load_face_detector("haar", {}, **KNOBS)


@pytest.mark.parametrize("kind", ["retinaface-r50", "retinaface-mobile0.25", "yunet"])
def test_a_file_that_is_no_model_is_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(UserError, match=r"weights\.bin.*check the kind of its registry entry") as caught:
        load_face_detector(kind, files_of(path), **KNOBS)
    assert "\n" not in str(caught.value)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"layer.weight": torch.zeros(3)}, path)
    with pytest.raises(UserError, match="do not fit RetinaFace"):
        load_face_detector("retinaface-r50", files_of(path), **KNOBS)
    with pytest.raises(UserError, match="has no weights file"):
        load_face_detector("retinaface-r50", {}, **KNOBS)


@needs_shared
def test_opencvs_ssd_finds_the_large_faces_of_news_pictures() -> None:
    pictures = [
        (picture, boxes[np.maximum(*(boxes[:, 2:] - boxes[:, :2]).T) > 0.2 * max(picture.shape)])
        for picture, boxes in news_pictures(24)
    ]
    pictures = [(picture, boxes) for picture, boxes in pictures if len(boxes)]
    detector = load_face_detector("ssd", SSD, **KNOBS)
    faces = detector([picture for picture, _ in pictures])
    assert recall(faces, pictures) > 0.9
    assert all(np.isnan(found.landmarks).all() for found in faces)


def test_a_caffe_model_is_read_by_its_layout_and_finds_boxes_in_the_pixels_of_the_crop(tmp_path: Path) -> None:
    files = caffe_ssd(tmp_path)
    (faces,) = load_face_detector("ssd", files, **SMALL)([np.full((64, 64, 3), 200, np.uint8)])
    assert len(faces) == 1
    assert faces.boxes[0].tolist() == pytest.approx([16, 16, 48, 48], abs=0.2)
    assert faces.scores[0] > 0.9
    (dark,) = load_face_detector("ssd", files, **SMALL)([np.zeros((64, 64, 3), np.uint8)])
    assert not len(dark)


def test_a_file_that_is_no_ssd_is_refused_in_one_line(tmp_path: Path) -> None:
    files = caffe_ssd(tmp_path)
    files["network"].write_bytes(b"weights")
    with pytest.raises(UserError, match="are no SSD that OpenCV can run") as error:
        load_face_detector("ssd", files, **SMALL)
    assert "\n" not in str(error.value)


LAYOUT = """
name: "one prior"
input: "data"
input_shape { dim: 1 dim: 3 dim: 32 dim: 32 }
layer { name: "scores" type: "Convolution" bottom: "data" top: "scores"
  convolution_param { num_output: 2 kernel_size: 32 stride: 32 } }
layer { name: "moves" type: "Convolution" bottom: "data" top: "moves"
  convolution_param { num_output: 4 kernel_size: 32 stride: 32 } }
layer { name: "flat_moves" type: "Flatten" bottom: "moves" top: "flat_moves" }
layer { name: "sure" type: "Softmax" bottom: "scores" top: "sure" softmax_param { axis: 1 } }
layer { name: "flat_sure" type: "Flatten" bottom: "sure" top: "flat_sure" }
layer { name: "prior" type: "PriorBox" bottom: "scores" bottom: "data" top: "prior"
  prior_box_param { min_size: 16 variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2 step: 32 offset: 0.5 } }
layer { name: "found" type: "DetectionOutput" bottom: "flat_moves" bottom: "flat_sure" bottom: "prior" top: "found"
  detection_output_param { num_classes: 2 share_location: true background_label_id: 0 keep_top_k: 9
    confidence_threshold: 0.01 code_type: CENTER_SIZE nms_param { nms_threshold: 0.45 top_k: 9 } } }
"""


def caffe_ssd(folder: Path) -> dict[str, Path]:
    """Write an SSD of one box in the middle of the picture, which is a face if the picture is bright."""
    bright = np.zeros((2, 3, 32, 32), np.float32)
    bright[1] = 1 / bright[1].size
    layers = [
        caffe_layer("scores", "Convolution", bright, np.array([0, -20], np.float32)),
        caffe_layer("moves", "Convolution", np.zeros((4, 3, 32, 32), np.float32), np.zeros(4, np.float32)),
    ]
    files = {"layout": folder / "ssd.prototxt", "network": folder / "ssd.caffemodel"}
    files["layout"].write_text(LAYOUT)
    files["network"].write_bytes(b"".join(record(100, layer) for layer in layers))
    return files


def caffe_layer(name: str, kind: str, *blobs: np.ndarray) -> bytes:
    """Return a LayerParameter in the format of protocol buffers: name 1, type 2, blobs 7."""
    return record(1, name.encode()) + record(2, kind.encode()) + b"".join(record(7, caffe_blob(blob)) for blob in blobs)


def caffe_blob(array: np.ndarray) -> bytes:
    """Return a BlobProto: the shape in 7, the numbers in 5, both packed."""
    shape = record(1, b"".join(varint(side) for side in array.shape))
    return record(7, shape) + record(5, array.astype("<f4").tobytes())


def record(field: int, content: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(content)) + content


def varint(number: int) -> bytes:
    parts = []
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


@pytest.mark.parametrize("size", [(24, 24), (48, 48), (7, 30), (60, 90)])
@pytest.mark.parametrize("shape", [(1, 3, 37, 51), (2, 3, 100, 24), (1, 3, 9, 12)])
def test_mtcnn_gets_the_means_that_torch_computes(shape: tuple[int, ...], size: tuple[int, int]) -> None:
    pictures = 255 * torch.rand(shape, generator=torch.Generator().manual_seed(0))
    for laid_out in (pictures, pictures.contiguous(memory_format=torch.channels_last)):
        expected = torch.nn.functional.interpolate(pictures, size=size, mode="area")
        torch.testing.assert_close(resample(laid_out, size), expected, rtol=0, atol=1e-3)
