"""Estimate age and gender of aligned faces.

Each estimator knows its own window, input size, colour order, normalisation, and the errors of its ages.
"""

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit, softmax
from torch import Tensor, nn

from pipeline.arrays import Estimates
from pipeline.cores.age_dist import GROUPS, grouped, over_years
from pipeline.errors import UserError
from pipeline.models.aligned import UTKFACE, Window
from pipeline.models.attributes import Calibration, age_and_gender_logits, load_attributes, moments
from pipeline.models.classics import load_classic
from pipeline.models.face_embedder import DIMENSIONS, FaceEmbedder, View
from pipeline.models.heads import read_heads_file
from pipeline.models.networks import REPLACE, Runner, fill, halve, is_safetensors, read_checkpoint
from pipeline.models.ssrnet import SIDE_PX, YEARS, load_ssrnet

BOSCH_VIEW = View(Window(left=0.06, top=0.0, right=0.92, bottom=1.0), half_range=127.5)
"""The window that the heads were trained on: RetinaFace's box, at (.22, .19, .76, .92) of the aligned face (the
    median of 118 faces), plus 30 % of it on each side, as far as the aligned face reaches. The half range is 127.5,
    not Sandberg's 128."""
BOSCH_YEARS = 116
BOSCH_AGE_STD = 10.0
"""Standard error in years. It is assumed, not measured, because FaceNet's weights were not available. Estimators of
this kind have it on UTKFace."""


