"""Degrade a face like surveillance video does: few pixels, blur, little light, noise, compression.

Pictures are (H, W, 3) uint8 RGB. Every choice is drawn from the generator that the caller passes.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.arrays import Picture

SHRINKING = (cv2.INTER_AREA, cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)
ENLARGING = (cv2.INTER_LINEAR, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_NEAREST)


@dataclass(frozen=True, slots=True, kw_only=True)
class Degradation:
    """Probability and strength of each degradation. Pairs are the ends of a range.

    face_px: side of the small picture that the camera saw, log-uniform.
    blur_px: standard deviation of defocus, px of the small picture.
    motion_px: length of a motion blur, px of the small picture.
    light: factor of the brightness.
    gamma: exponent of the tone curve.
    noise: standard deviation, in 0..255.
    quality: JPEG quality.
    again: probability of a second compression after enlarging.
    """

    small: float = 0.85
    face_px: tuple[float, float] = (12, 64)
    blurred: float = 0.4
    blur_px: tuple[float, float] = (0.3, 1.0)
    moved: float = 0.2
    motion_px: tuple[float, float] = (2, 5)
    dim: float = 0.3
    light: tuple[float, float] = (0.25, 0.8)
    gamma: tuple[float, float] = (0.7, 1.6)
    noisy: float = 0.5
    noise: tuple[float, float] = (1.5, 10)
    compressed: float = 0.6
    quality: tuple[float, float] = (20, 85)
    again: float = 0.25


def degrade(picture: Picture, settings: Degradation, rng: np.random.Generator) -> Picture:
    """Return `picture`, (S, S, 3), as a distant camera would have recorded it, at the same size."""
    side = picture.shape[0]
    degraded: Any = picture
    if rng.random() < settings.small:
        low, high = settings.face_px
        small = min(side, round(low * (high / low) ** rng.random()))
        degraded = cv2.resize(degraded, (small, small), interpolation=SHRINKING[rng.integers(len(SHRINKING))])
    if rng.random() < settings.blurred:
        degraded = cv2.GaussianBlur(degraded, (0, 0), rng.uniform(*settings.blur_px))
    if rng.random() < settings.moved:
        degraded = cv2.filter2D(degraded, -1, motion_kernel(rng.uniform(*settings.motion_px), rng.uniform(0, np.pi)))
    if rng.random() < settings.dim:
        degraded = cv2.LUT(degraded, _tones(rng.uniform(*settings.light), rng.uniform(*settings.gamma)))
    if rng.random() < settings.noisy:
        grain = rng.standard_normal(degraded.shape, np.float32) * rng.uniform(*settings.noise)
        degraded = (degraded + grain).clip(0, 255).astype(np.uint8)
    compressed = rng.random() < settings.compressed
    if compressed:
        degraded = compress(degraded, int(rng.uniform(*settings.quality)))
    if degraded.shape[0] != side:
        degraded = cv2.resize(degraded, (side, side), interpolation=ENLARGING[rng.integers(len(ENLARGING))])
    if compressed and rng.random() < settings.again:
        degraded = compress(degraded, int(rng.uniform(*settings.quality)))
    return np.asarray(degraded, np.uint8)


def motion_kernel(length_px: float, angle: float) -> NDArray[np.float32]:
    """Return the (K, K) blur kernel of a straight movement over `length_px` at `angle` (radians). It sums to 1."""
    side = 2 * int(np.ceil(length_px / 2)) + 1
    kernel = np.zeros((side, side), np.float32)
    steps = np.linspace(-0.5, 0.5, 4 * side) * length_px
    columns = np.rint(side // 2 + steps * np.cos(angle)).astype(int)
    rows = np.rint(side // 2 + steps * np.sin(angle)).astype(int)
    np.add.at(kernel, (rows.clip(0, side - 1), columns.clip(0, side - 1)), 1)
    return kernel / kernel.sum()


def compress(picture: Picture, quality: int) -> Picture:
    """Return `picture` after JPEG compression at `quality`, 1..100."""
    _, encoded = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB), np.uint8)


def _tones(gain: float, gamma: float) -> NDArray[np.uint8]:
    """Return the (256,) uint8 table of a tone curve."""
    return np.rint(255 * (gain * (np.arange(256) / 255) ** gamma).clip(0, 1)).astype(np.uint8)
