"""The age and gender networks of the earlier systems, on pictures like UTKFace's. One module judges both.

- InceptionV3 (Szegedy et al., CVPR 2016) at 140 px and MobileNetV2 (Sandler et al., CVPR 2018) at 96 px, from
  torchvision, with a 2-way gender and a 101-way age. The expectation is the age (Rothe et al., DEX, 2015).
- SSR-Net (Yang et al., IJCAI 2018) at 64 px: one network for age and one for gender.
- The networks of Levi and Hassner (CVPR Workshops 2015) at 227 px: one for the eight age groups of Adience and one
  for gender. The expectation of the groups' middles is the age, so it is coarse where a group is wide.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

from pipeline.cores.groups import ADIENCE
from pipeline.errors import UserError
from pipeline.models.attributes import YEARS, Calibration, moments, read_calibration
from pipeline.models.networks import fill, read_checkpoint, read_facts, write_checkpoint
from pipeline.models.ssrnet import YEARS as SSRNET_YEARS
from pipeline.models.ssrnet import SsrNet

KIND = "network"
NAMES = ("inceptionv3", "mobilenetv2", "ssrnet", "levi-hassner")
STORED = 256 / 227
"""Side of the pictures that crops are cut from, relative to the network's side. It is Levi and Hassner's ratio, used
for all."""
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""Mean and deviation of ImageNet, RGB in 0..1, as in torchvision."""
ADIENCE_MEAN = (78.4263377603, 87.7689143744, 114.895847746)
"""Mean of the authors' release, BGR in 0..255."""
MIDDLES = tuple((first + last) / 2 for first, last in ADIENCE)


