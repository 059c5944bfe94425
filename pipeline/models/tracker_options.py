"""Settings of BoxMOT's trackers, and the silence after which each has forgotten everybody. No tracker is imported."""

from collections.abc import Callable, Mapping
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
"""Score that a new track needs beyond that of a match, as in ByteTrack (Zhang and others 2022). One object of
PETS09-S2L1 that is not a person scores .4 to .58 in every frame, while each person there reaches .7 at some time."""

OPTIONS: Mapping[str, Callable[[float, int], Options]] = {
    "bytetrack": lambda score, updates: {"track_thresh": score, "track_buffer": updates, "frame_rate": 30},
    "ocsort": lambda score, updates: {"det_thresh": score, "max_age": updates},
    "botsort": lambda score, updates: {
        "track_high_thresh": score,
        "new_track_thresh": score,
        "track_buffer": updates,
        "frame_rate": 30,  # buffers are scaled by frame_rate / 30
        "use_cmc": False,
    },
    "boosttrack": lambda score, updates: {"det_thresh": score, "max_age": updates, "use_cmc": False, **ANY_SHAPE},
    "occluboost": lambda score, updates: {
        "det_thresh": score,
        "new_track_thresh": max(round(score + START_MARGIN, 3), OCCLUBOOST_START),
        "max_age": updates,
        "use_cmc": False,
        "gta_enabled": False,
        "gta_max_gap": 40,
        **ANY_SHAPE,
    },
    "hybridsort": lambda score, updates: {
        "det_thresh": score,
        "track_thresh": score,
        "max_age": updates,
        "cmc_method": None,
    },
    "deepocsort": lambda score, updates: {"det_thresh": score, "max_age": updates, "cmc_off": True},
    "sfsort": lambda score, updates: {
        "high_th": score,
        "new_track_th": score,
        "central_timeout": updates,
        "marginal_timeout": updates,
        "frame_width": 1,  # only separates the middle from the margins, and both are remembered equally long
        "frame_height": 1,
    },
}
"""Each tracker's names for the least score that starts a track, for its memory, and for options that need pictures."""

IN_BRIEF_SHOTS: Mapping[str, Callable[[float], Options]] = {
    "occluboost": lambda score: {"new_track_thresh": score, "confirm_hits": 1}
}
"""Settings for a shot that is too short for a track to prove itself. There only the detector's working point
decides. OccluBoost would start no track below OCCLUBOOST_START, and show none below .68 before its second box. The
other trackers start tracks at track.min_score in the first frame anyway."""

MEMORY: Mapping[str, Callable[[Options], int]] = {
    "bytetrack": lambda options: _scaled_buffer(options) + 2,  # one update marks a track as removed, and one drops it
    "ocsort": lambda options: options["max_age"] + 1,
    "botsort": lambda options: _scaled_buffer(options) + 2,
    "boosttrack": lambda options: options["max_age"] + 1,
    # Tracks that its global association has buried can return, and are counted from their burial.
    "occluboost": lambda options: options["max_age"] + 1 + (options["gta_max_gap"] + 1) * options["gta_enabled"],
    "hybridsort": lambda options: options["max_age"] + 1,
    "deepocsort": lambda options: options["max_age"] + 1,
    "sfsort": lambda options: max(options["central_timeout"], options["marginal_timeout"], 1),
}
"""Number of empty updates after which a tracker knows nobody, as read from its source. From then on it differs from
a fresh one only by its count of updates. tests/models/test_tracker.py checks each of them."""


COMPARING = frozenset({"botsort", "boosttrack", "occluboost", "hybridsort", "deepocsort"})
"""The trackers that compare appearances, unless an option switches that off."""


def compares_appearances(name: str, options: Mapping[str, Any]) -> bool:
    """Return whether a tracker needs an embedding with every box. tests/models/test_tracker.py compares this with
    BoxMOT."""
    return name in COMPARING and bool(options.get("use_embeddings", True))


def resolve(
    name: str, min_score: float, memory_updates: int, options: Mapping[str, Any], *, is_brief: bool = False
) -> Options:
    """Return the options for BoxMOT: our settings, overridden by the user's `options`.

    is_brief: whether the shot has too few analysed frames for a track to prove itself (IN_BRIEF_SHOTS).
    """
    timed = {} if name == "sfsort" else {"variable_dt": True}  # sfsort has no motion model
    brief = IN_BRIEF_SHOTS[name](min_score) if is_brief and name in IN_BRIEF_SHOTS else {}
    return {**OPTIONS[name](min_score, memory_updates), **timed, **brief, **options}


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


def _scaled_buffer(options: Options) -> int:
    return int(options["frame_rate"] / 30.0 * options["track_buffer"])
