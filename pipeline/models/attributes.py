"""The starter estimator of age and gender: a compact residual network, its calibration, and the file of both.

The age is a distribution over whole years (Gao et al. 2018, "Age Estimation Using Expectation of Label Distribution
Learning"). Its mean is the estimate, and its spread predicts the error.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor, nn

from pipeline.cores.vote import Z_80
from pipeline.errors import UserError
from pipeline.models.networks import fill, read_checkpoint, read_facts, write_checkpoint

YEARS = 101
"""Number of age classes: whole years 0 to 100."""
WIDTHS, DEPTHS, STEM, FEATURES = (48, 96, 192, 256), (2, 2, 2, 1), 32, 384
SE_SHARE = 4
STD_YEARS = (0.2, 30.0)
"""Smallest and largest standard error of an age, in years."""
SMALLEST_SPREAD = 0.1
"""Years. Smaller raw spreads count as this."""
FAR_YEARS = 1000.0
"""Reach of the scale of intervals beyond its ends."""
MEAN, STD = 127.5, 64.0
"""Mean and deviation of pixel values, 0..255. They bring the input close to a standard normal distribution."""


class Excitation(nn.Module):
    """Weights channels by the content of the whole map (Hu et al. 2018, "Squeeze-and-Excitation Networks")."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, channels // SE_SHARE, 1)
        self.excite = nn.Conv2d(channels // SE_SHARE, channels, 1)

    def forward(self, maps: Tensor) -> Tensor:
        means = maps.mean((2, 3), keepdim=True)
        return maps * torch.sigmoid(self.excite(torch.relu(self.squeeze(means))))


class Block(nn.Module):
    """Two 3x3 convolutions, excitation, and a shortcut that averages where the map shrinks (ResNet-D)."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(width)
        self.excitation = Excitation(width)
        self.around = nn.Identity()
        if stride > 1 or width_in != width:
            self.around = nn.Sequential(
                nn.AvgPool2d(stride, ceil_mode=True),
                nn.Conv2d(width_in, width, 1, bias=False),
                nn.BatchNorm2d(width),
            )

    def forward(self, maps: Tensor) -> Tensor:
        inner = torch.relu_(self.first_norm(self.first(maps)))
        return torch.relu_(self.around(maps) + self.excitation(self.second_norm(self.second(inner))))


class AttributeNet(nn.Module):
    """The network: 2.9 million weights, 142 million multiply-adds at 96 px. It takes squares from 32 px on.

    width: factor of the numbers of channels after the stem. Weights and multiply-adds grow with its square.
    """

    def __init__(self, dropout: float = 0.0, width: float = 1.0) -> None:
        super().__init__()
        self.width = width
        layers: list[nn.Module] = [
            nn.Conv2d(3, STEM, 3, 2, 1, bias=False),
            nn.BatchNorm2d(STEM),
            nn.ReLU(inplace=True),
        ]
        width_in = STEM
        for channels, depth in zip(WIDTHS, DEPTHS, strict=True):
            width_out = round(channels * width / 8) * 8
            for index in range(depth):
                layers.append(Block(width_in, width_out, 2 if index == 0 else 1))
                width_in = width_out
        layers += [nn.Conv2d(width_in, FEATURES, 1, bias=False), nn.BatchNorm2d(FEATURES), nn.ReLU(inplace=True)]
        self.maps = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout)
        self.heads = nn.Linear(FEATURES, YEARS + 1)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, 3, S, S) RGB, 0..255, to (B, 101) logits of the years 0 to 100 and (B,) logits of being female."""
        features = self.maps((crops - MEAN) / STD).mean((2, 3))
        logits = self.heads(self.dropout(features))
        return logits[:, :YEARS], logits[:, YEARS]


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The meaning of the network's raw outputs. pipeline.training.calibration fits it.

    knots: (K,) raw ages in years, between which `shifts` are interpolated linearly.
    shifts: (K,) years to add to the raw age.
    years, marks: (M,) ages in years and their places on a scale, which is linear between them and beyond them. The
        80 % interval of an age reaches Z_80 raw spreads to either side on this scale, and in years further to the side
        on which the marks are closer. It changes smoothly with the age.
    slope, offset: the logit of being female is slope * raw + offset.
    """

    knots: tuple[float, ...]
    shifts: tuple[float, ...]
    years: tuple[float, ...]
    marks: tuple[float, ...]
    slope: float
    offset: float

    @classmethod
    def neutral(cls) -> Self:
        """Return a calibration that changes nothing."""
        return cls(knots=(0.0,), shifts=(0.0,), years=(0.0, 1.0), marks=(0.0, 1.0), slope=1.0, offset=0.0)

    def age(self, means: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return (N,) years, 0 to 100, for (N,) raw ages."""
        return np.clip(means + np.interp(means, self.knots, self.shifts), 0, YEARS - 1)

    def age_error(
        self, means: NDArray[np.floating], spreads: NDArray[np.floating]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return (N,) expected standard errors in years and (N,) leans of the intervals for (N,) raw ages and spreads.

        cores.vote.age_interval makes an interval of both.
        """
        ages, margins = self.age(means), Z_80 * np.maximum(spreads, SMALLEST_SPREAD).astype(np.float64)
        years, marks = _extended(self.years, self.marks)
        places = np.interp(ages, years, marks)
        lows, highs = (np.interp(places + margin, marks, years) for margin in (-margins, margins))
        stds = ((highs - lows) / (2 * Z_80)).clip(*STD_YEARS)
        return stds, (highs + lows - 2 * ages) / (highs - lows)

    def female_prob(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return (N,) probabilities for (N,) raw logits."""
        return expit(self.slope * logits + self.offset)


def _extended(years: tuple[float, ...], marks: tuple[float, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the scale with one more place far beyond each end, in line with the places at that end."""
    x, y = np.array(years), np.array(marks)
    first, last = FAR_YEARS * (y[1] - y[0]) / (x[1] - x[0]), FAR_YEARS * (y[-1] - y[-2]) / (x[-1] - x[-2])
    return (
        np.concatenate([[x[0] - FAR_YEARS], x, [x[-1] + FAR_YEARS]]),
        np.concatenate([[y[0] - first], y, [y[-1] + last]]),
    )


def read_calibration(fields: Mapping[str, Any]) -> Calibration:
    """Return a Calibration from JSON. Raises KeyError, TypeError or ValueError."""
    knots, shifts, years, marks = (tuple(map(float, fields[name])) for name in ("knots", "shifts", "years", "marks"))
    if len(knots) != len(shifts):
        raise ValueError("knots and shifts must be of one length")
    if not len(years) == len(marks) > 1 or not all((np.diff(values) > 0).all() for values in (years, marks)):
        raise ValueError("years and marks must be of one length, at least 2, and rise")
    slope, offset = (float(fields[name]) for name in ("slope", "offset"))
    return Calibration(knots=knots, shifts=shifts, years=years, marks=marks, slope=slope, offset=offset)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeFile:
    """The metadata of weights/starter-attributes.safetensors.

    side_px: side of the network's input.
    mirrored: whether the estimator also judges the mirror image.
    calibration: of the raw outputs.
    width: of the network.
    """

    side_px: int
    mirrored: bool
    calibration: Calibration
    width: float = 1.0

    def write(self, path: Path, network: AttributeNet) -> None:
        """Write the file in float16."""
        write_checkpoint(path, network.state_dict(), {"kind": "attributes", **asdict(self)}, half=True)


def load_attributes(path: Path) -> tuple[AttributeNet, AttributeFile]:
    """Return the network in `path`, ready to run, and its metadata. Raises UserError."""
    facts = read_facts(path)
    if facts.get("kind") != "attributes":
        raise UserError(f"weights {path} hold no estimator of kind attributes; `rollcall train attributes` writes one")
    file = _read_file(facts, path)
    return fill(AttributeNet(width=file.width), read_checkpoint(path), path), file


def moments(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return (B,) mean and (B,) standard deviation, in years, of the distributions with (B, 101) logits."""
    shares = torch.softmax(logits.float(), dim=1)
    years = torch.arange(YEARS, dtype=torch.float32, device=logits.device)
    means = (shares * years).sum(1)
    return means, (shares * (years - means[:, None]) ** 2).sum(1).sqrt()


def judge(network: nn.Module, crops: Tensor, *, mirrored: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return (B,) raw ages, their spreads and logits of being female for (B, S, S, 3) uint8 RGB faces.

    mirrored: average the logits of the picture and of its mirror image.
    """
    ages, women = age_and_gender_logits(network, crops, mirrored=mirrored)
    return *moments(ages), women.float()


def age_and_gender_logits(network: nn.Module, crops: Tensor, *, mirrored: bool) -> tuple[Tensor, Tensor]:
    """Return (B, 101) logits of the years and (B,) logits of being female, as `judge` needs them."""
    samples = crops.permute(0, 3, 1, 2).float()
    if not mirrored:
        return network(samples)
    ages, women = (
        both.float().unflatten(0, (2, -1)).mean(0) for both in network(torch.cat([samples, samples.flip(-1)]))
    )
    return ages, women


def _read_file(facts: Mapping[str, Any], path: Path) -> AttributeFile:
    try:
        calibration = read_calibration(facts["calibration"])
        side_px, mirrored, width = int(facts["side_px"]), bool(facts["mirrored"]), float(facts.get("width", 1.0))
        return AttributeFile(side_px=side_px, mirrored=mirrored, calibration=calibration, width=width)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"weights {path}: its metadata do not describe an estimator of kind attributes ({error!r}); "
            "get the file again, or train it with `rollcall train attributes`"
        ) from None
