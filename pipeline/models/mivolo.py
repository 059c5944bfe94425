"""MiVOLO (Kuprashevich and Tolstykh, 2023): one network that reads a face and the body of the same person.

It is timm's VOLO-D1, whose first layers are doubled and joined by attention between face and body. It reads the
checkpoints of the authors in both layouts: version 1 is a torch file with the scale of ages beside the tensors, and
version 2 a safetensors file of transformers. Checkpoints for faces alone are read too.

RGB, ImageNet mean and deviation, 224 or 384 px. Pictures keep their shape, on black. A missing picture is black.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from timm.layers.bottleneck_attn import PosEmbedRel
from timm.layers.mlp import Mlp
from timm.models.volo import VOLO
from torch import Tensor, nn

from pipeline.arrays import Estimates, Picture
from pipeline.cores.vote import OLDEST_YEARS
from pipeline.errors import UserError
from pipeline.models.aligned import Window
from pipeline.models.estimator import NO_ESTIMATES, estimates_of
from pipeline.models.networks import Runner, fill, read_checkpoint

D1: dict[str, Any] = {
    "layers": (4, 4, 8, 2),
    "embed_dims": (192, 384, 384, 384),
    "num_heads": (6, 12, 12, 12),
}
STEM_WIDTH, PATCH_PX, TOKEN_PX = 64, 8, 16
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
V2_PREFIX = "mivolo.model."
V2_AGES = {"min_age": 0.0, "max_age": 122.0, "avg_age": 61.0}
"""The scale of ages of version 2, which stands in a file beside its tensors (config.json)."""
FACE = Window(left=0.22, top=0.19, right=0.76, bottom=0.92)
"""The box of RetinaFace on the aligned face: the median of 118 faces, as for estimator.BOSCH_VIEW."""
FACE_STD, BODY_STD = 5.3, 8.6
"""Standard errors in years. They follow from the published mean absolute errors on IMDB-clean, 4.24 with a face and
6.87 for the body alone, times 1.25, as for normal errors. They are not measured here, because the weights were not
available."""
FACE_SUREST, BODY_SUREST = 0.994, 0.964
"""Largest probabilities of a gender: the published accuracies on IMDB-clean, 99.46 % and 96.48 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ages:
    """The scale of ages: years = output * (max_age - min_age) + avg_age."""

    min_age: float
    max_age: float
    avg_age: float


