"""Smooth the boxes of tracks on their way to the blocks, in bounded memory."""

import numpy as np
from numpy.typing import NDArray

from pipeline.boxes import clip
from pipeline.cores.camera import Steady
from pipeline.cores.smooth import REACH_NS, smooth
from pipeline.video.blocks import BOX, BlockWriter, BoxRows

UPDATES_AT_ONCE = 256
"""The number of analysed frames whose boxes are smoothed at a time. It changes no box."""


class SmoothingWriter:
    """Takes the rows of one piece of a shot in order of frames, and passes them on with smoothed boxes.

    steady: the camera motion. Boxes are smoothed as a still camera would see them.
    size: width and height of the picture in px. No box leaves it.
    """

    def __init__(self, blocks: BlockWriter, steady: Steady, size: tuple[int, int]) -> None:
        self._blocks = blocks
        self._steady = steady
        self._size = size
        self._rows: list[BoxRows] = []
        self._times_ns: list[NDArray[np.int64]] = []
        self._first_ns = -1
        """Rows before this time have been passed on. They are kept as neighbours of those that have not."""

    def add(self, time_ns: int, rows: BoxRows) -> None:
        """Take the rows of one frame."""
        self._rows.append(rows)
        self._times_ns.append(np.full(len(rows), time_ns))
        if len(self._rows) >= UPDATES_AT_ONCE:
            self._pass_on(time_ns - 2 * REACH_NS)

    def finish(self) -> None:
        """Pass on all rows that are left."""
        self._pass_on(None)

    def _pass_on(self, end_ns: int | None) -> None:
        """Pass on the rows before `end_ns`, or all."""
        rows = np.concatenate([np.zeros(0, BOX), *self._rows])
        times_ns = np.concatenate([np.zeros(0, np.int64), *self._times_ns])
        ready = times_ns >= self._first_ns
        if end_ns is not None:
            ready &= times_ns < end_ns
        frames, boxes = rows["frame"], rows["box"]
        smoothed = smooth(rows["track"], times_ns, self._steady.boxes(frames, boxes))
        shown = clip(self._steady.shown(frames, smoothed), *self._size)
        passed = rows[ready]
        passed["box"] = np.round(shown.astype(np.float64), 1)[ready]
        self._blocks.add(**{name: passed[name] for name in BOX.names or ()})
        if end_ns is not None:
            self._first_ns = max(self._first_ns, end_ns)
            kept = times_ns >= end_ns - 2 * REACH_NS
            self._rows, self._times_ns = [rows[kept]], [times_ns[kept]]
