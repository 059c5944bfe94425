"""Pictures for tests of corpora."""

from pathlib import Path

import cv2
import numpy as np

from pipeline.arrays import Picture


def scene(seed: int, height: int = 60, width: int = 80) -> Picture:
    """Coarse noise: no two seeds look alike."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def write(path: Path, picture: Picture) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture[..., ::-1])
