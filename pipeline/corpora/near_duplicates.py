"""Hold out a part of a corpus by groups of near-duplicates.

Many pictures of a corpus are frames of a few videos. Whole groups are held out, so no scene is on both sides.
"""

import cv2
import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse.csgraph import connected_components

from pipeline.arrays import Picture

THUMBNAIL_PX = 24
MIN_CORRELATION = 0.8
MAX_HASH_DISTANCE = 12
"""Two pictures are near-duplicates if their grey thumbnails (one of them possibly mirrored) correlate by more than
MIN_CORRELATION, or their 64-bit perceptual hashes differ in at most MAX_HASH_DISTANCE bits."""


def near_duplicates(pictures: list[Picture]) -> NDArray[np.int64]:
    """Return (N,) int64 group numbers from 0. Near-duplicates share a group, also through third pictures."""
    thumbnails = np.stack([_thumbnail(picture) for picture in pictures])
    flat, mirrored = (stack.reshape(len(stack), -1) for stack in (thumbnails, thumbnails[:, :, ::-1]))
    alike = (flat @ flat.T > MIN_CORRELATION) | (flat @ mirrored.T > MIN_CORRELATION)
    hashes = np.stack([imagehash.phash(Image.fromarray(picture)).hash.ravel() for picture in pictures])
    bits = hashes.astype(np.float32)
    alike |= bits @ (1 - bits.T) + (1 - bits) @ bits.T <= MAX_HASH_DISTANCE
    return connected_components(alike, directed=False)[1].astype(np.int64)


def _thumbnail(picture: Picture) -> NDArray[np.float32]:
    """Return (24, 24) float32 grey with mean 0 and norm 1 for an (H, W, 3) picture."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (THUMBNAIL_PX, THUMBNAIL_PX), interpolation=cv2.INTER_AREA).astype(np.float32)
    small -= small.mean()
    return small / max(float(np.linalg.norm(small)), 1e-6)


def held_out(groups: NDArray[np.int64], share: float, seed: int) -> NDArray[np.bool_]:
    """Return which pictures are held out, (N,) bool: whole groups in seeded order, at most `share` of all pictures."""
    chosen = np.zeros(len(groups), bool)
    sizes = np.bincount(groups)
    left = round(share * len(groups))
    for group in np.random.default_rng(seed).permutation(len(sizes)):
        if sizes[group] <= left:
            chosen |= groups == group
            left -= sizes[group]
    return chosen
