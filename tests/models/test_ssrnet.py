from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from pipeline.errors import UserError
from pipeline.media.pictures import decode_jpeg
from pipeline.models.aligned import UTKFACE
from pipeline.models.ssrnet import SIDE_PX, YEARS, load_ssrnet
from tests.shared import SHARED, needs_shared

WEIGHTS = {
    ("ssrnet_imdb.h5", YEARS),
    ("ssrnet_wiki.h5", YEARS),
    ("ssrnet_imdb_gender_models.h5", 1),
    ("ssrnet_wiki_gender_models.h5", 1),
}
Array = NDArray[np.float64]


@needs_shared
@pytest.mark.parametrize(("name", "span"), sorted(WEIGHTS))
def test_the_torch_module_says_what_keras_layers_in_numpy_say(name: str, span: float) -> None:
    path = SHARED / "weights" / name
    faces = sorted((SHARED / "datasets/UTKFace").glob("*.jpg"))[::8000]
    pictures = UTKFACE.fill(np.stack([decode_jpeg(face.read_bytes()) for face in faces]), SIDE_PX)[..., ::-1] / 1.0
    with torch.inference_mode():
        ours = load_ssrnet(path, span)(torch.from_numpy(pictures).float().permute(0, 3, 1, 2)).numpy()
    with h5py.File(path) as file:
        theirs = [keras_forward(file, picture) * span for picture in pictures]
    assert_allclose(ours, theirs, rtol=1e-4)
    assert np.ptp(ours) > 0.02 * span


@needs_shared
@pytest.mark.parametrize("name", ["ssrnet_imdb.h5", "ssrnet_wiki.h5"])
def test_the_stages_say_the_same_of_every_face_so_that_there_is_no_distribution(name: str) -> None:
    network = load_ssrnet(SHARED / "weights" / name, YEARS)
    given: list[torch.Tensor] = []
    for layer in network.probabilities:
        layer.register_forward_hook(lambda _, __, output: given.append(output.relu()))
    faces = sorted((SHARED / "datasets/UTKFace").glob("*.jpg"))[::500]
    pictures = UTKFACE.fill(np.stack([decode_jpeg(face.read_bytes()) for face in faces]), SIDE_PX)[..., ::-1].copy()
    with torch.inference_mode():
        ages = network(torch.from_numpy(pictures).float().permute(0, 3, 1, 2))
    assert float(ages.std()) > 8
    for stage in given:
        assert float(stage.std(dim=0).max()) < 0.03
        assert float(stage.sum(dim=1).max()) < 0.7


def test_a_file_that_is_no_ssrnet_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "other.h5"
    path.write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"other\.h5.*get the file again"):
        load_ssrnet(path, YEARS)
    with h5py.File(path, "w") as file:
        file["dense_1/dense_1/kernel:0"] = np.zeros((160, 3))
    with pytest.raises(UserError, match="no SSR-Net in Keras's layout"):
        load_ssrnet(path, YEARS)


def keras_forward(file: h5py.File, picture: Array) -> float:
    """Run the published network on one (64, 64, 3) picture, layer by layer, channels last, as Keras computes it."""

    def weights(layer: str, *parts: str) -> list[Array]:
        layer = layer if layer in file else layer.replace("_age", "")
        return [np.asarray(file[f"{layer}/{layer}/{part}:0"], np.float64) for part in parts]

    def convolve(x: Array, layer: str) -> Array:
        kernel, bias = weights(layer, "kernel", "bias")
        patches = sliding_window_view(x, kernel.shape[:2], axis=(0, 1))  # (H, W, in, kh, kw)
        return np.einsum("hwikl,klio->hwo", patches, kernel) + bias

    def normalise(x: Array, layer: str) -> Array:
        gamma, beta, mean, variance = weights(layer, "gamma", "beta", "moving_mean", "moving_variance")
        return (x - mean) / np.sqrt(variance + 1e-3) * gamma + beta

    def dense(x: Array, layer: str) -> Array:
        kernel, bias = weights(layer, "kernel", "bias")
        return x @ kernel + bias

    def pool(x: Array, size: int, reduce: str) -> Array:
        height, width = (side // size * size for side in x.shape[:2])
        blocks = x[:height, :width].reshape(height // size, size, width // size, size, -1)
        return getattr(blocks, reduce)(axis=(1, 3))

    def relu(x: Array) -> Array:
        return np.maximum(x, 0)

    smooth, sharp = [], []  # the features of both streams after each of their four convolutions
    x = s = picture
    for k in range(1, 5):
        x = relu(normalise(convolve(x, f"conv2d_{k}"), f"batch_normalization_{k}"))
        s = np.tanh(normalise(convolve(s, f"conv2d_{k + 4}"), f"batch_normalization_{k + 4}"))
        if k < 4:
            x, s = pool(x, 2, "mean"), pool(s, 2, "max")
        smooth.append(x)
        sharp.append(s)

    total, width = 0.0, 1.0
    for stage, (depth, size) in enumerate([(3, 1), (1, 4), (0, 8)]):
        s_tap = pool(relu(convolve(sharp[depth], f"conv2d_{2 * stage + 9}")), size, "max").ravel()
        x_tap = pool(relu(convolve(smooth[depth], f"conv2d_{2 * stage + 10}")), size, "mean").ravel()
        mixed = relu(dense(s_tap, f"dense_{3 * stage + 1}")) * relu(dense(x_tap, f"dense_{3 * stage + 2}"))
        fused = relu(dense(mixed, f"dense_{3 * stage + 3}"))
        probability = relu(dense(fused, f"pred_age_stage{stage + 1}"))
        shift = np.tanh(dense(fused, f"local_delta_stage{stage + 1}"))
        width *= 3 * (1 + np.tanh(dense(s_tap * x_tap, f"delta_s{stage + 1}"))[0])
        total += sum((k + shift[k]) * probability[k] for k in range(3)) / width
    return total
