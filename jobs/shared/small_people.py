"""A hint at settings that would find more people, given once after a run and only if its tables suggest it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.config import Config
from pipeline.storage import tables
from pipeline.storage.store import Store

SMALL_PX = 40
"""px of height, in the picture as the detector gets it. Detectors miss many people below this height, because their
body covers only a few strides of the network."""
MANY = 0.3
MOST_SIDE_PX = 1920
READ_VIDEOS = 25


def small_people(store: Store, videos: Sequence[Mapping[str, Any]], config: Config) -> str | None:
    """Return a hint if many boxes of the just published rows `videos` are small for the detector, otherwise None."""
    heights = []
    for row in videos[:READ_VIDEOS]:
        boxes = tables.read_one(store, "detections", row["video_id"], ["bb_height", "interpolated"])
        heights_px = boxes["bb_height"].to_numpy()[~boxes["interpolated"].to_numpy()]
        scale = config.observe.detector.image_size / max(row["width"], row["height"])
        heights.append(heights_px * min(scale, 1.0))
    return hint(np.concatenate([np.zeros(0), *heights]), videos, config)


def hint(heights_px: np.ndarray, videos: Sequence[Mapping[str, Any]], config: Config) -> str | None:
    """Return a hint if many boxes are small for the detector, otherwise None.

    heights_px: (N,) px. Heights of boxes, in the picture as the detector gets it.
    """
    if not len(heights_px) or (share := float(np.mean(heights_px < SMALL_PX))) < MANY:
        return None
    used = config.observe.detector.image_size
    side = min(MOST_SIDE_PX, 2 * used, max(max(row["width"], row["height"]) for row in videos))
    larger = -(-side // 32) * 32
    ways = [f"--set observe.detector.image_size={larger}"] if larger > used else []
    if config.observe.detector.weights.startswith("starter"):
        ways.append("--profile full")
    if not ways:
        return None
    return (
        f"{share:.0%} of the people seen are lower than {SMALL_PX} px in the {used} px that the detector looks at, and "
        f"smaller ones may be missed; {' or '.join(ways)} sees more of them"
    )
