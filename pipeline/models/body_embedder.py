"""Embed crops of people with the re-identification networks of BoxMOT: similar clothes give similar vectors.

BoxMOT's own wrapper identifies the network by the file name and sizes batches by their input. Here the tensors
identify the network, and batches have one fixed shape.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from boxmot.reid.backbones.registry import build_backbone, get_backbone_spec, registered_backbone_names
from numpy.typing import NDArray

from pipeline.arrays import Picture
from pipeline.boxes import Boxes
from pipeline.errors import UserError
from pipeline.models.networks import Runner, fill, for_inference, halve, read_checkpoint

FAMILY = "osnet_"
FIRST = "conv1.conv.weight"
"""The tensor of the first layer."""
DIMENSIONS = 512
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""Mean and deviation of ImageNet, RGB, as BoxMOT's ReID applies them."""


class BodyEmbedder:
    """OSNet (Zhou et al., ICCV 2019) of any width, plain, IBN or AIN.

    batch: number of crops in a forward pass. The last one is padded.

    Raises UserError if the file holds no OSNet.
    """

    def __init__(self, path: Path, *, batch: int, device: str, half: bool) -> None:
        self.batch = batch
        network, architecture = load_osnet(path)
        self.height, self.width = get_backbone_spec(architecture).default_img_size
        self._network = for_inference(network, device)
        self._mean = torch.tensor(MEAN, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(STD, device=device).view(1, 3, 1, 1)
        if half:
            halve(self._network, "fc")
        self._run = Runner(self.vectors, batch=batch, device=device, half=False)
        self._run_alone = Runner(self.vectors, batch=1, device=device, half=False)

    def crops(self, picture: Picture, boxes: Boxes) -> NDArray[np.uint8]:
        """Cut (N, 4) `boxes` out of `picture` and squash them to the network's input: (N, 256, 128, 3) uint8 RGB."""
        return cut_bodies(picture, boxes, self.height, self.width)

    def __call__(self, crops: NDArray[np.uint8], *, alone: bool = False) -> NDArray[np.float32]:
        """Return (N, D) float32 unit vectors for (N, 256, 128, 3) uint8 RGB crops. alone: use batches of one."""
        if not len(crops):
            return np.zeros((0, DIMENSIONS), np.float32)
        (vectors,) = (self._run_alone if alone else self._run)(crops)
        return unit_vectors(vectors)

    def vectors(self, crops: torch.Tensor) -> torch.Tensor:
        """Return (N, D) vectors of (N, 256, 128, 3) uint8 RGB crops on the device."""
        samples = crops.permute(0, 3, 1, 2).to(torch.float32)
        return self._network(samples.div_(255.0).sub_(self._mean).div_(self._std))


def cut_bodies(picture: Picture, boxes: Boxes, height: int, width: int) -> NDArray[np.uint8]:
    """Cut (N, 4) `boxes` out of `picture` and squash them: (N, height, width, 3) uint8 RGB.

    Boxes are cut to whole pixels, as BoxMOT's ReID does. A box outside the picture gives black.
    """
    crops = np.zeros((len(boxes), height, width, 3), np.uint8)
    corners = whole_pixels(boxes, picture.shape[1], picture.shape[0])
    for crop, (left, top, right, bottom) in zip(crops, corners, strict=True):
        if right > left and bottom > top:
            cv2.resize(picture[top:bottom, left:right], (width, height), dst=crop, interpolation=cv2.INTER_LINEAR)
    return crops


def whole_pixels(boxes: Boxes, width: int, height: int) -> NDArray[np.int64]:
    """Return (N, 4) boxes in whole pixels inside a picture."""
    return boxes.round().astype(np.int64).clip(0, [width, height] * 2)


def unit_vectors(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (N, D) vectors with length one. A zero vector stays zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(norms > 0, norms, 1)).astype(np.float32)


def load_osnet(path: Path) -> tuple[torch.nn.Module, str]:
    """Return the OSNet in a torch or safetensors file, ready to run, and its name in BoxMOT. Raises UserError."""
    tensors = _tensors(path)
    shapes = _shapes(tensors)
    names = [name for name in registered_backbone_names() if name.startswith(FAMILY)]
    channels = next(iter(shapes.get(FIRST) or ()), None)
    # Those of this width come first, so that most of the others need not be built.
    for name in sorted(names, key=lambda name: _first_channels(name) != channels):
        network = build_osnet(name)
        if _shapes(network.state_dict()) == shapes:
            return fill(network, tensors, path), name
    raise UserError(f"weights {path} are none of {', '.join(names)}; observe.body.weights must name one of them")


def build_osnet(architecture: str) -> torch.nn.Module:
    """Return an OSNet of BoxMOT with random weights, (B, 3, H, W) -> (B, 512), without the classifier."""
    network = build_backbone(architecture, num_classes=1, loss="softmax", pretrained=False, use_gpu=False)
    del network.classifier
    return network


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a checkpoint without the classifier of the people it was trained on."""
    checkpoint = read_checkpoint(path)
    state = checkpoint.get("state_dict", checkpoint) if isinstance(checkpoint, Mapping) else {}
    named = ((str(name).removeprefix("module."), tensor) for name, tensor in state.items())
    return {name: tensor for name, tensor in named if not name.startswith("classifier.")}


def _shapes(tensors: Mapping[str, Any]) -> dict[str, Any]:
    return {name: getattr(tensor, "shape", None) for name, tensor in tensors.items()}


def _first_channels(name: str) -> float:
    """Return the number of channels of the first layer, by the width in the name of an OSNet, as osnet_x0_25."""
    return 64 * float(name.rpartition("x")[2].replace("_", "."))
