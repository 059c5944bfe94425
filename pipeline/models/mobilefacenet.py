"""MobileFaceNet (Chen et al., "MobileFaceNets: Efficient CNNs for Accurate Real-Time Face Verification", CCBR 2018).

The layers have the names of github.com/Xiaoccer/MobileFaceNet_Pytorch, whose checkpoints this loads: the paper's
table 1 with depthwise convolutions of 7x6, for faces of 112x96 px (height x width), and a vector of 128.
"""

from torch import Tensor, nn
from torch.nn import functional

HEIGHT_PX, WIDTH_PX = 112, 96
DIMENSIONS = 128
TELLING = "linear7.conv.weight"
"""A tensor that identifies these checkpoints."""
BOTTLENECKS = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))
"""Expansion, channels, blocks and first stride of each row of the table."""


class Convolution(nn.Module):
    """A convolution, optionally depthwise, with batch normalisation, and PReLU unless it is linear."""

    def __init__(
        self, width_in: int, width: int, kernel: int | tuple[int, int], *, stride: int = 1, padding: int = 0,
        depthwise: bool = False, linear: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        groups = width_in if depthwise else 1
        self.conv = nn.Conv2d(width_in, width, kernel, stride, padding, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.prelu = nn.Identity() if linear else nn.PReLU(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.prelu(self.bn(self.conv(x)))


class Bottleneck(nn.Module):
    """Expand, convolve each channel, project. The input is added where the sizes agree."""

    def __init__(self, width_in: int, width: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = width_in * expansion
        self._is_residual = stride == 1 and width_in == width
        self.conv = nn.Sequential(
            nn.Conv2d(width_in, inner, 1, bias=False),
            nn.BatchNorm2d(inner),
            nn.PReLU(inner),
            nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False),
            nn.BatchNorm2d(inner),
            nn.PReLU(inner),
            nn.Conv2d(inner, width, 1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self._is_residual else self.conv(x)


class MobileFaceNet(nn.Module):
    """Return (B, 128) unit vectors for (B, 3, 112, 96)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = Convolution(3, 64, 3, stride=2, padding=1)
        self.dw_conv1 = Convolution(64, 64, 3, padding=1, depthwise=True)
        blocks: list[nn.Module] = []
        width_in = 64
        for expansion, width, count, stride in BOTTLENECKS:
            for index in range(count):
                blocks.append(Bottleneck(width_in, width, stride if index == 0 else 1, expansion))
                width_in = width
        self.blocks = nn.Sequential(*blocks)
        self.conv2 = Convolution(128, 512, 1)
        self.linear7 = Convolution(512, 512, (HEIGHT_PX // 16, WIDTH_PX // 16), depthwise=True, linear=True)
        self.linear1 = Convolution(512, DIMENSIONS, 1, linear=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv2(self.blocks(self.dw_conv1(self.conv1(x))))
        return functional.normalize(self.linear1(self.linear7(x)).flatten(1))
