"""Aligned faces -> FaceNet's vectors: the faces of one person lie close together.

The network is facenet-pytorch's InceptionResnetV1 with David Sandberg's weights 20180402-114759 (VGGFace2).
RGB, 160 px.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from facenet_pytorch import InceptionResnetV1
from numpy.typing import NDArray
from torch import Tensor

from pipeline.models.aligned import Window
from pipeline.models.networks import Runner, fill, read_checkpoint

SIDE_PX = 160
DIMENSIONS = 512


@dataclass(frozen=True, slots=True)
class View:
    """How the network is shown a face: what part of it, and (x - 127.5) / `half_range` of its grey values."""

    window: Window
    half_range: float


IDENTITY = View(Window(left=0.19, top=0.17, right=0.78, bottom=0.93), half_range=128.0)
"""As it was trained, for telling people apart.

Sandberg cut out MTCNN's box and a margin, squashed that to 182 px, and trained on random 160 px of it; facenet-pytorch
measured LFW with the box and a tenth more (`margin=14`), which is as much. MTCNN's box lies at (.22, .21, .75, .90) of
the aligned face, the median of 118 faces in news pictures (FDDB); this is that box and a tenth more. Both projects'
`fixed_image_standardization` has this half range.
"""


class FaceEmbedder:
    """Faces to vectors, in batches of `batch`. Raises UserError where `path` does not hold the network."""

    def __init__(self, path: Path, *, batch: int, device: str, half: bool, view: View = IDENTITY) -> None:
        state = {name: tensor for name, tensor in read_checkpoint(path).items() if not name.startswith("logits.")}
        self._network = fill(InceptionResnetV1(), state, path).to(device)
        self._run = Runner(self._forward, batch=batch, device=device, half=half)
        self._view = view

    def __call__(self, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, S, S, 3) uint8 RGB aligned faces -> (N, 512) float32 of length one."""
        if not len(faces):
            return np.zeros((0, DIMENSIONS), np.float32)
        (vectors,) = self._run(self._view.window.cut(faces, SIDE_PX))
        return vectors

    def _forward(self, crops: Tensor) -> Tensor:
        return self._network((crops.permute(0, 3, 1, 2).float() - 127.5) / self._view.half_range)
