"""Read the links of a published video, with the reason of each and how near its decision was."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.columns import integers, reals
from pipeline.config import Config, restored
from pipeline.cores.link.explaining import explain, most_doubtful
from pipeline.cores.link.groups import num_beside
from pipeline.cores.link.verdicts import judge
from pipeline.errors import DataError
from pipeline.planning.published import read_links, read_presence
from pipeline.storage import records, tables
from pipeline.storage.store import Store
from pipeline.video.likenesses import read_likenesses


@dataclass(frozen=True, slots=True, kw_only=True)
class PairOfTracklets:
    """A row of `links` in words.

    tracklets: the ids of the two. The first one appeared first.
    persons: their persons.
    end_s, start_s: s. The end of the first and the start of the second.
    joined: whether both are one person.
    why: the reason in a word.
    reason: the reason in figures.
    """

    tracklets: tuple[int, int]
    persons: tuple[int, int]
    end_s: float
    start_s: float
    joined: bool
    why: str
    reason: str

    def __str__(self) -> str:
        verdict = "joined" if self.joined else "apart"
        return f"{verdict}, {self.why}: {self.reason}"


def config_of(store: Store, row: dict[str, Any]) -> Config:
    """Return the configuration under which a video was published. row: of `videos`. Raises DataError."""
    where = store.full(f"recipes/{row['config_id']}.json")
    if (recipe := records.read_recipe(store, row["config_id"])) is None:
        raise DataError(f"{where} is missing, which says how it was made; `rollcall process` makes it again")
    return restored(recipe["knobs"], where)


def read_pairs(
    store: Store, video_id: str, config: Config, *, doubtful: bool, limit: int
) -> tuple[list[PairOfTracklets], int]:
    """Return up to `limit` pairs, and how many there are in all. Raises DataError.

    doubtful: those nearest to the decision, nearest first, half of them joined; else in order of appearance.
    """
    with tables.damage_is_a_fault():
        links, presence = read_links(store, video_id), read_presence(store, video_id)
        likenesses = read_likenesses(tables.read_one(store, "likenesses", video_id))
        tracklets = tables.read_one(store, "tracklets", video_id)
    params = config.identity
    shots, persons = presence.shots, integers(tracklets, "person_id")
    verdicts = judge(links, shots, num_beside(presence.intervals), params, likenesses)
    margins = np.where(links.why == "seen together", np.nan, verdicts.margins)
    rows: Sequence[int] = (
        most_doubtful(links.joined, margins, limit).tolist() if doubtful else range(min(limit, len(links)))
    )
    ids, starts_s, ends_s = integers(tracklets, "tracklet_id"), reals(tracklets, "start_s"), reals(tracklets, "end_s")
    return [
        PairOfTracklets(
            tracklets=(int(ids[a]), int(ids[b])),
            persons=(int(persons[a]), int(persons[b])),
            end_s=float(ends_s[a]),
            start_s=float(starts_s[b]),
            joined=bool(links.joined[row]),
            why=str(links.why[row]),
            reason=explain(links, row, verdicts, params, likenesses),
        )
        for row in rows
        for a, b in [(int(links.a[row]), int(links.b[row]))]
    ], len(links)
