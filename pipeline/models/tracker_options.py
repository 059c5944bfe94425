"""The trackers: their settings, and the silence after which each has forgotten everybody. No tracker is imported.

Another tracker takes an entry in TRACKERS and its name in config.Track.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Options = dict[str, Any]

ANY_SHAPE: Options = {"min_box_area": 0, "aspect_ratio_thresh": 1e9}
"""Settings that keep wide boxes. BoostTrack drops boxes much wider than high, but people lie down, and close-ups
show heads and shoulders."""

OCCLUBOOST_START = 0.55
"""Least score that starts a track in OccluBoost. BoxMOT tuned 0.71, which never follows a person against the light
who stays at 0.6 for two seconds. At 0.55, 93 % of another system's boxes in a dark street are found, instead of 83
%. With our links over gaps, the pooled HOTA and IDF1 of two benchmark sequences hardly change (63.2 and 86.9 against
63.2 and 86.6; tests/bench/tracking_on_mot.py)."""

START_MARGIN = 0.1
"""Score that a new track needs beyond that of a match, as in ByteTrack (Zhang and others 2022). An object that is no
person can score nearly as high as a match in every frame, while each person scores higher at some time
(docs/decisions/0015-things-that-stand-still.md)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackerKind:
    """A tracker that track.tracker can name.

    options: of the least score that starts a track and the memory in updates: the tracker's own names for both, and
        for the options that would need pictures.
    memory: of the resolved options: the number of empty updates after which the tracker knows nobody, as read from
        its source. From then on it differs from a fresh one only by its count of updates.
        tests/models/test_tracker.py checks it.
    brief: of the same least score: options for a shot that is too short for a track to prove itself. There only the
        detector's working point decides. The trackers without such options start tracks at track.min_score in the
        first frame anyway.
    compares: whether it compares appearances, unless the option `use_embeddings` switches that off.
    is_timed: whether it has a motion model, which takes the times of frames.
    warm_up: number of updates after which its count of them no longer matters. None for its option min_hits.
    factory: place of the function that makes it from its name and options, as module:name. BoxMOT's by default.
    """

    options: Callable[[float, int], Options]
    memory: Callable[[Options], int]
    brief: Callable[[float], Options] = lambda _: {}
    compares: bool = False
    is_timed: bool = True
    warm_up: int | None = None
    factory: str = "pipeline.models.tracker:create_boxmot"


def _scaled_buffer(options: Options) -> int:
    return int(options["frame_rate"] / 30.0 * options["track_buffer"])


def _max_age(options: Options) -> int:
    return options["max_age"] + 1


TRACKERS: Mapping[str, TrackerKind] = {
    "bytetrack": TrackerKind(
        options=lambda score, updates: {"track_thresh": score, "track_buffer": updates, "frame_rate": 30},
        memory=lambda options: _scaled_buffer(options) + 2,  # one update marks a track as removed, and one drops it
        warm_up=1,
    ),
    "ocsort": TrackerKind(
        options=lambda score, updates: {"det_thresh": score, "max_age": updates},
        memory=_max_age,
    ),
    "botsort": TrackerKind(
        options=lambda score, updates: {
            "track_high_thresh": score,
            "new_track_thresh": score,
            "track_buffer": updates,
            "frame_rate": 30,  # buffers are scaled by frame_rate / 30
            "use_cmc": False,
        },
        memory=lambda options: _scaled_buffer(options) + 2,
        compares=True,
        warm_up=1,
    ),
    "boosttrack": TrackerKind(
        options=lambda score, updates: {"det_thresh": score, "max_age": updates, "use_cmc": False, **ANY_SHAPE},
        memory=_max_age,
        compares=True,
    ),
    "occluboost": TrackerKind(
        options=lambda score, updates: {
            "det_thresh": score,
            "new_track_thresh": max(round(score + START_MARGIN, 3), OCCLUBOOST_START),
            "max_age": updates,
            "use_cmc": False,
            "gta_enabled": False,
            "gta_max_gap": 40,
            **ANY_SHAPE,
        },
        # Tracks that its global association has buried can return, and are counted from their burial.
        memory=lambda options: _max_age(options) + (options["gta_max_gap"] + 1) * options["gta_enabled"],
        # Otherwise it would start no track below OCCLUBOOST_START, and show none below .68 before its second box.
        brief=lambda score: {"new_track_thresh": score, "confirm_hits": 1},
        compares=True,
    ),
    "hybridsort": TrackerKind(
        options=lambda score, updates: {
            "det_thresh": score,
            "track_thresh": score,
            "max_age": updates,
            "cmc_method": None,
        },
        memory=_max_age,
        compares=True,
    ),
    "deepocsort": TrackerKind(
        options=lambda score, updates: {"det_thresh": score, "max_age": updates, "cmc_off": True},
        memory=_max_age,
        compares=True,
    ),
    "sfsort": TrackerKind(
        options=lambda score, updates: {
            "high_th": score,
            "new_track_th": score,
            "central_timeout": updates,
            "marginal_timeout": updates,
            "frame_width": 1,  # only separates the middle from the margins, and both are remembered equally long
            "frame_height": 1,
        },
        memory=lambda options: max(options["central_timeout"], options["marginal_timeout"], 1),
        is_timed=False,
        warm_up=0,
    ),
}
"""All trackers by name. track.tracker of the configuration lists the same names."""


def compares_appearances(name: str, options: Mapping[str, Any]) -> bool:
    """Return whether a tracker needs an embedding with every box. tests/models/test_tracker.py compares this with
    BoxMOT."""
    return TRACKERS[name].compares and bool(options.get("use_embeddings", True))


def resolve(
    name: str, min_score: float, memory_updates: int, options: Mapping[str, Any], *, is_brief: bool = False
) -> Options:
    """Return the options for BoxMOT: our settings, overridden by the user's `options`.

    is_brief: whether the shot has too few analysed frames for a track to prove itself (TrackerKind.brief).
    """
    kind = TRACKERS[name]
    timed = {"variable_dt": True} if kind.is_timed else {}
    brief = kind.brief(min_score) if is_brief else {}
    return {**kind.options(min_score, memory_updates), **timed, **brief, **options}


def memory_updates(memory_s: float, step_s: float) -> int:
    """Convert a memory to analysed frames, which are `step_s` seconds apart."""
    return max(1, round(memory_s / step_s))


def silence_s(memory_s: float, step_s: float) -> float:
    """Return the least time between two analysed frames, in seconds, that is a hole in the video."""
    return max(memory_s, 1.5 * step_s)


def hole_updates(memory: int) -> int:
    """Return the number of empty updates for a hole. In them every tracker forgets what it remembers for `memory`
    updates."""
    return memory + 2
