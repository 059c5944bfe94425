"""Crops of people for training a body embedder, and their augmentation."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.arrays import Picture
from pipeline.models.body_embedder import MEAN, STD, cut_bodies
from pipeline.models.person_detector import PersonDetector

HEIGHT, WIDTH = 256, 128
MIN_HEIGHT_PX = 40
"""Smaller people in unlabelled pictures are left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """Probabilities and ranges of the augmentation.

    shift, zoom: shares of the crop's size.
    light, contrast, saturation: largest change of the factor 1.
    occluded: probability that another crop is pasted over one side.
    cover: share of the width that it covers.
    erased_share: share of the crop's area.
    small_px: height of the crop that the camera saw.
    blur_px: standard deviation.
    """

    mirrored: float = 0.5
    shift: float = 0.06
    zoom: float = 0.12
    light: float = 0.25
    contrast: float = 0.25
    saturation: float = 0.3
    occluded: float = 0.3
    cover: tuple[float, float] = (0.15, 0.5)
    erased: float = 0.25
    erased_share: tuple[float, float] = (0.02, 0.2)
    small: float = 0.3
    small_px: tuple[int, int] = (40, 160)
    blurred: float = 0.2
    blur_px: tuple[float, float] = (0.5, 2.0)


@dataclass(frozen=True, slots=True, eq=False)
class People:
    """N labelled crops.

    crops: (N, 256, 128, 3) uint8 RGB.
    people: (N,) int64. The person each crop shows.
    cameras: (N,) int64.
    """

    crops: NDArray[np.uint8]
    people: NDArray[np.int64]
    cameras: NDArray[np.int64]


def crops_found(pictures: Sequence[Picture], detector: PersonDetector) -> NDArray[np.uint8]:
    """Return (N, 256, 128, 3) crops of the people that `detector` finds in pictures."""
    return crops_of(pictures, [detections.boxes for detections in detector(pictures)])


def crops_of(pictures: Sequence[Picture], boxes: Sequence[NDArray[np.float32]]) -> NDArray[np.uint8]:
    """Return (N, 256, 128, 3) crops of the boxes of each picture, without boxes lower than MIN_HEIGHT_PX."""
    parts = [np.zeros((0, HEIGHT, WIDTH, 3), np.uint8)]
    for picture, some in zip(pictures, boxes, strict=True):
        parts.append(cut_bodies(picture, some[some[:, 3] - some[:, 1] >= MIN_HEIGHT_PX], HEIGHT, WIDTH))
    return np.concatenate(parts)


def shared_view(crop: Picture, settings: Augmentation, rng: np.random.Generator) -> Picture:
    """Return `crop` as teacher and student see it: mirrored, shifted, zoomed, tinted."""
    height, width = crop.shape[:2]
    zoom = 1 + rng.uniform(-1, 1) * settings.zoom
    x, y = rng.uniform(-1, 1, 2) * settings.shift * (width, height) + (1 - zoom) / 2 * np.array([width, height])
    matrix = np.array([[zoom, 0, x], [0, zoom, y]])
    if rng.random() < settings.mirrored:
        matrix[0] = [-zoom, 0, width - 1 - x]
    moved = cv2.warpAffine(crop, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
    light, contrast, saturation = (
        1 + rng.uniform(-1, 1) * largest for largest in (settings.light, settings.contrast, settings.saturation)
    )
    # Change the tones with a table, then move the colours away from or towards grey.
    values = np.arange(256, dtype=np.float32) * light
    tones = ((values - 127.5) * contrast + 127.5).clip(0, 255).astype(np.uint8)
    toned = np.asarray(cv2.LUT(moved, tones), np.uint8)
    grey = cv2.cvtColor(cv2.cvtColor(toned, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return np.asarray(cv2.addWeighted(toned, saturation, grey, 1 - saturation, 0), np.uint8)


def student_view(
    crop: Picture, other: Picture, settings: Augmentation, rng: np.random.Generator
) -> tuple[Picture, bool]:
    """Return `crop` as only the student sees it: sometimes occluded by `other`, erased, small, blurred.

    Also return whether the crop is complete, that is neither occluded nor erased.
    """
    height, width = crop.shape[:2]
    spoilt, is_whole = crop.copy(), True
    if rng.random() < settings.occluded:
        is_whole = False
        cover = round(rng.uniform(*settings.cover) * width)
        top = round(rng.uniform(0, 0.5) * height)
        start = round(rng.uniform(0, 0.5) * width)  # the occluder's near side begins inside its own crop
        part = other[: height - top, start : start + cover]
        if rng.random() < 0.5:
            spoilt[top:, : part.shape[1]] = part[:, ::-1]
        else:
            spoilt[top:, width - part.shape[1] :] = part
    if rng.random() < settings.erased:
        is_whole = False
        area, aspect = rng.uniform(*settings.erased_share) * height * width, np.exp(rng.uniform(-1, 1))
        tall = min(height, max(1, round(float(np.sqrt(area * aspect)))))
        wide = min(width, max(1, round(float(np.sqrt(area / aspect)))))
        top, left = rng.integers(0, height - tall + 1), rng.integers(0, width - wide + 1)
        spoilt[top : top + tall, left : left + wide] = rng.integers(0, 256, 3)
    if rng.random() < settings.small:
        low = int(rng.integers(*settings.small_px))
        small = cv2.resize(spoilt, (max(8, low * width // height), low), interpolation=cv2.INTER_AREA)
        spoilt = np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    if rng.random() < settings.blurred:
        spoilt = np.asarray(cv2.GaussianBlur(spoilt, (0, 0), rng.uniform(*settings.blur_px)), np.uint8)
    return spoilt, is_whole


def samples(crops: Sequence[Picture] | NDArray[np.uint8]) -> Tensor:
    """Convert B crops (256, 128, 3) uint8 RGB to normalised (B, 3, 256, 128) float32, channels last in memory."""
    pictures = torch.from_numpy(np.stack(list(crops))).permute(0, 3, 1, 2).float().div_(255)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return pictures.sub_(mean).div_(std)
