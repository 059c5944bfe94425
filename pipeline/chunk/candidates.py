"""The people of one cell of whom a crop may be kept for finding faces."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.cores.candidates import CandidateParams, best_of_chains, chain, choose, next_checks
from pipeline.media.crops import Crop

CropsOfPerson = tuple[Crop, NDArray[np.uint8] | None, Crop | None]
"""The crop for the face search, the crop for the body embedder, the whole body."""


@dataclass(slots=True)
class CellCandidates:
    """The people of the current cell that are worth a crop, in order of time.

    number: of the cell, -1 for none.
    steps: number of each person's analysed frame within the cell.
    detections: index of each person's detection in the chunk.
    boxes: (4,) float32 xyxy px each.
    face_checks: score of the quick face check, nan where it was not made.
    qualities: quality of each crop.
    crops: index in the lists -> the crops of each person who may still be chosen, or a function that cuts them.
    """

    number: int = -1
    steps: list[int] = field(default_factory=list)
    detections: list[int] = field(default_factory=list)
    boxes: list[NDArray[np.float32]] = field(default_factory=list)
    face_checks: list[float] = field(default_factory=list)
    qualities: list[float] = field(default_factory=list)
    crops: dict[int, CropsOfPerson | Callable[[], CropsOfPerson]] = field(default_factory=dict)
    _chains: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def chains(self, params: CandidateParams) -> NDArray[np.int64]:
        """Return the (N,) numbers of the chains to which the people belong. They are asked for several times between
        two batches of pictures."""
        if len(self._chains) != len(self.steps):
            self._chains = chain(np.array(self.steps, np.int64), np.reshape(self.boxes, (-1, 4)), params.chain_iou)
        return self._chains

    def open_checks(self, params: CandidateParams) -> list[int]:
        """Return the positions of the crops whose quick face check can change the choice."""
        return next_checks(self.chains(params), np.array(self.face_checks), np.array(self.qualities), params).tolist()

    def forget(self, params: CandidateParams) -> None:
        """Drop the crops that can no longer be chosen."""
        keep = best_of_chains(
            self.chains(params), np.array(self.face_checks), np.array(self.qualities), params
        ).tolist()
        self.crops = {index: self.crops[index] for index in sorted(keep)}

    def crops_of(self, index: int) -> CropsOfPerson:
        """Return the crops of a person. They are cut at the first call."""
        crops = self.crops[index]
        if callable(crops):
            crops = self.crops[index] = crops()
        return crops

    def cut(self) -> None:
        """Cut the crops that may still be chosen, in order of time. The pictures are needed no longer then."""
        for index in sorted(self.crops):
            self.crops_of(index)

    def chosen(self, params: CandidateParams) -> list[int]:
        """Return the positions of the crops to keep when the cell is complete."""
        return choose(self.chains(params), np.array(self.face_checks), np.array(self.qualities), params).tolist()