class StarterEstimator:
    """The starter estimator (pipeline.models.attributes). It sees the window of UTKFace's pictures."""

    def __init__(self, path: Path, *, batch: int, device: str, half: bool) -> None:
        network, self._file = load_attributes(path)
        # Channels last is the layout of pictures, and faster on a CPU.
        self._network = network.to(torch.device(device), memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        if half:
            halve(self._network, "heads")
        self._run = Runner(self._forward, batch=batch, device=device, half=False)

    def __call__(self, faces: NDArray[np.uint8]) -> Estimates:
        if not len(faces):
            return NO_ESTIMATES
        means, spreads, logits, years = self._run(UTKFACE.cut(faces, self._file.side_px))
        return _calibrated(self._file.calibration, means, spreads, logits, years=years)

    def raw(self, faces: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Return (N,) raw ages, their spreads and logits of being female for calibration.

        faces: (N, S, S, 3), N > 0.
        """
        means, spreads, logits, _ = self._run(UTKFACE.cut(faces, self._file.side_px))
        return means, spreads, logits

    def _forward(self, crops: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        ages, women = age_and_gender_logits(self._network, crops, mirrored=self._file.mirrored)
        return *moments(ages), women.float(), torch.softmax(ages.float(), dim=1)


class Heads(nn.Module):
    """Three stacks of dense layers on one embedding, (B, `dimensions`): age, gender and age buckets.

    dropouts: of the age and gender stacks. They act only in training.
    """

    def __init__(self, dimensions: int = DIMENSIONS, dropouts: tuple[float, float] = (0.0, 0.0)) -> None:
        super().__init__()
        of_age, of_gender = dropouts
        self.age = _dense_stack(dimensions, 128, 64, 32, 16, 8, 1, dropout=of_age)
        self.buckets = _dense_stack(dimensions, 128, 64, 32, 16, GROUPS, dropout=of_age)
        self.gender = _dense_stack(dimensions, 128, 64, 32, 16, 8, 1, dropout=of_gender)

    def forward(self, embeddings: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return (B,) years, (B,) probabilities of being female, and (B, 12) probabilities of the buckets."""
        years, logits, buckets = self.logits(embeddings)
        return years, torch.sigmoid(logits), torch.softmax(buckets, dim=1)

    def logits(self, embeddings: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return (B,) years, (B,) logits of being female, and (B, 12) logits of the buckets."""
        years = torch.sigmoid(self.age(embeddings))[:, 0] * BOSCH_YEARS
        return years, self.gender(embeddings)[:, 0], self.buckets(embeddings)


# The file's layers (Keras 2.8) by stack: dense_17 to 22, 23 to 27, and 28 to 33.
HEAD_LAYERS = {"age": range(17, 23), "buckets": range(23, 28), "gender": range(28, 34)}


class BoschHeads:
    """The heads of the Bosch age and gender pipeline (seed B) on FaceNet's embeddings.

    Its program rounded ages up. Here they are the network's outputs.
    """

    def __init__(self, path: Path, *, batch: int, device: str, half: bool) -> None:
        self._network = fill(Heads(), _read_heads(path), path).to(device)
        self._run = Runner(self._network, batch=batch, device=device, half=half)

    def __call__(self, embeddings: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        """Return (N,) years, (N,) probabilities of being female, and (N, 12) probabilities of the buckets.

        vectors: (N, 512), N > 0.
        """
        return self._run(embeddings)


class BoschEstimator:
    """Seed B's heads on FaceNet."""

    def __init__(self, embedder: FaceEmbedder, heads: Path, *, batch: int, device: str, half: bool) -> None:
        self._embedder = embedder
        self._heads = BoschHeads(heads, batch=batch, device=device, half=half)

    def __call__(self, faces: NDArray[np.uint8]) -> Estimates:
        if not len(faces):
            return NO_ESTIMATES
        years, female_probs, dists = self._heads(self._embedder(faces))
        return estimates_of(years, np.full(len(years), BOSCH_AGE_STD), female_probs, dists)


class HeadsEstimator:
    """Heads of `rollcall train heads` on the embedder that they were trained on."""

    def __init__(self, embedder: Path, heads: Path, *, batch: int, device: str, half: bool) -> None:
        self._file = read_heads_file(heads)
        self._embedder = FaceEmbedder(embedder, batch=batch, device=device, half=half, view=self._file.view)
        if self._embedder.dimensions != self._file.dimensions:
            raise UserError(
                f"weights {heads} are for vectors of {self._file.dimensions} numbers, and {embedder} gives "
                f"{self._embedder.dimensions}; name the embedder that they were trained on"
            )
        self._network = fill(Heads(self._file.dimensions), read_checkpoint(heads), heads).to(device)
        self._run = Runner(self._network.logits, batch=batch, device=device, half=False)

    def __call__(self, faces: NDArray[np.uint8]) -> Estimates:
        if not len(faces):
            return NO_ESTIMATES
        years, logits, dists = self._run(self._embedder(faces))
        return _calibrated(self._file.calibration, years, np.ones_like(years), logits, dists=softmax(dists, axis=1))

    def raw(
        self, embeddings: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Return three (N,) arrays for calibration: raw ages, spreads (all 1, because this network has none), and
        logits of being female.

        embeddings: (N, D), N > 0.
        """
        years, logits, _ = self._run(embeddings)
        return years, np.ones_like(years), logits


def load_heads(embedder: Path, heads: Path, *, batch: int, device: str, half: bool) -> HeadsEstimator | BoschEstimator:
    """Load heads of `rollcall train heads`, or those of seed B, which are a Keras file."""
    if is_safetensors(heads):
        return HeadsEstimator(embedder, heads, batch=batch, device=device, half=half)
    facenet = FaceEmbedder(embedder, batch=batch, device=device, half=half, view=BOSCH_VIEW)
    return BoschEstimator(facenet, heads, batch=batch, device=device, half=half)


class NetworkEstimator:
    """A network of `rollcall train networks` (pipeline.models.classics)."""

    def __init__(self, path: Path, *, batch: int, device: str, half: bool) -> None:
        network, self._file = load_classic(path)
        network.to(torch.device(device), memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self._run = Runner(network, batch=batch, device=device, half=half)
        self._stored_px, self._classes = network.stored_px, network.classes

    def __call__(self, faces: NDArray[np.uint8]) -> Estimates:
        if not len(faces):
            return NO_ESTIMATES
        means, spreads, logits, *shares = self._run(UTKFACE.cut(faces, self._stored_px))
        years = None if self._classes is None else over_years(shares[0], self._classes)
        return _calibrated(self._file.calibration, means, spreads, logits, years=years)

    def raw(self, faces: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Return (N,) raw ages, their spreads and logits of being female for calibration.

        faces: (N, S, S, 3), N > 0.
        """
        means, spreads, logits = self._run(UTKFACE.cut(faces, self._stored_px))[:3]
        return means, spreads, logits


SSRNET_WINDOW = Window(left=-0.1, top=-0.05, right=1.1, bottom=1.15)
"""The window of IMDB-WIKI's pictures: a face and 40 % around it, wider than the aligned face. The age errors of the
wiki and imdb networks on 2,998 faces of UTKFace are 9.4 and 10.5 years here, 10.1 and 11.0 on the whole aligned
face, and 11.5 and 12.6 on its middle 80 %; gender is right for 87 %. This and the next two constants: python -m
tests.bench.ssrnet_on_utkface --windows."""
SSRNET_AGE_STD = 13.9
"""Standard error in years. Four of five ages of UTKFace are off by less than 1.28 times this, for both networks. It
is large because SSR-Net says 20 or more for every child. It hardly depends on the predicted age (10 to 16)."""
SSRNET_GENDER = (4.28, -0.64)
"""Slope and offset of the logit of being female, as a function of .5 minus the network's output. The raw output is
confident even where it is wrong: the expected calibration error on the half of UTKFace that was not fitted is .123,
and .010 with these constants."""


class SsrNetEstimator:
    """SSR-Net: an age and a gender network. BGR, 64 px, 0..255."""

    def __init__(self, age: Path, gender: Path, *, batch: int, device: str, half: bool) -> None:
        networks = (load_ssrnet(age, YEARS), load_ssrnet(gender, 1))
        self._age, self._gender = (network.to(device) for network in networks)
        self._run = Runner(self._forward, batch=batch, device=device, half=half)

    def __call__(self, faces: NDArray[np.uint8]) -> Estimates:
        if not len(faces):
            return NO_ESTIMATES
        years, masculinity = self._run(SSRNET_WINDOW.cut(faces, SIDE_PX))
        years = years.clip(0, YEARS)
        slope, offset = SSRNET_GENDER
        female_probs = expit(slope * (0.5 - masculinity) + offset)
        return estimates_of(years, np.full(len(years), SSRNET_AGE_STD), female_probs)

    def _forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        samples = crops.flip(-1).permute(0, 3, 1, 2).float()
        return self._age(samples), self._gender(samples)


NO_ESTIMATES = Estimates(np.zeros(0, np.float32), np.zeros(0, np.float32), np.zeros(0, np.float32))


def _calibrated(
    calibration: Calibration,
    means: NDArray[np.floating],
    spreads: NDArray[np.floating],
    logits: NDArray[np.floating],
    *,
    years: NDArray[np.floating] | None = None,
    dists: NDArray[np.floating] | None = None,
) -> Estimates:
    """Return calibrated estimates.

    years: (N, Y) raw probabilities of whole years, if the network has them.
    dists: (N, 12) probabilities of the groups, if the network has them.
    """
    ages, (stds, leans) = calibration.age(means), calibration.age_error(means, spreads)
    dists = dists if years is None else grouped(years, ages, stds)
    return estimates_of(ages, stds, calibration.female_prob(logits), dists, leans)


def estimates_of(
    years: NDArray[np.floating],
    stds: NDArray[np.floating],
    female_probs: NDArray[np.floating],
    dists: NDArray[np.floating] | None = None,
    leans: NDArray[np.floating] | None = None,
) -> Estimates:
    """Round ages and their errors to 0.1 year, probabilities to 0.001 and leans to 0.01."""
    return Estimates(
        np.round(years, 1).astype(np.float32),
        np.round(stds, 1).astype(np.float32),
        np.round(female_probs, 3).astype(np.float32),
        None if dists is None else np.round(dists, 3).astype(np.float32),
        None if leans is None else np.round(leans, 2).astype(np.float32),
    )


def _dense_stack(*sizes: int, dropout: float) -> nn.Sequential:
    """Return dense layers with ReLU between them. sizes: width of the input and of each layer."""
    layers: list[nn.Module] = []
    for size_in, size_out in pairwise(sizes):
        layers += [nn.Linear(size_in, size_out), nn.Sequential(nn.ReLU(), nn.Dropout(dropout))]
    return nn.Sequential(*layers[:-1])


def _read_heads(path: Path) -> dict[str, Tensor]:
    """Return the tensors of `path` under our names, with kernels as (output, input). Raises UserError."""
    import h5py  # few estimators need it

    try:
        with h5py.File(path) as file:
            state = {}
            for stack, numbers in HEAD_LAYERS.items():
                for position, number in enumerate(numbers):
                    layer = f"model_weights/dense_{number}/dense_{number}"
                    kernel, bias = (np.asarray(file[f"{layer}/{part}:0"]) for part in ("kernel", "bias"))
                    state[f"{stack}.{2 * position}.weight"] = torch.from_numpy(kernel.T.copy())
                    state[f"{stack}.{2 * position}.bias"] = torch.from_numpy(bias)
            return state
    except (OSError, KeyError) as error:
        raise UserError(f"weights {path} are no heads in the layout of data-huber.h5 ({error}); {REPLACE}") from None
