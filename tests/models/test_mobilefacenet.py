from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from pipeline.errors import UserError
from pipeline.models.aligned import Window
from pipeline.models.face_embedder import MOBILEFACENET_IDENTITY, FaceEmbedder
from pipeline.models.mobilefacenet import HEIGHT_PX, WIDTH_PX, MobileFaceNet
from tests.shared import SHARED, needs_shared

WEIGHTS = SHARED / "weights/MobileFaceNet_Xiaoccer_068.ckpt"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a checkpoint in the layout of the published ones with random values, under a name that says nothing."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("weights") / "0123abcd"
    torch.save({"epoch": 68, "net_state_dict": MobileFaceNet().state_dict()}, path)
    return path


def test_the_network_is_told_from_its_tensors_and_gives_128_numbers(checkpoint: Path) -> None:
    embedder = FaceEmbedder(checkpoint, batch=2, device="cpu", half=False)
    faces = np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3), np.uint8)
    vectors = embedder(faces)
    assert vectors.shape == (3, 128)
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-5
    assert_array_equal(embedder(faces[2:]), vectors[2:])
    assert embedder(faces[:0]).shape == (0, 128)


def test_it_sees_its_window_of_the_face_higher_than_wide_in_rgb(checkpoint: Path) -> None:
    face = np.random.default_rng(0).integers(0, 256, (1, 1000, 1000, 3), np.uint8)
    seen = []
    embedder = FaceEmbedder(checkpoint, batch=1, device="cpu", half=False)
    embedder._network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].numpy()))
    embedder(face)
    expected = MOBILEFACENET_IDENTITY.window.cut(face, WIDTH_PX, HEIGHT_PX)
    assert expected.shape == (1, 112, 96, 3)
    assert_array_equal(seen[0], (expected.transpose(0, 3, 1, 2).astype(np.float32) - 127.5) / 128)


def test_a_window_can_be_cut_higher_than_wide() -> None:
    face = np.zeros((1, 100, 100, 3), np.uint8)
    face[:, :50] = 200
    cut = Window(left=0.1, top=0, right=0.3, bottom=1).cut(face, 10, 40)[0]
    assert cut.shape == (40, 10, 3)
    assert (cut[:20] == 200).all()
    assert not cut[20:].any()


def test_a_checkpoint_with_a_tensor_too_few_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    state = torch.load(checkpoint, weights_only=True)["net_state_dict"]
    del state["conv2.bn.weight"]
    torch.save(state, tmp_path / "weights")
    with pytest.raises(UserError, match="do not fit MobileFaceNet"):
        FaceEmbedder(tmp_path / "weights", batch=1, device="cpu", half=False)


@needs_shared
def test_the_published_weights_fit() -> None:
    FaceEmbedder(WEIGHTS, batch=1, device="cpu", half=False)