class Classic(nn.Module, ABC):
    """A network of NAMES.

    side_px: side of its square input.
    stored_px: side of the pictures that `forward` takes.
    classes: first and last year of each class of age. None if the age is a single number.
    """

    classes: Sequence[tuple[float, float]] | None = None

    def __init__(self, side_px: int) -> None:
        super().__init__()
        self.side_px = side_px
        self.stored_px = round(side_px * STORED)

    @abstractmethod
    def outputs(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Return the outputs that training uses for (B, 3, side_px, side_px) RGB, 0..255. `raw` interprets them."""

    def raw(self, ages: Tensor, genders: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Convert `outputs` to (B,) years, their spreads in years, and logits of being female."""
        return *moments(ages), (genders[:, 1] - genders[:, 0]).float()

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        """Judge (B, stored_px, stored_px, 3) uint8 RGB pictures. The result is that of `raw`, and the (B, K)
        probabilities of `classes`, if there are some."""
        ages, genders = self.judge(pictures)
        shares = () if self.classes is None else (torch.softmax(ages.float(), dim=1),)
        return *self.raw(ages, genders), *shares

    def judge(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Return the outputs for the central crop of each picture."""
        return self.outputs(self.middle(pictures))

    def middle(self, pictures: Tensor) -> Tensor:
        """Return the central crops of pictures as `outputs` takes them."""
        margin = (self.stored_px - self.side_px) // 2
        inside = slice(margin, margin + self.side_px)
        return pictures[:, inside, inside].permute(0, 3, 1, 2).float()


class Torchvision(Classic):
    """An ImageNet network of torchvision with two other outputs."""

    mean: Tensor
    std: Tensor
    classes = tuple((float(year), float(year)) for year in range(YEARS))

    def __init__(self, name: str) -> None:
        super().__init__({"inceptionv3": 140, "mobilenetv2": 96}[name])
        if name == "inceptionv3":
            self.trunk: nn.Module = torchvision.models.inception_v3(
                weights=None, aux_logits=False, init_weights=True, transform_input=False
            )
            self.trunk.fc, width = nn.Identity(), 2048  # pyright: ignore[reportAttributeAccessIssue]
        else:
            self.trunk = torchvision.models.mobilenet_v2(weights=None)
            self.trunk.classifier, width = nn.Dropout(0.2), 1280  # pyright: ignore[reportAttributeAccessIssue]
        self.age = nn.Linear(width, YEARS)
        self.gender = nn.Linear(width, 2)
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1) * 255, persistent=False)

    def outputs(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Return (B, 101) logits of the years and (B, 2) logits of man and woman."""
        features = self.trunk((samples - self.mean) / self.std)
        return self.age(features), self.gender(features)


class SsrNets(Classic):
    """Two SSR-Nets. They give no distribution, so the spread of an age is 1.

    What the paper calls the probabilities of a stage are no distribution either: in the authors' files they are nearly
    the same numbers for every face, and do not sum to 1 (tests/models/test_ssrnet.py).
    """

    def __init__(self) -> None:
        super().__init__(64)
        self.age = SsrNet(SSRNET_YEARS)
        self.gender = SsrNet(1)

    def outputs(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Return (B,) years and (B,) gender from 0 (woman) to 1 (man). Both can lie slightly outside their range."""
        turned = samples.flip(1)
        return self.age(turned), self.gender(turned)

    def raw(self, ages: Tensor, genders: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return ages.float(), torch.ones_like(ages, dtype=torch.float32), (0.5 - genders).float()


class LeviHassner(Classic):
    """Two networks with three convolutions and two dense layers each. crops: average 10 crops, or use 1 from the
    middle."""

    mean: Tensor
    middles: Tensor
    classes = ADIENCE

    def __init__(self, crops: int = 10) -> None:
        super().__init__(227)
        self.crops = crops
        self.age = _levi_hassner(len(ADIENCE))
        self.gender = _levi_hassner(2)
        self.register_buffer("mean", torch.tensor(ADIENCE_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("middles", torch.tensor(MIDDLES), persistent=False)

    def outputs(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Return (B, 8) logits of the groups and (B, 2) logits of man and woman."""
        turned = samples.flip(1) - self.mean
        return self.age(turned), self.gender(turned)

    def raw(self, ages: Tensor, genders: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        shares = torch.softmax(ages.float(), dim=1)
        means = shares @ self.middles
        spreads = (shares * (self.middles - means[:, None]) ** 2).sum(1).sqrt()
        return means, spreads, (genders[:, 1] - genders[:, 0]).float()

    def judge(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Return outputs as Classic does. With ten crops (four corners, the middle, and their mirror images) average
        the probabilities."""
        if self.crops == 1:
            return super().judge(pictures)
        far, middle = self.stored_px - self.side_px, (self.stored_px - self.side_px) // 2
        shares: list[tuple[Tensor, Tensor]] = []
        for top, left in ((0, 0), (0, far), (far, 0), (far, far), (middle, middle)):
            crop = pictures[:, top : top + self.side_px, left : left + self.side_px].permute(0, 3, 1, 2).float()
            for view in (crop, crop.flip(-1)):
                ages, genders = self.outputs(view)
                shares.append((torch.softmax(ages.float(), dim=1), torch.softmax(genders.float(), dim=1)))
        ages, genders = (torch.stack(parts).mean(0).clamp_min(1e-12).log() for parts in zip(*shares, strict=True))
        return ages, genders


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassicFile:
    """The metadata of a network's file.

    name: one of NAMES.
    crops: 10 or 1, for Levi and Hassner's networks.
    """

    name: str
    crops: int
    calibration: Calibration

    def write(self, path: Path, network: nn.Module) -> None:
        """Write the file in float16."""
        write_checkpoint(path, network.state_dict(), {"kind": KIND, **asdict(self)}, half=True)


def build_classic(name: str, crops: int = 10) -> Classic:
    """Return a network of NAMES with random weights."""
    if name == "ssrnet":
        return SsrNets()
    if name == "levi-hassner":
        return LeviHassner(crops)
    return Torchvision(name)


def load_classic(path: Path) -> tuple[Classic, ClassicFile]:
    """Return the network in `path`, ready to run, and its metadata. Raises UserError."""
    facts = read_facts(path)
    try:
        if facts["kind"] != KIND or facts["name"] not in NAMES or facts["crops"] not in (1, 10):
            raise ValueError(f"kind {facts['kind']}, name {facts['name']}, crops {facts['crops']}")
        calibration = read_calibration(facts["calibration"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"weights {path} are no network of `rollcall train networks` ({error!r}); train one with that command"
        ) from None
    file = ClassicFile(name=facts["name"], crops=facts["crops"], calibration=calibration)
    return fill(build_classic(file.name, file.crops), read_checkpoint(path), path), file


def read_imagenet(network: Classic, path: Path) -> Classic:
    """Load torchvision's ImageNet weights from a file into the trunk. Raises UserError."""
    if not isinstance(network, Torchvision):
        raise UserError(f"--init {path}: only inceptionv3 and mobilenetv2 have weights of ImageNet; leave it out")
    left_out = ("fc.", "classifier.", "AuxLogits.")
    state = {name: tensor for name, tensor in read_checkpoint(path).items() if not name.startswith(left_out)}
    fill(network.trunk, state, path).train().requires_grad_(True)
    return network


def _levi_hassner(num_classes: int) -> nn.Sequential:
    """Build the network of the paper's section 3. Weights start Gaussian with a deviation of .01, as in the paper."""
    layers: list[nn.Module] = []
    for width_in, width, kernel, stride, padding in ((3, 96, 7, 4, 0), (96, 256, 5, 1, 2), (256, 384, 3, 1, 1)):
        layers += [nn.Conv2d(width_in, width, kernel, stride, padding), nn.ReLU()]
        layers += [nn.MaxPool2d(3, 2, ceil_mode=True)]
        layers += [nn.LocalResponseNorm(5)] if width < 384 else []
    layers += [nn.Flatten(), nn.Linear(384 * 7 * 7, 512), nn.ReLU(), nn.Dropout(0.5)]
    layers += [nn.Linear(512, 512), nn.ReLU(), nn.Dropout(0.5), nn.Linear(512, num_classes)]
    for layer in layers:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.normal_(layer.weight, std=0.01)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)
