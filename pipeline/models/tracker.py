"""BoxMOT's trackers on stored boxes and embeddings: one shot, frame by frame, told the time, without pictures.

Memory is given in seconds. All of them count it in updates, so it is converted with the time between analysed frames,
and a silence longer than the memory (a hole in the video) is made up for by empty updates.
"""

import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import boxmot.utils  # noqa: F401  (sets up the logger that is silenced below)
import numpy as np
import torch
from boxmot import create_tracker
from boxmot.structures import Boxes, Detections
from boxmot.trackers.specs import TrackerSpec
from numpy.typing import NDArray

from pipeline.boxes import Boxes as BoxArray
from pipeline.errors import UserError

logging.getLogger("boxmot").setLevel(logging.ERROR)

REMEMBERED_REMOVALS = 1000

Options = dict[str, Any]

ANY_SHAPE: Options = {"min_box_area": 0, "aspect_ratio_thresh": 1e9}
"""BoostTrack drops boxes much wider than high; people lie down, and close-ups show heads and shoulders."""

OCCLUBOOST_START = 0.55
"""BoxMOT tuned 0.71, and a person against the light who stays at 0.6 for two seconds is never followed. At 0.55 a dark
street finds 93 % of another system's boxes instead of 83, and with our links over gaps the pooled HOTA and IDF1 of two
benchmark sequences stay (63.2 and 86.9 against 63.2 and 86.6; tests/bench/tracking_on_mot.py)."""

OPTIONS: Mapping[str, Callable[[float, int], Options]] = {
    "bytetrack": lambda score, updates: {"track_thresh": score, "track_buffer": updates, "frame_rate": 30},
    "ocsort": lambda score, updates: {"det_thresh": score, "max_age": updates},
    "botsort": lambda score, updates: {
        "track_high_thresh": score,
        "new_track_thresh": score,
        "track_buffer": updates,
        "frame_rate": 30,  # 30: buffers are scaled by frame_rate / 30
        "use_cmc": False,
    },
    "boosttrack": lambda score, updates: {"det_thresh": score, "max_age": updates, "use_cmc": False, **ANY_SHAPE},
    "occluboost": lambda score, updates: {
        "det_thresh": score,
        "new_track_thresh": max(score, OCCLUBOOST_START),
        "max_age": updates,
        "use_cmc": False,
        **ANY_SHAPE,
    },
    "deepocsort": lambda score, updates: {"det_thresh": score, "max_age": updates, "cmc_off": True},
    "sfsort": lambda score, updates: {
        "high_th": score,
        "new_track_th": score,
        "central_timeout": updates,
        "marginal_timeout": updates,
        "frame_width": 1,  # only tells the middle from the margins, and both are remembered equally long
        "frame_height": 1,
    },
}
"""How each tracker names the score from which on a detection may start a track, its memory, and what wants pictures."""


class Tracker:
    """Follows the people of one shot. Ids count from 0 in every tracker.

    name: one of OPTIONS. min_score: surer detections are matched first and may start a track (in occluboost only from
    OCCLUBOOST_START on). memory_s: s, whom it has not seen for so long is forgotten. step_s: s between analysed frames.
    options: more, by BoxMOT's own names; they win.
    Raises UserError for options that the tracker does not know, or that need pictures.
    """

    def __init__(
        self, name: str, *, min_score: float, memory_s: float, step_s: float, options: Mapping[str, Any]
    ) -> None:
        if name not in OPTIONS:
            raise UserError(f"track.tracker must be one of {', '.join(OPTIONS)}, got {name!r}")
        if step_s <= 0:
            raise ValueError(f"step_s must be positive, got {step_s}")
        self._name = name
        self._updates = max(1, round(memory_s / step_s))
        self._silence_s = max(memory_s, 1.5 * step_s)
        self._last_s: float | None = None
        timed = {} if name == "sfsort" else {"variable_dt": True}  # sfsort has no motion model
        chosen = {**OPTIONS[name](min_score, self._updates), **timed, **options}
        try:
            self._tracker = create_tracker(TrackerSpec(name=name, options=tuple(sorted(chosen.items()))))
        except (TypeError, ValueError) as error:
            raise UserError(f"track.options: {name} refuses them: {str(error).splitlines()[0]}") from None
        if self._tracker.requirements.frame:
            raise UserError(f"track.options: {name} would need the pictures, which are gone when people are tracked")
        if isinstance(getattr(self._tracker, "removed_stracks", None), list):
            # It serves the next update only, but would grow with the shot.
            setattr(self._tracker, "removed_stracks", deque(maxlen=REMEMBERED_REMOVALS))  # noqa: B010

    @property
    def uses_embeddings(self) -> bool:
        """Whether `update` wants an embedding with every box."""
        return self._tracker.requirements.embeddings

    def update(
        self,
        time_s: float,
        boxes: BoxArray,
        scores: NDArray[np.float32],
        embeddings: NDArray[np.float32] | None,
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Take one analysed frame, later than the last: (N, 4) boxes, (N,) scores, (N, D) embeddings; N may be 0.

        Returns (track_ids, detection_indices), (K,) each, K <= N, by rising index; the other detections belong to no
        track yet.
        """
        if self.uses_embeddings and embeddings is None and len(boxes):
            raise UserError(
                f"track.tracker {self._name} compares appearances: set observe.body.embed to all, or use bytetrack"
            )
        if self._last_s is not None and time_s - self._last_s > self._silence_s:
            self._forget(self._last_s, time_s)
        self._last_s = time_s
        return self._advance(time_s, boxes, scores, embeddings if self.uses_embeddings else None)

    def _forget(self, after_s: float, before_s: float) -> None:
        nobody, nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
        for time_s in np.linspace(after_s, before_s, self._updates + 4)[1:-1]:
            self._advance(float(time_s), nobody, nothing, None)

    def _advance(
        self, time_s: float, boxes: BoxArray, scores: NDArray[np.float32], embeddings: NDArray[np.float32] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        tracks = self._tracker.update(
            Detections(
                geometry=Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)),
                scores=torch.tensor(scores, dtype=torch.float32),
                class_ids=torch.zeros(len(boxes), dtype=torch.int64),
                sample_id="frame",
                embeddings=torch.tensor(embeddings) if embeddings is not None and len(boxes) else None,
            ),
            timestamp_s=time_s,
        )
        indices, ids = tracks.detection_indices.numpy(), tracks.track_ids.numpy()
        order = np.lexsort((ids, indices))
        order = order[indices[order] >= 0]  # a box of the tracker's own making belongs to no detection
        return ids[order], indices[order]
