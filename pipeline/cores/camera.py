"""Boxes as a camera that stands still would see them: a moving one is taken out before people are tracked.

Only turns and shifts are taken out, not the zoom, whose errors would multiply over a long shot. Sizes stay as they are.
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipeline.boxes import Boxes


@dataclass(frozen=True, slots=True, eq=False)
class Steady:
    """How px of each frame become those of the video's first: z -> turn * z + shift, of complex px x + iy.

    frames: (K,) int64, rising, from which on until the next one each of them holds. turns: (K,) complex, of size 1.
    shifts: (K,) complex.
    """

    frames: NDArray[np.int64]
    turns: NDArray[np.complex128]
    shifts: NDArray[np.complex128]

    @classmethod
    def of(cls, frames: NDArray[np.int64], motions: NDArray[np.float64], width: int, height: int) -> Self:
        """motions: (M, 4) as in rows.FRAME, from (M,) rising `frames` to those after them; else it stands still."""
        a, b = motions[:, 0] + 1j * motions[:, 1], motions[:, 2] + 1j * motions[:, 3]
        centre = complex(width, height) / 2
        # What a zoom moves is told by the middle of the picture, which stays.
        turns = a / np.abs(a)
        shifts = a * centre + b - turns * centre
        back = np.exp(-1j * np.cumsum(np.concatenate([[0.0], np.angle(turns)])))
        return cls(np.concatenate([[0], frames + 1]), back, np.cumsum(np.concatenate([[0j], -back[1:] * shifts])))

    def within(self, frames: NDArray[np.int64]) -> Self:
        """What some frames need of it, at least one, rising."""
        first, last = np.searchsorted(self.frames, (frames[0], frames[-1]), side="right")
        own = slice(first - 1, last)
        return replace(self, frames=self.frames[own], turns=self.turns[own], shifts=self.shifts[own])

    def boxes(self, frames: NDArray[np.int64] | int, boxes: Boxes) -> Boxes:
        """(N, 4) boxes of the `frames` they are seen in, with their centres moved; the sides stay upright."""
        place = np.searchsorted(self.frames, frames, side="right") - 1
        return _moved(boxes, self.turns[place], self.shifts[place])

    def at_end(self, boxes: Boxes) -> Boxes:
        """(N, 4) boxes in px of the first frame as the last one sees their places: a file that follows begins there."""
        back = np.conj(self.turns[-1])
        return _moved(boxes, back, -back * self.shifts[-1])


def _moved(boxes: Boxes, turns: NDArray[np.complex128] | complex, shifts: NDArray[np.complex128] | complex) -> Boxes:
    centres = (boxes[:, :2].astype(np.float64) + boxes[:, 2:]) / 2
    moved = turns * (centres[:, 0] + 1j * centres[:, 1]) + shifts
    step = np.stack([moved.real, moved.imag], axis=1) - centres
    return (boxes + np.concatenate([step, step], axis=1)).astype(np.float32)
