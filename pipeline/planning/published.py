"""The links and tracklets of a published video, read as the linker needs them."""

import numpy as np
from numpy.typing import NDArray

from pipeline.columns import flags, integers, reals, texts
from pipeline.cores.link.heights import LEAST_LIMIT
from pipeline.cores.link.pairs import Links
from pipeline.cores.link.times import microseconds
from pipeline.cores.relink import Presence
from pipeline.storage import tables
from pipeline.storage.store import Store


def read_links(store: Store, video_id: str) -> Links:
    """Return the links of a published video, between the tracklets with the indices a and b."""
    table, ids = tables.read_one(store, "links", video_id), _tracklet_ids(store, video_id)
    measured = ("gap_s", "motion", "size", "body_similarity", "face_similarity", "score")
    size, size_limit = reals(table, "size"), reals(table, "size_limit")
    # Tables of earlier versions do not have the limit, which was this one in all videos.
    size_limit = np.where(np.isnan(size_limit) & ~np.isnan(size), LEAST_LIMIT, size_limit)
    return Links(
        a=np.searchsorted(ids, integers(table, "tracklet_a")),
        b=np.searchsorted(ids, integers(table, "tracklet_b")),
        kind=texts(table, "kind"),
        joined=flags(table, "joined"),
        why=texts(table, "why"),
        size_limit=size_limit,
        **{name: reals(table, name) for name in measured},
    )


def read_presence(store: Store, video_id: str) -> Presence:
    """Return the times at which the tracklets of a published video were seen, from its detections."""
    ids = _tracklet_ids(store, video_id)
    count = len(ids)
    shots = np.zeros(count, np.int64)
    first_us, last_us = np.full(count, np.iinfo(np.int64).max), np.full(count, np.iinfo(np.int64).min)
    runs = [np.zeros((0, 3), np.int64)]
    with tables.row_groups(store, f"detections/{video_id}.parquet") as groups:
        for group in groups:
            tracklets = np.searchsorted(ids, integers(group, "tracklet_id"))
            shots[tracklets] = integers(group, "shot") - 1
            tracked = ~flags(group, "interpolated")
            times_us = microseconds(reals(group, "time_s")[tracked])
            np.minimum.at(first_us, tracklets[tracked], times_us)
            np.maximum.at(last_us, tracklets[tracked], times_us)
            frames = integers(group, "frame_num") - 1
            runs.append(_runs(tracklets, frames, frames + 1))
    runs = _runs(*np.concatenate(runs).T)
    ends = np.searchsorted(runs[:, 0], np.arange(1, count))
    return Presence(shots, first_us, last_us, np.split(runs[:, 1:], ends) if count else [])


def _tracklet_ids(store: Store, video_id: str) -> NDArray[np.int64]:
    """Return the ids of the tracklets of a published video, ascending. Those of forgotten persons are missing."""
    return integers(tables.read_one(store, "tracklets", video_id, ["tracklet_id"]), "tracklet_id")


def _runs(tracklets: NDArray[np.int64], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return (M, 3) tracklet, start, end, ordered by tracklet, then start. Spans that follow each other without a
    gap are joined."""
    order = np.lexsort((starts, tracklets))
    tracklets, starts, ends = tracklets[order], starts[order], ends[order]
    opens = np.ones(len(order), np.bool_)
    opens[1:] = (tracklets[1:] != tracklets[:-1]) | (starts[1:] != ends[:-1])
    closes = np.append(opens[1:], np.ones(min(len(order), 1), np.bool_))
    return np.stack([tracklets[opens], starts[opens], ends[closes]], axis=1)
