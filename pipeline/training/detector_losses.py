"""The losses of a small detector besides Ultralytics' own: a teacher's features, boxes and background."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

BLOCKS = (2, 4, 6, 8, 9, 12, 15, 18, 21)
"""The layers of YOLOv8 whose outputs follow the teacher's: C2f and SPPF of the backbone, C2f of the neck."""
REG_MAX = 16


class Features:
    """The outputs of BLOCKS at a network's last forward pass."""

    def __init__(self, network: Any) -> None:
        self.last: dict[int, torch.Tensor] = {}
        for index in BLOCKS:
            network.model[index].register_forward_hook(self._keep(index))

    def _keep(self, index: int) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
            self.last[index] = output

        return hook


def feature_loss(student: dict[int, torch.Tensor], teacher: dict[int, torch.Tensor]) -> torch.Tensor:
    """Return 1 minus the correlation of the student's channels with the teacher's, averaged over channels and
    blocks."""
    losses = []
    for index, target in teacher.items():
        mine, its = student[index].float(), target.float()
        mine = mine - mine.mean((0, 2, 3), keepdim=True)
        its = its - its.mean((0, 2, 3), keepdim=True)
        norm = (mine.square().mean((0, 2, 3)) * its.square().mean((0, 2, 3)) + 1e-8).sqrt()
        losses.append((1 - (mine * its).mean((0, 2, 3)) / norm).mean())
    return torch.stack(losses).mean()


class SoftBackground(nn.Module):
    """Binary cross-entropy whose background target is `soft`, (B, anchors, 1), set before each call."""

    soft: torch.Tensor

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        target = torch.where(target > 0, target, self.soft)
        return functional.binary_cross_entropy_with_logits(logits, target, reduction="none")


def distribution_loss(student: torch.Tensor, teacher: torch.Tensor, score: torch.Tensor) -> torch.Tensor:
    """Return the divergence of box distributions (B, 4 * REG_MAX, anchors), weighted by the teacher's `score` (B,
    anchors)."""
    some = score > 0.05
    weight = score[some]
    if not len(weight):
        return student.sum() * 0
    mine, its = (
        logits.permute(0, 2, 1)[some].float().view(-1, 4, REG_MAX).log_softmax(-1) for logits in (student, teacher)
    )
    divergence = functional.kl_div(mine, its, reduction="none", log_target=True).sum(-1).mean(-1)
    return (divergence * weight).sum() / weight.sum()
