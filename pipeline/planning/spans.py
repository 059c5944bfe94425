"""The spans of a video that are still to be decoded, and the rows that carry spans to the pools."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Self

import pyarrow as pa

from pipeline import rows
from pipeline.config import Config
from pipeline.cores.plan import PlannedSpan, plan_spans
from pipeline.media.probe import Probe
from pipeline.storage.ledger import ChunkSpan


@dataclass(frozen=True, slots=True)
class SpanRow:
    """One row of rows.SPAN. An archive has hundreds of thousands, and those of a video share its probe."""

    video_id: str
    uri: str
    first_cell: int
    end_cell: int
    borders: tuple[int, ...]
    durable: tuple[int, ...]
    probe: str

    def table(self) -> pa.Table:
        """Return the row as a table."""
        return pa.Table.from_pylist([asdict(self)], rows.SPAN)

    def without_durable(self, durable: Collection[ChunkSpan]) -> Self | None:
        """Return the row that also names the chunks in `durable` among those that need no work, or None if none needs
        work. It already names chunks whose frames are durable and whose faces are estimated by another row."""
        chunks = list(pairwise((*self.borders, self.end_cell)))
        made = tuple(first for first, end in chunks if first in self.durable or (first, end) in durable)
        return None if len(made) == len(chunks) else replace(self, durable=made)

    def first_chunk(self) -> Self:
        """Return the row that leaves only the first chunk that needs work."""
        left = [border for border in self.borders if border not in self.durable]
        return replace(self, durable=tuple(border for border in self.borders if border != left[0]))


@dataclass(frozen=True, slots=True)
class FacesRow:
    """One row of rows.KEPT_FACES."""

    video_id: str
    uri: str
    first_cell: int
    end_cell: int
    enriched: str

    def table(self) -> pa.Table:
        """Return the row as a table."""
        return pa.Table.from_pylist([asdict(self)], rows.KEPT_FACES)


def spans_to_decode(probe: Probe, config: Config, durable: Sequence[ChunkSpan]) -> list[PlannedSpan]:
    """Return the spans of one video that are still to be decoded."""
    return plan_spans(
        duration_s=probe.duration_s,
        keyframe_ns=probe.keyframe_ns,
        enterable=probe.enterable,
        params=config.chunk,
        durable=durable,
    )


def span_rows(video_id: str, uri: str, probe: Probe, spans: Sequence[PlannedSpan]) -> tuple[SpanRow, ...]:
    """Return the rows of the spans of one video."""
    text = probe.without_keyframes().to_json()
    return tuple(
        SpanRow(video_id, uri, span.first_cell, span.end_cell, span.borders, span.durable, text) for span in spans
    )
