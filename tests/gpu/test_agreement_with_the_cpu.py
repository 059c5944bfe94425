"""The results on a card are those of a CPU within the reach of half precision."""

import itertools
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.arrays import Picture
from pipeline.boxes import pairwise_iou
from pipeline.models.body_embedder import BodyEmbedder
from pipeline.models.loading import WHOLE, load_estimator, load_face_detector
from tests.gpu.cases import OURS, WEIGHTS, person_detector
from tests.shared import SHARED, needs_shared

pytestmark = needs_shared
ON: list[dict[str, Any]] = [{"device": "cpu", "half": False}, {"device": "cuda", "half": True}]


@pytest.fixture(scope="module")
def pictures() -> list[Picture]:
    """Return two pictures each of a crowd, a street and a talkshow."""
    found: list[Picture] = []
    for name in ("plaza", "street-backlit", "talkshow"):
        with av.open(SHARED / "clips" / f"{name}.mp4") as container:
            frames = itertools.islice(container.decode(video=0), 0, 60, 40)
            found += [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in frames]
    return found


def best_ious(boxes: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.floating]:
    return pairwise_iou(boxes, others).max(axis=1) if len(others) else np.zeros(len(boxes))


def test_people_are_found_where_a_cpu_finds_them(pictures: list[Picture]) -> None:
    """97 of 100 sure people have a box with an IoU above .9, and the median IoU is above .98."""
    here, there = (person_detector(WEIGHTS / "yolov8n.pt", **{"batch": 8} | on)(pictures) for on in ON)
    ious = np.concatenate(
        [best_ious(one.boxes[one.scores >= 0.25], other.boxes) for one, other in zip(here, there, strict=True)]
        + [best_ious(other.boxes[other.scores >= 0.25], one.boxes) for one, other in zip(here, there, strict=True)]
    )
    print(f"{len(ious)} people: IoU median {np.median(ious):.4f}, above .9 {np.mean(ious > 0.9):.4f}")
    assert len(ious) > 40
    assert np.mean(ious > 0.9) > 0.97
    assert np.median(ious) > 0.98


@pytest.mark.parametrize("weights", [WEIGHTS / "osnet_x0_25_msmt17.pt", OURS / "starter-body.safetensors"])
def test_bodies_have_the_embeddings_of_a_cpu(pictures: list[Picture], weights: Any) -> None:
    """The cosine of every body's two embeddings is above .999."""
    boxes = person_detector(WEIGHTS / "yolov8n.pt", batch=8, device="cpu", half=False)(pictures)
    here, there = (BodyEmbedder(weights, batch=256, **on) for on in ON)
    crops = np.concatenate([here.crops(picture, each.boxes) for picture, each in zip(pictures, boxes, strict=True)])
    crops = crops[:: max(1, len(crops) // 60)]
    cosines = (BodyEmbedder(weights, batch=32, **ON[0])(crops) * there(crops)).sum(axis=1)
    print(f"{len(crops)} bodies: cosine at least {cosines.min():.6f}")
    assert cosines.min() > 0.999


def test_faces_are_found_where_a_cpu_finds_them(pictures: list[Picture]) -> None:
    """Every sure face has a box with an IoU above .9 and landmarks within a pixel or a twentieth of its width."""
    crops = [
        picture[:, left * picture.shape[1] // 4 : (left + 2) * picture.shape[1] // 4]
        for picture in pictures
        for left in (0, 1, 2)
    ]
    knobs: dict[str, Any] = {"input_px": 320, "batch": 16, "min_score": 0.5}
    here, there = (
        load_face_detector("retinaface-mobile0.25", {WHOLE: WEIGHTS / "mobilenet0.25_Final.pth"}, **knobs, **on)(crops)
        for on in ON
    )
    count = 0
    for one, other in zip(here, there, strict=True):
        sure = one[one.scores >= 0.7]
        ious = pairwise_iou(sure.boxes, other.boxes)
        assert (ious.max(axis=1, initial=0) > 0.9).all()
        for index in range(len(sure)):
            off = np.abs(sure.landmarks[index] - other.landmarks[ious[index].argmax()]).max()
            assert off <= max(1.0, (sure.boxes[index, 2] - sure.boxes[index, 0]) / 20)
        count += len(sure)
    print(f"{count} faces")
    assert count > 0


def test_ages_are_those_of_a_cpu(pictures: list[Picture]) -> None:
    """Ages differ by at most half a year, and probabilities by at most .02."""
    faces = np.stack([picture[:256, left : left + 256] for picture in pictures for left in (0, 128, 256)])
    here, there = (
        load_estimator("attributes", {WHOLE: OURS / "starter-attributes.safetensors"}, batch=16, **on)(faces)
        for on in ON
    )
    years, probs = np.abs(here.ages - there.ages), np.abs(here.female_probs - there.female_probs)
    print(f"{len(faces)} squares: age within {years.max():.2f} years, probability within {probs.max():.4f}")
    assert years.max() <= 0.5
    assert probs.max() <= 0.02
