"""Aligned faces -> vectors: the faces of one person lie close together.

The networks: facenet-pytorch's InceptionResnetV1 with David Sandberg's weights 20180402-114759 (VGGFace2), RGB, 160 px,
512 numbers; MobileFaceNet, RGB, 112x96 px, 128 numbers. Which one a file holds is told from its tensors.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from facenet_pytorch import InceptionResnetV1
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.models import mobilefacenet
from pipeline.models.aligned import Window
from pipeline.models.networks import Runner, fill, read_checkpoint

SIDE_PX = 160
DIMENSIONS = 512
"""Both of FaceNet."""


@dataclass(frozen=True, slots=True)
class View:
    """How the network is shown a face: what part of it, and (x - 127.5) / `half_range` of its grey values."""

    window: Window
    half_range: float


IDENTITY = View(Window(left=0.19, top=0.17, right=0.78, bottom=0.93), half_range=128.0)
"""As FaceNet was trained, for telling people apart.

Sandberg cut out MTCNN's box and a margin, squashed that to 182 px, and trained on random 160 px of it; facenet-pytorch
measured LFW with the box and a tenth more (`margin=14`), which is as much. MTCNN's box lies at (.22, .21, .75, .90) of
the aligned face, the median of 118 faces in news pictures (FDDB); this is that box and a tenth more. Both projects'
`fixed_image_standardization` has this half range.
"""
MOBILEFACENET_IDENTITY = View(Window(left=0.182, top=0.123, right=0.820, bottom=0.867), half_range=128.0)
"""As MobileFaceNet was trained: where SphereFace's template of 96x112 px (github.com/wy1iu/sphereface, preprocess) lies
on the aligned face. Verification on 400 faces of ten clips, the same track a second apart against others: AUC .983,
.979 with a tenth more or less of the face, .977 and .971 with .04 further down and up; in BGR .975.
Source: python -m tests.bench.mobilefacenet_view."""


class FaceEmbedder:
    """Faces to vectors, in batches of `batch`. view: IDENTITY or MOBILEFACENET_IDENTITY if None.

    Raises UserError where `path` does not hold one of the networks.
    """

    def __init__(self, path: Path, *, batch: int, device: str, half: bool, view: View | None = None) -> None:
        checkpoint = read_checkpoint(path)
        state: Mapping[str, Any] = checkpoint.get("net_state_dict", checkpoint)
        network: nn.Module
        if mobilefacenet.TELLING in state:
            network, self.dimensions = mobilefacenet.MobileFaceNet(), mobilefacenet.DIMENSIONS
            self._width, self._height = mobilefacenet.WIDTH_PX, mobilefacenet.HEIGHT_PX
            self.view = view or MOBILEFACENET_IDENTITY
        else:
            state = {name: tensor for name, tensor in state.items() if not name.startswith("logits.")}
            network, self.dimensions = InceptionResnetV1(), DIMENSIONS
            self._width = self._height = SIDE_PX
            self.view = view or IDENTITY
        self._network = fill(network, state, path).to(device)
        self._run = Runner(self._forward, batch=batch, device=device, half=half)

    def __call__(self, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, S, S, 3) uint8 RGB aligned faces -> (N, `dimensions`) float32 of length one."""
        if not len(faces):
            return np.zeros((0, self.dimensions), np.float32)
        (vectors,) = self._run(self.view.window.cut(faces, self._width, self._height))
        return vectors

    def _forward(self, crops: Tensor) -> Tensor:
        return self._network((crops.permute(0, 3, 1, 2).float() - 127.5) / self.view.half_range)
