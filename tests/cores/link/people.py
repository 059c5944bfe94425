"""Tracklets of people, made by hand for the tests of linking."""

import numpy as np

from pipeline.config import load
from pipeline.cores.fill import Knots, ShotFrames, intervals
from pipeline.cores.likeness import Likeness, Likenesses
from pipeline.cores.link.linking import link
from pipeline.cores.link.params import IdentityParams
from pipeline.cores.link.tracklets import Tracklet, appearance_key, summarise

FRAME_NS = 40_000_000  # 25 Hz
PARAMS = load().identity
KNOWN: Likenesses = {kind: Likeness.from_distances((0.03, 0.5), (0.4, 0.5)) for kind in ("body", "face")}
"""An embedder for which 20 degrees surely mean one person, 40 surely two, and 25 are not sure."""


def vector_at(degrees: float) -> np.ndarray:
    """Return a unit vector. The cosine distance of two is 1 - cos of the angle between them: 0.06 for 20, 0.23 for
    40 degrees."""
    return np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], np.float32)


def person(
    start: int,
    end: int,
    *,
    x: float = 100,
    speed: float = 0,
    height: float = 100,
    top: float = 0,
    shot: int = 0,
    body: float | None = 0,
    face: float | None = None,
    picture: int | None = None,
) -> Tracklet:
    """Return a person who has a box in every frame of [start, end).

    x: px. The left edge of the first box.
    speed: px/s.
    top: px. The upper edge.
    picture: px. The height of the picture, if its edge may cut people off.
    """
    frames = np.arange(start, end)
    left = x + speed * (frames - start) * FRAME_NS / 1e9
    boxes = np.stack([left, 0 * left + top, left + height / 2, 0 * left + top + height], axis=1).astype(np.float32)
    knots = Knots(np.zeros(len(frames), np.int64), frames, boxes, np.ones(len(frames), np.float32))
    times = ShotFrames(0, np.arange(end) * FRAME_NS, np.arange(1, end - 1))
    looks = [None if angle is None else vector_at(angle) for angle in (body, face)]
    return summarise(shot, times, knots, intervals(knots, times, 10**9), looks[:1], looks[1:], height=picture)[0]


def persons(*tracklets: Tracklet, params: IdentityParams = PARAMS) -> list[int]:
    return link(tracklets, params, KNOWN)[1].tolist()


def crowd(seed: int, count: int) -> list[Tracklet]:
    """Return tracklets with six appearances in three shots, in order of first appearance.

    No two of them begin in the same frame, as from the tracker.
    """
    random = np.random.default_rng(seed)
    starts = np.sort(random.choice(count * 30, count, replace=False))
    tracklets = [
        person(
            int(start),
            int(start) + int(random.integers(3, 40)),
            x=float(random.integers(0, 4)) * 60,
            shot=int(start) * 3 // (count * 30),
            body=float(random.integers(0, 6)) * 50 + float(random.normal()) * 6 if random.random() < 0.9 else None,
            face=float(random.integers(0, 6)) * 50 + float(random.normal()) * 8 if random.random() < 0.3 else None,
        )
        for start in starts
    ]
    # Filled rows may begin in the same frame, at the start of a shot.
    return sorted(tracklets, key=appearance_key)
