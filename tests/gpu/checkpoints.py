"""Write checkpoints in the layout of official releases with random values.

Speed and exactness do not depend on the values. The statistics of the norms come from a batch of the tests'
pictures, so that activations have the scale of a trained network.
"""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from facenet_pytorch import InceptionResnetV1
from numpy.typing import NDArray
from retinaface.model.retinaface_pth_model import RetinaFace as RetinaFaceR50
from torch import Tensor, nn

from pipeline.models.body_embedder import build_osnet
from pipeline.models.person_detector import new_model, write_network

FACES_ARE_RARE = (8.0, 8.0, -8.0, -8.0)
"""Biases of background and face, for each of two anchors."""


def smooth_noise(seed: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return (N, H, W, 3) smooth coloured noise, as random as pictures are."""
    count, height, width, _ = shape
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (count, 12, 12, 3), np.uint8)
    return np.stack([cv2.resize(each, (width, height), interpolation=cv2.INTER_CUBIC) for each in coarse]).astype(
        np.uint8
    )


def yolo(architecture: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        torch.manual_seed(0)
        network = new_model(architecture, 80)
        network.names = {0: "person"} | {index: f"class {index}" for index in range(1, 80)}
        _settle(network, _pictures(2, 384, 640) / 255)
        for name, tensor in network.named_parameters():
            if "cv3" in name and name.endswith(".2.bias"):
                tensor.data = torch.randn_like(tensor) - 3  # few scores are above the threshold
        write_network(network, architecture, path, {})

    return write


def osnet(name: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        torch.manual_seed(0)
        network = build_osnet(name)
        network.classifier = nn.Identity()  # training needs one
        _settle(network, torch.randn(4, 3, 256, 128))
        del network.classifier
        torch.save(network.state_dict(), path)

    return write


def retinaface_r50(path: Path) -> None:
    torch.manual_seed(0)
    network = RetinaFaceR50()
    _settle(network, _pictures(2, 320, 320).permute(0, 2, 3, 1))
    for name, tensor in network.named_parameters():
        if name.endswith("cls_score.bias"):
            tensor.data = torch.tensor(FACES_ARE_RARE)  # else half of the anchors are faces, and NMS takes all time
    torch.save(network.state_dict(), path)


def facenet(path: Path) -> None:
    torch.manual_seed(0)
    network = InceptionResnetV1(pretrained=None)
    _settle(network, torch.randn(4, 3, 160, 160))
    torch.save(network.state_dict(), path)


def gfpgan(path: Path) -> None:
    from pipeline.models.face_restorer import GFPGANv1Clean

    torch.manual_seed(0)
    network = GFPGANv1Clean(
        512,
        num_style_feat=512,
        channel_multiplier=2,
        fix_decoder=False,
        input_is_latent=True,
        different_w=True,
        sft_half=True,
    )
    torch.save({"params_ema": network.state_dict()}, path)


def _pictures(count: int, height: int, width: int) -> Tensor:
    """Return pictures of the tests, as (N, 3, H, W) of 0..255. Statistics of white noise would let them grow beyond
    float16."""
    return torch.from_numpy(smooth_noise(0, (count, height, width, 3))).permute(0, 3, 1, 2).float()


def _settle(network: nn.Module, noise: Tensor) -> None:
    """Set the statistics of the norms from a batch."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    network.train()
    with torch.no_grad():
        network(noise)
    network.eval()