class FaceAndBody(nn.Module):
    """The first layers: maps (B, 6, S, S), a face and a body, to (B, C, S / 8, S / 8)."""

    def __init__(self, side_px: int, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = _stem(), _stem()
        cells = PATCH_PX // 2  # the stem halves the sides
        self.proj1, self.proj2 = (nn.Conv2d(STEM_WIDTH, width, cells, cells) for _ in range(2))
        self.map = CrossAttention(width, side_px // PATCH_PX)

    def forward(self, pairs: Tensor) -> Tensor:
        return self.map(self.proj1(self.conv1(pairs[:, :3])), self.proj2(self.conv2(pairs[:, 3:])))


class CrossAttention(nn.Module):
    """Lets each place of the face look at the body, and each place of the body at the face, and joins both."""

    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        self.scale = width**-0.5
        self.qkv_f, self.qkv_p = (nn.Conv2d(width, 3 * width, 1, bias=False) for _ in range(2))
        self.pos_embed = PosEmbedRel((side, side), dim_head=width, scale=self.scale)
        self.norm = nn.LayerNorm([2 * width, side, side])
        self.mlp = Mlp(2 * width, 4 * width, width, act_layer=nn.GELU, use_conv=True)

    def forward(self, face: Tensor, body: Tensor) -> Tensor:
        of_face, of_body = self.qkv_f(face).flatten(2).chunk(3, dim=1), self.qkv_p(body).flatten(2).chunk(3, dim=1)
        seen = [self._look(of_face[0], of_body, face.shape), self._look(of_body[0], of_face, face.shape)]
        return self.mlp(self.norm(torch.cat(seen, dim=1)))

    def _look(self, queries: Tensor, other: Sequence[Tensor], shape: torch.Size) -> Tensor:
        """Return what the places of one picture get from the other, as maps of `shape`."""
        _, keys, values = other
        queries = queries.transpose(1, 2)
        weights = (queries @ keys * self.scale + self.pos_embed(queries)).softmax(dim=-1)
        return (values @ weights.transpose(1, 2)).reshape(shape)


def build_mivolo(side_px: int, *, outputs: int = 3, reads_bodies: bool = True) -> VOLO:
    """Return the network with random weights. outputs: 3 for two genders and the age, 1 for the age alone."""
    network = VOLO(**D1, img_size=side_px, num_classes=outputs)
    if reads_bodies:
        network.patch_embed = FaceAndBody(side_px, D1["embed_dims"][0])  # pyright: ignore[reportAttributeAccessIssue]
    return network


class MiVolo:
    """The estimator.

    reads_bodies: False for a checkpoint of faces alone.
    """

    def __init__(self, path: Path, *, batch: int, device: str, half: bool) -> None:
        tensors, self._ages = _read(path)
        try:
            self.side_px = int(tensors["pos_embed"].shape[1]) * TOKEN_PX
            self._outputs = len(tensors["head.weight"])
        except (KeyError, IndexError, AttributeError, TypeError):
            raise UserError(
                f"weights {path} hold no VOLO (pos_embed or head.weight is missing); check the kind of this entry"
            ) from None
        self.reads_bodies = "patch_embed.conv1.0.weight" in tensors
        if self._outputs not in (1, 3):
            raise UserError(
                f"weights {path}: a MiVOLO has 1 or 3 outputs, got {self._outputs}; check the kind of this entry"
            )
        network = build_mivolo(self.side_px, outputs=self._outputs, reads_bodies=self.reads_bodies)
        self._network = fill(network, tensors, path).to(device)
        self._mean, self._std = (torch.tensor(values, device=device).view(3, 1, 1) * 255 for values in (MEAN, STD))
        self._run = Runner(self._forward, batch=batch, device=device, half=half)

    def __call__(self, faces: NDArray[np.uint8]) -> Estimates:
        """Judge (N, S, S, 3) aligned faces without bodies."""
        return self.judge(list(faces), [None] * len(faces))

    def judge(self, faces: Sequence[Picture | None], bodies: Sequence[Picture | None]) -> Estimates:
        """Judge N people by an aligned face, a body in which others are black, or both. One of them may be None."""
        if not len(faces):
            return NO_ESTIMATES
        pairs = np.zeros((len(faces), 2, self.side_px, self.side_px, 3), np.uint8)
        width = round(self.side_px * (FACE.right - FACE.left) / (FACE.bottom - FACE.top))
        for pair, face, body in zip(pairs, faces, bodies, strict=True):
            if face is not None:
                _place(FACE.cut(face[None], width, self.side_px)[0], pair[0])
            if body is not None and self.reads_bodies:
                _place(body, pair[1])
        (outputs,) = self._run(pairs)
        has_face = np.array([face is not None for face in faces])
        years = outputs[:, -1] * (self._ages.max_age - self._ages.min_age) + self._ages.avg_age
        probs = np.full(len(faces), np.nan)
        if self._outputs > 1:
            surest = np.where(has_face, FACE_SUREST, BODY_SUREST)
            probs = np.clip(expit(outputs[:, 1] - outputs[:, 0]), 1 - surest, surest)
        return estimates_of(years.clip(0, OLDEST_YEARS), np.where(has_face, FACE_STD, BODY_STD), probs)

    def _forward(self, pairs: Tensor) -> Tensor:
        samples = (pairs.permute(0, 1, 4, 2, 3).float() - self._mean) / self._std
        return self._network(samples.flatten(1, 2) if self.reads_bodies else samples[:, 0])


def _place(picture: Picture, square: Picture) -> None:
    """Put a picture into the middle of a black square, as large as its shape allows."""
    side, (height, width) = square.shape[0], picture.shape[:2]
    scale = min(side / height, side / width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    top, left = round((side - size[1]) / 2 - 0.1), round((side - size[0]) / 2 - 0.1)
    square[top : top + size[1], left : left + size[0]] = cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)


def _stem() -> nn.Sequential:
    layers: list[nn.Module] = []
    for kernel, width_in, stride in ((7, 3, 2), (3, STEM_WIDTH, 1), (3, STEM_WIDTH, 1)):
        layers += [
            nn.Conv2d(width_in, STEM_WIDTH, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(STEM_WIDTH),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


def _read(path: Path) -> tuple[Mapping[str, Any], Ages]:
    """Return the tensors of a checkpoint of either version, and its scale of ages."""
    checkpoint = read_checkpoint(path)
    if "state_dict" not in checkpoint:
        return {name.removeprefix(V2_PREFIX): tensor for name, tensor in checkpoint.items()}, Ages(**V2_AGES)
    try:
        ages = Ages(**{name: float(checkpoint[name]) for name in V2_AGES})
        if not 0 <= ages.min_age < ages.max_age <= 1000 or not math.isfinite(ages.avg_age):
            raise ValueError(f"from {ages.min_age:g} to {ages.max_age:g} years")
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"weights {path} do not state the scale of their ages ({error!r}); get the file of the authors"
        ) from None
    # Training leaves the statistics of its smoothing of features (fds) in the file.
    return {name: each for name, each in checkpoint["state_dict"].items() if not name.startswith("fds.")}, ages
