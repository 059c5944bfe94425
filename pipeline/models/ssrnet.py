"""SSR-Net (Yang et al., IJCAI 2018): a soft stagewise regression network with 0.04 million parameters, 64 px.

The layers are as published (github.com/shamangary/SSR-Net, demo/SSRNET_model.py, stages [3, 3, 3], lambda 1 and 1).
The age network regresses onto 0..101 years, and the gender network onto 0 (woman) to 1 (man), as IMDB-WIKI counts.
The input is BGR in 0..255 without normalisation, because it was trained on the output of cv2.imread.
It has no distribution of ages: the authors' files give nearly the same "probabilities" of the stages for every face.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.errors import UserError
from pipeline.models.networks import REPLACE, fill

SIDE_PX = 64
YEARS = 101
"""The age network's range. The gender network's range is 1."""
STAGES = 3
BINS = 3
"""Bins of each stage: a third of the range, a ninth, a twenty-seventh."""


class Branch(nn.Module):
    """One of the two streams: four 3x3 convolutions without padding, batch normalisation, activation and pooling."""

    def __init__(self, channels: int, *, is_smooth: bool) -> None:
        super().__init__()
        sizes = [3, *[channels] * 4]
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 3) for a, b in pairwise(sizes))
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels, eps=1e-3) for _ in range(4))  # Keras's epsilon
        self.taps = nn.ModuleList(nn.Conv2d(channels, 10, 1) for _ in range(STAGES))
        self.mixes = nn.ModuleList(nn.Linear(size, BINS) for size in (160, 90, 90))
        self._activate = functional.relu if is_smooth else torch.tanh
        self._pool = functional.avg_pool2d if is_smooth else functional.max_pool2d

    def forward(self, pictures: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return the features of each stage, (B, 160) or (B, 90), and their mix, (B, 3), for (B, 3, 64, 64)."""
        features = []
        x = pictures
        for depth, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            x = self._activate(norm(convolution(x)))
            if depth < 3:
                x = self._pool(x, 2)
            features.append(x)
        # Stage 1 uses the last features, 4x4. Stages 2 and 3 use the second and first, pooled to 3x3.
        tapped = [
            functional.relu(self.taps[0](features[3])),
            self._pool(functional.relu(self.taps[1](features[1])), 4),
            self._pool(functional.relu(self.taps[2](features[0])), 8),
        ]
        flat = [tap.permute(0, 2, 3, 1).flatten(1) for tap in tapped]  # Keras flattens with the channels last
        return [(tap, functional.relu(mix(tap))) for tap, mix in zip(flat, self.mixes, strict=True)]


class SsrNet(nn.Module):
    """Map (B, 3, 64, 64) BGR in 0..255 to (B,) values in about 0..`span`."""

    def __init__(self, span: float) -> None:
        super().__init__()
        self.relu_branch = Branch(32, is_smooth=True)
        self.tanh_branch = Branch(16, is_smooth=False)
        self.fusions = nn.ModuleList(nn.Linear(BINS, 2 * BINS) for _ in range(STAGES))
        self.probabilities = nn.ModuleList(nn.Linear(2 * BINS, BINS) for _ in range(STAGES))
        self.shifts = nn.ModuleList(nn.Linear(2 * BINS, BINS) for _ in range(STAGES))
        self.widenings = nn.ModuleList(nn.Linear(size, 1) for size in (160, 90, 90))
        self._span = span

    def forward(self, pictures: Tensor) -> Tensor:
        total = pictures.new_zeros(len(pictures))
        width = pictures.new_ones(len(pictures))
        stages = zip(self.tanh_branch(pictures), self.relu_branch(pictures), strict=True)
        for stage, ((tanh_tap, tanh_mix), (relu_tap, relu_mix)) in enumerate(stages):
            fused = functional.relu(self.fusions[stage](tanh_mix * relu_mix))
            probability = functional.relu(self.probabilities[stage](fused))
            index = torch.arange(BINS, device=pictures.device) + torch.tanh(self.shifts[stage](fused))
            width = width * BINS * (1 + torch.tanh(self.widenings[stage](tanh_tap * relu_tap))[:, 0])
            total = total + (probability * index).sum(dim=1) / width
        return total * self._span


def load_ssrnet(path: Path, span: float) -> SsrNet:
    """Read an SSR-Net from the Keras weights file `path`. Raises UserError."""
    import h5py  # few estimators need it

    try:
        with h5py.File(path) as file:
            state = {
                f"{ours}.{name}": tensor
                for theirs, ours in LAYERS.items()
                for name, tensor in _layer(file, theirs if theirs in file else theirs.replace("_age", "")).items()
            }
    except (OSError, KeyError) as error:
        raise UserError(f"weights {path} are no SSR-Net in Keras's layout ({error}); {REPLACE}") from None
    return fill(SsrNet(span), state, path)


# Keras numbers layers in the order of their creation: the relu branch, the tanh branch, then stage by stage.
LAYERS = {
    **{f"conv2d_{k + 1}": f"relu_branch.convolutions.{k}" for k in range(4)},
    **{f"conv2d_{k + 5}": f"tanh_branch.convolutions.{k}" for k in range(4)},
    **{f"batch_normalization_{k + 1}": f"relu_branch.norms.{k}" for k in range(4)},
    **{f"batch_normalization_{k + 5}": f"tanh_branch.norms.{k}" for k in range(4)},
    **{f"conv2d_{2 * k + 9}": f"tanh_branch.taps.{k}" for k in range(STAGES)},
    **{f"conv2d_{2 * k + 10}": f"relu_branch.taps.{k}" for k in range(STAGES)},
    **{f"dense_{3 * k + 1}": f"tanh_branch.mixes.{k}" for k in range(STAGES)},
    **{f"dense_{3 * k + 2}": f"relu_branch.mixes.{k}" for k in range(STAGES)},
    **{f"dense_{3 * k + 3}": f"fusions.{k}" for k in range(STAGES)},
    **{f"pred_age_stage{k + 1}": f"probabilities.{k}" for k in range(STAGES)},
    **{f"local_delta_stage{k + 1}": f"shifts.{k}" for k in range(STAGES)},
    **{f"delta_s{k + 1}": f"widenings.{k}" for k in range(STAGES)},
}
"""Map Keras's layer name to ours. The gender network's `pred_stage` is the age network's `pred_age_stage`."""


NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
WEIGHTED = {"kernel": "weight", "bias": "bias"}
"""Map the name of a Keras layer's array to torch's."""


def _layer(file: Any, name: str) -> dict[str, Tensor]:
    """Convert one Keras layer to torch's form."""
    if not name.startswith("batch_normalization"):
        return {ours: _read(file, f"{name}/{name}/{theirs}:0") for theirs, ours in WEIGHTED.items()}
    tensors = {ours: _read(file, f"{name}/{name}/{theirs}:0") for theirs, ours in NORM.items()}
    return tensors | {"num_batches_tracked": torch.tensor(0)}


def _read(file: Any, place: str) -> Tensor:
    """Transpose (height, width, in, out) to (out, in, height, width) and (in, out) to (out, in). Keep (n,)."""
    array = np.asarray(file[place])
    order = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[array.ndim]
    return torch.from_numpy(np.ascontiguousarray(array.transpose(order)))
