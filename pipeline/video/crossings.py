"""Write the crossings of a published video, from the rows of `detections` while these are written."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import rows
from pipeline.columns import flags, integers, make_table, reals
from pipeline.cores.crossings import CrossingParams, Sightings, find_crossings
from pipeline.storage import tables
from pipeline.storage.store import Store
from pipeline.video.facts import Facts


class SightingCollector:
    """Keeps of each detected box what crossings need, some tens of bytes, and nothing if none are asked for.

    Interpolated boxes lie on straight lines between detected ones, so that they cross nothing else.
    """

    def __init__(self, params: CrossingParams) -> None:
        self._is_asked = params.is_asked
        self._parts: list[tuple[NDArray[Any], ...]] = []

    def watch(self, detections: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """Yield the tables of `detections` unchanged."""
        for table in detections:
            if self._is_asked:
                self._keep(table.filter(pa.array(~flags(table, "interpolated"))))
            yield table

    def sightings(self) -> Sightings:
        """Return what was kept."""
        if not self._parts:
            return Sightings(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros((0, 4)))
        return Sightings(*(np.concatenate(columns) for columns in zip(*self._parts, strict=True)))

    def _keep(self, table: pa.Table) -> None:
        left, top, width, height = (reals(table, f"bb_{name}") for name in ("xmin", "ymin", "width", "height"))
        boxes = np.stack([left, top, np.round(left + width, 1), np.round(top + height, 1)], axis=1)
        self._parts.append((integers(table, "person_id"), integers(table, "shot"), reals(table, "time_s"), boxes))


def write_crossings(store: Store, facts: Facts, collector: SightingCollector, params: CrossingParams) -> None:
    """Write `crossings` if any are asked for. Otherwise remove those of an earlier publication."""
    name = f"crossings/{facts.video_id}.parquet"
    if not params.is_asked:
        store.delete(name)
        return
    spans = zip(*(reals(facts.shots, column).tolist() for column in ("start_s", "end_s")), strict=True)
    shots = dict(enumerate(spans, start=1))
    crossings = find_crossings(collector.sightings(), shots, facts.size, params)
    schema = rows.DATASETS["crossings"]
    columns: dict[str, Any] = {
        column: [getattr(crossing, column) for crossing in crossings] for column in schema.names if column != "video_id"
    }
    columns["video_id"] = [facts.video_id] * len(crossings)
    tables.write(store, name, schema, [make_table(schema, columns)])
