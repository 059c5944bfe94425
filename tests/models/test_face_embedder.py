from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from facenet_pytorch import InceptionResnetV1
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from pipeline.errors import UserError
from pipeline.models.face_embedder import IDENTITY, SIDE_PX, FaceEmbedder


@pytest.fixture(scope="module")
def facenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a file in the layout of 20180402-114759-vggface2.pt: the network with its 8,631 logits, with random
    values."""
    torch.manual_seed(1)
    network = InceptionResnetV1(classify=True, num_classes=8631)
    path = tmp_path_factory.mktemp("weights") / "20180402-114759-vggface2.pt"
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def embedder(facenet: Path) -> FaceEmbedder:
    return FaceEmbedder(facenet, batch=2, device="cpu", half=False)


def noise(seed: int, count: int = 1) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 224, 224, 3), np.uint8)


def test_vectors_have_length_one_and_do_not_depend_on_neighbours(embedder: FaceEmbedder) -> None:
    face = noise(0)
    alone = embedder(face)
    assert alone.shape == (1, 512)
    assert alone.dtype == np.float32
    assert np.linalg.norm(alone) == pytest.approx(1, abs=1e-5)
    for place in (0, 1, 2):
        others = noise(1, 2)
        assert_array_equal(embedder(np.insert(others, place, face[0], axis=0))[place], alone[0])


def test_the_network_sees_the_window_in_rgb_at_its_own_scale(embedder: FaceEmbedder, facenet: Path) -> None:
    """Resizing does not change a window of one colour, so the library itself gives the expected output."""
    window, side = IDENTITY.window, 2000
    face = np.zeros((1, side, side, 3), np.uint8)
    left, top, right, bottom = (round(part * side) for part in (window.left, window.top, window.right, window.bottom))
    face[:, top:bottom, left:right] = (200, 120, 40)
    network = InceptionResnetV1().eval()
    network.load_state_dict({k: v for k, v in torch.load(facenet, weights_only=True).items() if "logits" not in k})
    inputs = (torch.tensor([200.0, 120.0, 40.0]) - 127.5) / 128
    with torch.inference_mode():
        expected = network(inputs.view(1, 3, 1, 1).expand(1, 3, SIDE_PX, SIDE_PX)).numpy()
    assert_allclose(embedder(face), expected, atol=2e-6)
    assert np.abs(embedder(np.ascontiguousarray(face[..., ::-1])) - expected).max() > 1e-4


def test_no_faces_give_no_vectors(embedder: FaceEmbedder) -> None:
    assert embedder(np.zeros((0, 224, 224, 3), np.uint8)).shape == (0, 512)


def test_nothing_is_downloaded(facenet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("went to the network")

    monkeypatch.setattr("socket.socket.connect", refuse)
    FaceEmbedder(facenet, batch=1, device="cpu", half=False)


class Bomb:
    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return print, ("code in a checkpoint has run",)


def test_a_checkpoint_that_holds_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "facenet.pt"
    torch.save({"conv2d_1a": Bomb()}, path)
    with pytest.raises(UserError, match=r"facenet\.pt cannot be read.*get the file again") as caught:
        FaceEmbedder(path, batch=1, device="cpu", half=False)
    assert "\n" not in str(caught.value)
    assert "has run" not in capsys.readouterr().out
