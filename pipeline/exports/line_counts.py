"""Counts of `crossings` per line, zone and side, over all videos of an output."""

from collections import defaultdict
from dataclasses import dataclass, field
from statistics import median

from pipeline.errors import DataError
from pipeline.storage import tables
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.store import Store

KINDS = ("line", "zone", "side")


@dataclass(slots=True)
class LineCounts:
    """The crossings of an output.

    crossed: (kind, name) -> number of people `in`, and `out`, over it.
    visits: (kind, name) -> seconds of each visit to a zone.
    """

    crossed: dict[tuple[str, str], list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))
    visits: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))

    def names(self) -> list[tuple[str, str]]:
        """Return the kinds and names of all lines, zones and sides: lines first, then in order of names."""
        return sorted({*self.crossed, *self.visits}, key=lambda name: (KINDS.index(name[0]), name[1]))

    def median_visit_s(self, name: tuple[str, str]) -> float | None:
        """Return the median time of a visit, or None if there was none."""
        return round(median(self.visits[name]), 1) if self.visits.get(name) else None


def count_lines(index: OutputIndex, left_out: dict[str, str]) -> LineCounts:
    """Return the counts of all finished videos. A video whose file is damaged is added to `left_out`, by uri."""
    counts, store = LineCounts(), index.store
    with_file = _video_ids(store)
    for video_id in index.done():
        if video_id not in with_file:
            continue
        try:
            with tables.damage_is_a_fault():
                crossings = tables.read_one(store, "crossings", video_id)
        except DataError as error:
            left_out[index.videos[video_id]["uri"]] = str(error)
            continue
        for row in crossings.to_pylist():
            name = (row["kind"], row["line"])
            counts.crossed[name][row["direction"] == "out"] += row["crossed"]
            if row["dwell_s"] is not None:
                counts.visits[name].append(row["dwell_s"])
    return counts


def _video_ids(store: Store) -> set[str]:
    return {name.removeprefix("crossings/").removesuffix(".parquet") for name in store.names("crossings")}
