"""Boxes as a still camera would see them: camera motion is removed before people are tracked.

Only rotation and translation are removed. Errors of the zoom would multiply over a long shot. Box sizes stay the
same.
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipeline.boxes import Boxes


@dataclass(frozen=True, slots=True, eq=False)
class Steady:
    """The map from px of each frame to px of the video's first frame: z -> turn * z + shift, with complex px x + iy.

    frames: (K,) int64, rising. Each entry holds from its frame until the next one.
    turns: (K,) complex, with absolute value 1.
    shifts: (K,) complex.
    """

    frames: NDArray[np.int64]
    turns: NDArray[np.complex128]
    shifts: NDArray[np.complex128]

    @classmethod
    def of(cls, frames: NDArray[np.int64], motions: NDArray[np.float64], width: int, height: int) -> Self:
        """Return the map for a video.

        frames: (M,) rising. The camera moves from each of them to the frame after it, and stands still otherwise.
        motions: (M, 4) as in rows.FRAME.
        """
        a, b = motions[:, 0] + 1j * motions[:, 1], motions[:, 2] + 1j * motions[:, 3]
        centre = complex(width, height) / 2
        # A zoom leaves the middle of the picture in place, so the middle tells the shift.
        turns = a / np.abs(a)
        shifts = a * centre + b - turns * centre
        back = np.exp(-1j * np.cumsum(np.concatenate([[0.0], np.angle(turns)])))
        return cls(np.concatenate([[0], frames + 1]), back, np.cumsum(np.concatenate([[0j], -back[1:] * shifts])))

    def within(self, frames: NDArray[np.int64]) -> Self:
        """Return the part that some frames need, at least one, rising."""
        first, last = np.searchsorted(self.frames, (frames[0], frames[-1]), side="right")
        needed = slice(first - 1, last)
        return replace(self, frames=self.frames[needed], turns=self.turns[needed], shifts=self.shifts[needed])

    def boxes(self, frames: NDArray[np.int64] | int, boxes: Boxes) -> Boxes:
        """Move the centres of (N, 4) boxes from their `frames` to the first frame. The sides stay upright."""
        place = np.searchsorted(self.frames, frames, side="right") - 1
        return _moved(boxes, self.turns[place], self.shifts[place])

    def shown(self, frames: NDArray[np.int64] | int, boxes: NDArray[np.floating]) -> Boxes:
        """Move the centres of (N, 4) boxes from the first frame to their `frames`, the reverse of `boxes`."""
        place = np.searchsorted(self.frames, frames, side="right") - 1
        back = np.conj(self.turns[place])
        return _moved(boxes, back, -back * self.shifts[place])

    def at_end(self, boxes: Boxes) -> Boxes:
        """Move (N, 4) boxes from the first frame to the last one. A following file begins there."""
        return self.shown(int(self.frames[-1]), boxes)


def _moved(
    boxes: NDArray[np.floating],
    turns: NDArray[np.complex128] | complex,
    shifts: NDArray[np.complex128] | complex,
) -> Boxes:
    centres = (boxes[:, :2].astype(np.float64) + boxes[:, 2:]) / 2
    moved = turns * (centres[:, 0] + 1j * centres[:, 1]) + shifts
    step = np.stack([moved.real, moved.imag], axis=1) - centres
    return (boxes + np.concatenate([step, step], axis=1)).astype(np.float32)
