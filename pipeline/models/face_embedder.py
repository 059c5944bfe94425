"""Embed aligned faces: the vectors of one person's faces lie close together.

- InceptionResnetV1 of facenet-pytorch with David Sandberg's weights 20180402-114759 (VGGFace2): RGB, 160 px, 512
  numbers
- MobileFaceNet: RGB, 112x96 px, 128 numbers

The tensors of a file identify its network.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.models import mobilefacenet
from pipeline.models.aligned import Window
from pipeline.models.facenet import InceptionResnetV1
from pipeline.models.networks import Runner, fill, for_inference, halve, read_checkpoint

SIDE_PX = 160
DIMENSIONS = 512
"""Input size and dimensions of FaceNet."""


@dataclass(frozen=True, slots=True)
class View:
    """The part of a face that the network sees, and its normalisation.

    window: the part of the aligned face.
    half_range: grey values become (x - 127.5) / half_range.
    """

    window: Window
    half_range: float


IDENTITY = View(Window(left=0.19, top=0.17, right=0.78, bottom=0.93), half_range=128.0)
"""FaceNet's view for identification.

Sandberg cut out MTCNN's box with a margin, squashed it to 182 px, and trained on random 160 px of it.
facenet-pytorch measured LFW with the box and a tenth more (`margin=14`), which is as much. MTCNN's box lies at (.22,
.21, .75, .90) of the aligned face, the median of 118 faces in news pictures (FDDB). This window is that box and a
tenth more. Both projects' `fixed_image_standardization` has this half range.
"""
MOBILEFACENET_IDENTITY = View(Window(left=0.182, top=0.123, right=0.820, bottom=0.867), half_range=128.0)
"""MobileFaceNet's view: where SphereFace's template of 96x112 px (github.com/wy1iu/sphereface, preprocess) lies on
the aligned face. Verification on 400 faces of ten clips (the same track a second apart against others) has an AUC of
.983. It is .979 with a tenth more or less of the face, .977 and .971 with .04 further down and up, and .975 in BGR.
Source: python -m tests.bench.mobilefacenet_view."""


class FaceEmbedder:
    """Embeds faces in batches of `batch` with FaceNet or MobileFaceNet, whichever the file holds.

    view: the part of the face that the network sees. None means that network's own.

    Raises UserError if `path` holds neither network.
    """

    def __init__(self, path: Path, *, batch: int, device: str, half: bool, view: View | None = None) -> None:
        checkpoint = read_checkpoint(path)
        state: Mapping[str, Any] = checkpoint.get("net_state_dict", checkpoint)
        network: nn.Module
        if mobilefacenet.TELLING in state:
            network, self.dimensions = mobilefacenet.MobileFaceNet(), mobilefacenet.DIMENSIONS
            heads: tuple[str, ...] = ("linear1",)
            self._width, self._height = mobilefacenet.WIDTH_PX, mobilefacenet.HEIGHT_PX
            self.view = view or MOBILEFACENET_IDENTITY
        else:
            state = {name: tensor for name, tensor in state.items() if not name.startswith("logits.")}
            network, self.dimensions = InceptionResnetV1(), DIMENSIONS
            heads = ("last_linear", "last_bn")
            self._width = self._height = SIDE_PX
            self.view = view or IDENTITY
        self._network = for_inference(fill(network, state, path), device)
        if half:
            halve(self._network, *heads)
        self._run = Runner(self._forward, batch=batch, device=device, half=False)

    def __call__(self, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (N, `dimensions`) float32 unit vectors for (N, S, S, 3) uint8 RGB aligned faces."""
        if not len(faces):
            return np.zeros((0, self.dimensions), np.float32)
        (vectors,) = self._run(self.view.window.cut(faces, self._width, self._height))
        return vectors

    def _forward(self, crops: Tensor) -> Tensor:
        return self._network((crops.permute(0, 3, 1, 2).float() - 127.5) / self.view.half_range)
