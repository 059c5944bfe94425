"""BoxMOT's trackers on stored boxes and embeddings of one shot, frame by frame with times, without pictures.

The memory of a tracker is stated in seconds. All trackers count it in updates, so it is converted with the time
between analysed frames. A silence longer than the memory (a hole in the video) is replaced by empty updates.
"""

import logging
from collections import deque
from collections.abc import Mapping
from functools import cache
from pkgutil import resolve_name
from typing import Any

import boxmot.utils  # noqa: F401  (sets up the logger that is silenced below)
import numpy as np
import torch
from boxmot import create_tracker
from boxmot.structures import Boxes, Detections
from boxmot.trackers import config
from boxmot.trackers.specs import TrackerSpec
from numpy.typing import NDArray

from pipeline.boxes import Boxes as BoxArray
from pipeline.errors import UserError
from pipeline.models.tracker_options import TRACKERS, hole_updates, memory_updates, resolve, silence_s

logging.getLogger("boxmot").setLevel(logging.ERROR)
# BoxMOT parses its settings for each tracker, which takes 9 ms, and every shot has a tracker.
config.load_tracker_schema = cache(config.load_tracker_schema)

REMEMBERED = 1000
"""The most entries of lists that would grow as long as a tracker lives and that it hardly reads: its removed tracks,
    and in deepocsort the boxes of each followed track."""


def create_boxmot(name: str, options: Mapping[str, Any]) -> Any:
    """Return a tracker of BoxMOT. Raises TypeError or ValueError for options that it does not know."""
    return create_tracker(TrackerSpec(name=name, options=tuple(sorted(options.items()))))


class Tracker:
    """Follows the people of one shot. Ids count from 0 in every tracker.

    name: one of TRACKERS.
    min_score: surer detections are matched first and may start a track (in occluboost only from OCCLUBOOST_START).
    memory_s: seconds after which an unseen person is forgotten.
    step_s: seconds between analysed frames.
    options: further options by BoxMOT's own names. They override the others.
    updates_before: number of updates that a tracker from the start of the shot would have had. The last `memory` of
        them, or all, were empty. This tracker then behaves as that one would. It makes a few empty updates first,
        because trackers confirm tracks at once in the first frames of a shot.
    is_brief: whether the shot is too short for a track to prove itself. Then every detection of min_score starts
        one.

    Raises UserError for options that the tracker does not know, or that need pictures.
    """

    def __init__(
        self,
        name: str,
        *,
        min_score: float,
        memory_s: float,
        step_s: float,
        options: Mapping[str, Any],
        updates_before: int = 0,
        is_brief: bool = False,
    ) -> None:
        if name not in TRACKERS:
            raise UserError(f"track.tracker must be one of {', '.join(TRACKERS)}, got {name!r}")
        if step_s <= 0:
            raise ValueError(f"step_s must be positive, got {step_s}")
        remembered = memory_updates(memory_s, step_s)
        self._name = name
        self._step_s = step_s
        self._silence_s = silence_s(memory_s, step_s)
        self._hole_updates = hole_updates(remembered)
        self._last_s: float | None = None
        self._updates_before = updates_before
        chosen = resolve(name, min_score, remembered, options, is_brief=is_brief)
        try:
            self._tracker: Any = resolve_name(TRACKERS[name].factory)(name, chosen)
        except (TypeError, ValueError) as error:
            raise UserError(
                f"track.options: {name} refuses them: {str(error).splitlines()[0]}; correct or drop them"
            ) from None
        if self._tracker.requirements.frame:
            raise UserError(
                f"track.options: {name} would need the pictures, which are gone when people are tracked; "
                "leave out what asks for them"
            )
        self.memory: int = TRACKERS[name].memory(chosen)
        """The number of updates after which the tracker cannot return to a track that it has not seen since."""
        if isinstance(getattr(self._tracker, "removed_stracks", None), list):
            self._tracker.removed_stracks = deque(maxlen=REMEMBERED)

    @property
    def uses_embeddings(self) -> bool:
        """Return whether `update` needs an embedding with every box."""
        return self._tracker.requirements.embeddings

    @property
    def tentative(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return (track_ids, detection_indices) as `update` does, of the tracks that the last update did not yet show
        because they must first prove themselves. Only OccluBoost has them."""
        waiting = [
            (track.id, track.det_ind)
            for track in (self._tracker.trackers if self._name == "occluboost" else ())
            if not track.is_activated and track.time_since_update < 1
        ]
        ids, indices = np.array(waiting, np.int64).reshape(-1, 2).T
        return ids, indices

    def update(
        self,
        time_s: float,
        boxes: BoxArray,
        scores: NDArray[np.float32],
        embeddings: NDArray[np.float32] | None,
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Process one analysed frame, later than the last: (N, 4) boxes, (N,) scores, (N, D) embeddings. N may be 0.

        Returns (track_ids, detection_indices), (K,) each, K <= N, by rising index. The other detections belong to no
        track yet.
        """
        if self.uses_embeddings and embeddings is None and len(boxes):
            raise UserError(
                f"track.tracker {self._name} compares appearances; set observe.body.embed to all, or use bytetrack"
            )
        if self._last_s is None:
            # The times of frames without detections do not matter.
            counted = TRACKERS[self._name].warm_up
            warm_up = min(self._updates_before, int(self._tracker.min_hits) if counted is None else counted)
            self._advance_empty(time_s - self._step_s * np.arange(warm_up, 0, -1))
        elif time_s - self._last_s > self._silence_s:
            self._advance_empty(np.linspace(self._last_s, time_s, self._hole_updates + 2)[1:-1])
        self._last_s = time_s
        return self._advance(time_s, boxes, scores, embeddings if self.uses_embeddings else None)

    def _advance_empty(self, times_s: NDArray[Any]) -> None:
        nobody, nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
        for time_s in times_s.tolist():
            self._advance(time_s, nobody, nothing, None)

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
        for track in self._tracker.active_tracks if self._name == "deepocsort" else ():
            while len(track.observations) > REMEMBERED:
                del track.observations[next(iter(track.observations))]
        indices, ids = tracks.detection_indices.numpy(), tracks.track_ids.numpy()
        order = np.lexsort((ids, indices))
        order = order[indices[order] >= 0]  # a box that the tracker made itself belongs to no detection
        return ids[order], indices[order]
