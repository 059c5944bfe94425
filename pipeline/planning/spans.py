"""The spans of a video that are still to be decoded, and the rows that carry spans to the pools."""

import json
from collections.abc import Sequence
from dataclasses import asdict

from pipeline.config import Config
from pipeline.cores.plan import PlannedSpan, plan_spans
from pipeline.media.probe import Probe
from pipeline.storage.ledger import ChunkSpan

RowOfSpan = str
"""One row of rows.SPAN or of rows.KEPT_FACES, as JSON."""


def spans_to_decode(probe: Probe, config: Config, durable: Sequence[ChunkSpan]) -> list[PlannedSpan]:
    """Return the spans of one video that are still to be decoded."""
    return plan_spans(
        duration_s=probe.duration_s,
        keyframe_ns=probe.keyframe_ns,
        enterable=probe.enterable,
        params=config.chunk,
        durable=durable,
    )


def span_row(video_id: str, uri: str, probe: Probe, span: PlannedSpan) -> RowOfSpan:
    """Return a row of rows.SPAN."""
    return json.dumps({"video_id": video_id, "uri": uri, "probe": probe.without_keyframes().to_json()} | asdict(span))


def faces_row(video_id: str, uri: str, span: ChunkSpan, enriched: str) -> RowOfSpan:
    """Return a row of rows.KEPT_FACES."""
    row = {"video_id": video_id, "uri": uri, "first_cell": span[0], "end_cell": span[1], "enriched": enriched}
    return json.dumps(row)
