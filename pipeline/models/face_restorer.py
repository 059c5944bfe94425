"""Sharpen faces and kept pictures: GFPGAN on aligned faces, Real-ESRGAN on the rest of a picture.

Pictures are RGB. The results are for viewing and for estimates, never for identity, because details are invented.
"""

import sys
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.functional import rgb_to_grayscale

from pipeline.arrays import Picture
from pipeline.errors import UserError
from pipeline.models.networks import SAMPLES_A_PASS, Runner, fill, read_checkpoint

# basicsr, which gfpgan imports, wants a module that torchvision dropped in 0.17.
_functional_tensor = ModuleType("torchvision.transforms.functional_tensor")
_functional_tensor.__dict__["rgb_to_grayscale"] = rgb_to_grayscale
sys.modules.setdefault(_functional_tensor.__name__, _functional_tensor)

from basicsr.archs.rrdbnet_arch import RRDBNet  # noqa: E402
from gfpgan.archs.gfpganv1_clean_arch import GFPGANv1Clean  # noqa: E402

FACE_PX = 512
FACTOR = 2
"""Enlargement of an upsampled picture."""


class FaceRestorer:
    """GFPGAN 1.3 and 1.4 (Wang et al., CVPR 2021, "clean" architecture), in batches of `batch`.

    The input is RGB in [-1, 1]. The generator uses the noise that is stored with the weights, so a face always gives
    the same picture. Raises UserError if `path` does not hold the network.
    """

    def __init__(self, path: Path, *, batch: int, device: str, half: bool) -> None:
        # gfpgan.GFPGANer uses these settings for `arch="clean", channel_multiplier=2`.
        network = GFPGANv1Clean(
            out_size=FACE_PX,
            num_style_feat=512,
            channel_multiplier=2,
            fix_decoder=False,
            num_mlp=8,
            input_is_latent=True,
            different_w=True,
            narrow=1,
            sft_half=True,
        )
        self._network = fill(network, _trained(path), path).to(device)
        self._run = Runner(
            self._forward, batch=batch, device=device, half=half, samples_a_pass=SAMPLES_A_PASS["gfpgan"]
        )

    def __call__(self, faces: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Restore (N, 512, 512, 3) uint8 RGB faces that are aligned to the FFHQ template."""
        if not len(faces):
            return faces
        (restored,) = self._run(faces)
        return restored

    def _forward(self, faces: Tensor) -> Tensor:
        inputs = (
            faces.permute(0, 3, 1, 2).contiguous().float() / 127.5 - 1
        )  # the network expects channels first in memory
        images, _ = self._network(inputs, return_rgb=False, randomize_noise=False)
        return _as_pictures((images.float() + 1) / 2)


class PictureUpsampler:
    """Real-ESRGAN x2plus (Wang et al., ICCVW 2021) on whole pictures, tile by tile. RGB in [0, 1].

    Each tile sees BORDER_PX of its neighbours, so there are no seams, and memory does not grow with the picture.

    tile_px: side of the square tiles. A multiple of 2 and more than twice BORDER_PX.
    batch: number of tiles in a batch.
    """

    def __init__(self, path: Path, *, tile_px: int, batch: int, device: str, half: bool) -> None:
        network = RRDBNet(num_in_ch=3, num_out_ch=3, num_feat=64, num_block=23, num_grow_ch=32, scale=FACTOR)
        self._network = fill(network, _trained(path), path).to(device)
        self._run = Runner(self._forward, batch=batch, device=device, half=half)
        self._step_px = tile_px - 2 * BORDER_PX
        self._tile_px = tile_px
        if self._step_px <= 0 or tile_px % FACTOR:
            raise ValueError(f"tile_px must be even and more than {2 * BORDER_PX}, got {tile_px}")

    def __call__(self, picture: Picture) -> Picture:
        """Enlarge (H, W, 3) uint8 RGB to (2H, 2W, 3)."""
        height, width = picture.shape[:2]
        step, tile = self._step_px, self._tile_px
        corners = [(top, left) for top in range(0, height, step) for left in range(0, width, step)]
        below, right = (-side % step + BORDER_PX for side in (height, width))
        wide = cv2.copyMakeBorder(picture, BORDER_PX, below, BORDER_PX, right, cv2.BORDER_REPLICATE)
        (tiles,) = self._run(np.stack([wide[top : top + tile, left : left + tile] for top, left in corners]))
        large = np.empty((FACTOR * (height + below), FACTOR * (width + right), 3), np.uint8)
        inner = slice(FACTOR * BORDER_PX, FACTOR * (BORDER_PX + step))
        for (top, left), upsampled in zip(corners, tiles, strict=True):
            rows, columns = (slice(FACTOR * start, FACTOR * (start + step)) for start in (top, left))
            large[rows, columns] = upsampled[inner, inner]
        return large[: FACTOR * height, : FACTOR * width]

    def _forward(self, tiles: Tensor) -> Tensor:
        return _as_pictures(self._network(tiles.permute(0, 3, 1, 2).float() / 255).float())


BORDER_PX = 10
"""As in Real-ESRGAN's own tiling (tile_pad)."""


def paste_faces(picture: Picture, faces: NDArray[np.uint8], alignments: NDArray[np.floating]) -> Picture:
    """Paste aligned faces back into their picture.

    A face fades out over the outer tenth of its square. Later faces cover earlier ones.

    picture: (H, W, 3).
    faces: (N, S, S, 3).
    alignments: (N, 2, 3). Maps px of `picture` to px of a face.
    """
    height, width = picture.shape[:2]
    pasted = picture.astype(np.float32)
    for face, alignment in zip(faces, alignments, strict=True):
        size = (width, height)
        back = np.asarray(alignment, np.float64)
        warped = cv2.warpAffine(face, back, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        weight = cv2.warpAffine(_fading(len(face)), back, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        pasted += weight[:, :, None] * (warped - pasted)
    return np.round(pasted).astype(np.uint8)


def _fading(side_px: int) -> NDArray[np.float32]:
    """Return (S, S) weights: 1 inside, falling to 0 over the outer tenth on each side."""
    distance = np.minimum(np.arange(side_px), np.arange(side_px)[::-1])
    ramp = np.clip(distance / (0.1 * side_px), 0, 1).astype(np.float32)
    return np.minimum(ramp[:, None], ramp[None, :])


def _trained(path: Path) -> dict[str, Tensor]:
    """Return the averaged weights of a BasicSR checkpoint."""
    checkpoint = read_checkpoint(path)
    if "params_ema" not in checkpoint:
        raise UserError(
            f"weights {path} hold no `params_ema`, as releases of GFPGAN and Real-ESRGAN have; "
            "check the file of this registry entry"
        )
    return checkpoint["params_ema"]


def _as_pictures(images: Tensor) -> Tensor:
    """Convert (B, 3, H, W) in [0, 1] to (B, H, W, 3) uint8."""
    return (images.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
