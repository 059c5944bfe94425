"""The stages of an OSNet, and the losses that compare them with a teacher or with labels."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def stages_of(network: Any) -> nn.ModuleList:
    """Return the five consecutive stages of an OSNet: four with feature maps, and one that makes the vector."""
    pools = (getattr(network, name, nn.Identity()) for name in ("pool2", "pool3"))
    return nn.ModuleList(
        [
            nn.Sequential(network.conv1, network.maxpool),
            nn.Sequential(network.conv2, next(pools)),
            nn.Sequential(network.conv3, next(pools)),
            nn.Sequential(network.conv4, network.conv5),
            nn.Sequential(network.global_avgpool, nn.Flatten(), network.fc),
        ]
    )


def run_stages(stages: nn.ModuleList, inputs: Tensor, fed: Sequence[Tensor] | None = None) -> list[Tensor]:
    """Return the output of each stage, fed with the stage before it, or with `fed` instead."""
    outputs: list[Tensor] = []
    for index, stage in enumerate(stages):
        before = inputs if index == 0 else outputs[-1] if fed is None else fed[index - 1]
        outputs.append(stage(before))
    return outputs


def feature_loss(ours: Tensor, theirs: Tensor) -> Tensor:
    """Return the mean squared difference in units of the teacher's variance."""
    return functional.mse_loss(ours.float(), theirs.float()) / theirs.float().var().clamp_min(1e-6)


def vector_loss(ours: Tensor, theirs: Tensor) -> Tensor:
    """Return 1 minus the mean cosine of (B, D) vectors."""
    return 1 - functional.cosine_similarity(ours.float(), theirs.float()).mean()


def triplet_loss(vectors: Tensor, people: Tensor, margin: float) -> Tensor:
    """Return the batch-hard triplet loss of (B, D) vectors.

    It compares each crop with its farthest crop of the same person and its nearest crop of another.
    """
    unit = functional.normalize(vectors.float())
    distances = (2 - 2 * unit @ unit.T).clamp_min(1e-6).sqrt()
    same = people[:, None] == people[None, :]
    farthest = distances.masked_fill(~same, 0).amax(dim=1)
    nearest = distances.masked_fill(same, torch.inf).amin(dim=1)
    return functional.relu(farthest - nearest + margin).mean()
