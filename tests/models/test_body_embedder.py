from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import ultralytics
from boxmot.reid.backbones.registry import build_backbone
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from pipeline.arrays import Picture
from pipeline.errors import UserError
from pipeline.models.body_embedder import BodyEmbedder
from tests.shared import SHARED, needs_shared

BOXES = np.array([[48.6, 398.6, 245.3, 902.7], [669.5, 392.2, 809.7, 877], [-5, 550.5, 63, 873.4]], np.float32)


@pytest.fixture(scope="module")
def bus() -> Picture:
    picture = cv2.imread(str(Path(ultralytics.__file__).parent / "assets" / "bus.jpg"), cv2.IMREAD_COLOR_RGB)
    assert picture is not None
    return np.asarray(picture, np.uint8)


def untrained(folder: Path, architecture: str, prefix: str = "") -> Path:
    """Write a checkpoint in the official layout with random values, under a name that says nothing."""
    torch.manual_seed(1)
    network = build_backbone(architecture, num_classes=7, loss="softmax", pretrained=False)
    path = folder / "0123456789abcdef"
    torch.save({prefix + name: tensor for name, tensor in network.state_dict().items()}, path)
    return path


def noise(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, 256, 128, 3), np.uint8)


@pytest.mark.parametrize("architecture", ["osnet_x0_25", "osnet_ibn_x1_0", "osnet_ain_x1_0", "osnet_x0_5"])
def test_the_network_is_told_from_its_tensors_and_gives_what_it_gave(tmp_path: Path, architecture: str) -> None:
    path = untrained(tmp_path, architecture, prefix="module.")
    embedder = BodyEmbedder(path, batch=2, device="cpu", half=False)
    torch.manual_seed(1)
    network = build_backbone(architecture, num_classes=7, loss="softmax", pretrained=False).eval()
    crops = noise(2)
    samples = torch.from_numpy(crops).permute(0, 3, 1, 2) / 255.0
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    with torch.inference_mode():
        expected = network((samples - mean) / std).numpy()
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.abs(embedder(crops) - expected).max() < 1e-5


def test_each_crop_gets_the_same_bits_whatever_its_place_and_its_neighbours(tmp_path: Path) -> None:
    embedder = BodyEmbedder(untrained(tmp_path, "osnet_x0_25"), batch=4, device="cpu", half=False)
    crops = noise(6)
    whole = embedder(crops)
    assert_array_equal(embedder(crops[:1]), whole[:1])
    assert_array_equal(embedder(crops[::-1]), whole[::-1])
    assert_array_equal(embedder(crops[4:]), whole[4:])


def test_vectors_have_length_one_and_no_crops_give_no_vectors(tmp_path: Path) -> None:
    embedder = BodyEmbedder(untrained(tmp_path, "osnet_x0_25"), batch=4, device="cpu", half=False)
    vectors = embedder(noise(3), alone=True)
    assert vectors.dtype == np.float32
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-6
    assert embedder(noise(0)).shape == (0, vectors.shape[1])


def test_a_box_outside_the_picture_gives_black(tmp_path: Path, bus: Picture) -> None:
    embedder = BodyEmbedder(untrained(tmp_path, "osnet_x0_25"), batch=4, device="cpu", half=False)
    crops = embedder.crops(bus, np.array([[-50, -50, -1, -1], [0, 0, 128, 256]], np.float32))
    assert not crops[0].any()
    assert_array_equal(crops[1], bus[:256, :128])
    assert embedder.crops(bus, np.zeros((0, 4), np.float32)).shape == (0, 256, 128, 3)


def test_a_file_of_another_network_is_refused(tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / "weights")
    with pytest.raises(UserError, match=r"are none of osnet_ain_x0_25, .*observe.body.weights"):
        BodyEmbedder(tmp_path / "weights", batch=1, device="cpu", half=False)


@needs_shared
def test_crops_and_vectors_are_those_of_the_library(bus: Picture) -> None:
    from boxmot.reid.core.runtime import ReID

    path = SHARED / "weights" / "osnet_x0_25_msmt17.pt"
    embedder = BodyEmbedder(path, batch=len(BOXES), device="cpu", half=False)
    theirs = ReID(weights=path, device="cpu")(bus[..., ::-1].copy(), BOXES)
    assert np.abs(embedder(embedder.crops(bus, BOXES)) - theirs).max() < 1e-6
