"""An archive of videos that nobody has filmed, for measuring everything but models and decoding.

Planner, engines, pools, marks of attempts, journal and run record are the real ones. The containers, the work of the
stages and the reduce are not: a stage returns an empty row, a durable object is an empty file, and a published video
is its row of `videos` and an empty CSV.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline import rows
from pipeline.flow import events, local_process
from pipeline.flow.stage import PoolOfStages, Stage
from pipeline.media.probe import Probe
from pipeline.planning.catalog import Content
from pipeline.storage import records, store, tables
from pipeline.storage.ledger import Ledger
from pipeline.video.job import PublishedVideo, VideoJob
from pipeline.video.parts import RunParts

CHUNK_S = 30
FPS = 25
KEYFRAME_EVERY_S = 2


@dataclass(frozen=True, slots=True)
class Simulation:
    """The videos of an archive, all alike.

    chunks: number of chunks of a video.
    sleep_s: seconds that the detector of people sleeps over a chunk.
    """

    chunks: int
    sleep_s: float = 0.0

    def probe(self) -> Probe:
        """Return the facts in the container of a video."""
        seconds = self.chunks * CHUNK_S
        return Probe(
            kind="video",
            width=1920,
            height=1080,
            stored=(1920, 1080),
            insets=(0, 0, 0, 0),
            mirrored=False,
            rotation=0,
            sample_aspect=Fraction(1),
            frames_say_aspect=False,
            transfer=1,
            codec="h264",
            profile="High",
            pixel_format="yuv420p",
            interlaced=False,
            fps=Fraction(FPS),
            time_base=Fraction(1, 12800),
            start_pts=0,
            duration_s=seconds - 0.5,
            promised_s=seconds - 0.5,
            keyframe_ns=tuple(second * 10**9 for second in range(0, seconds, KEYFRAME_EVERY_S)),
            enterable=True,
            times_are_counted=False,
            recorded_at=None,
            stream=0,
            packet_bytes=0,
            packet_ids=(),
            warning=None,
        )

    def probe_all(self, contents: Sequence[Content], advance: Callable[[], None] = lambda: None) -> dict[str, Probe]:
        """Return the facts by video_id, as catalog.probe_all does."""
        for _ in contents:
            advance()
        return {content.video_id: self.probe() for content in contents}

    def pools(self, made: Sequence[PoolOfStages]) -> list[PoolOfStages]:
        """Return the pools of a configuration with simulated stages."""
        return [
            replace(pool, stages=tuple(self._stage(stage, pool.limits.ledger) for stage in pool.stages))
            for pool in made
        ]

    def _stage(self, stage: Stage, ledger: Ledger) -> Stage:
        if stage.splits:
            core = partial(_observe, self.sleep_s, stage.adds)
        elif stage.name == "commit":
            core = partial(_commit, ledger)
        else:
            core = partial(_blank, stage.adds)
        return replace(stage, takes_threads=False, build=partial(_build, core))


def write_sources(folder: Path, count: int) -> None:
    """Write `count` small files with the names of videos."""
    folder.mkdir(parents=True)
    for number in range(count):
        (folder / f"{number:06d}.mp4").write_text(str(number))


def serve(*arguments: Any) -> None:
    """Work as the process of the local engine does, on simulated videos."""
    _simulate_here()
    local_process.serve(*arguments)


def reduce_simulated(*arguments: Any) -> Any:
    """Work as the reduce of the Ray engine does, on a simulated video."""
    from pipeline.flow import ray_engine

    _simulate_here()
    return ray_engine._reduce._function(*arguments)  # type: ignore[attr-defined]


def _simulate_here() -> None:
    events.reduce_video = _publish
    store.os.fsync = lambda _: None  # type: ignore[assignment]


def _publish(job: VideoJob, run_parts: RunParts) -> PublishedVideo:
    output = job.ledger.store
    records.hide_video(output, job.video_id)
    tables.write_rows(output, f"detections/{job.video_id}.parquet", rows.DATASETS["detections"], [])
    for name in job.csv_names:
        output.put(name, b"")
    row: dict[str, Any] = dict.fromkeys(rows.DATASETS["videos"].names)
    row |= {"video_id": job.video_id, "uri": job.uri, "status": "done", "config_id": job.config_id}
    row |= {"num_persons": 0, "duration_s": job.probe.duration_s, "fps": float(FPS), "width": 1920, "height": 1080}
    records.write_video(output, row)
    job.ledger.clear(job.video_id)
    return PublishedVideo(video_id=job.video_id, row=row, num_chunks=len(job.chunks))


def _build(core: Callable[..., Any]) -> Callable[..., Any]:
    _simulate_here()
    return core


def _observe(sleep_s: float, adds: pa.Schema, row: pa.Table) -> Iterator[pa.Table]:
    span = row.to_pylist()[0]
    schema = rows.join(rows.CHUNK, pa.schema([field for field in adds if field.name not in rows.CHUNK.names]))
    for first, end in zip(span["borders"], [*span["borders"][1:], span["end_cell"]], strict=True):
        if first not in span["durable"]:
            time.sleep(sleep_s)
            chunk = {"video_id": span["video_id"], "uri": span["uri"], "first_cell": first, "end_cell": end}
            yield pa.Table.from_pylist([dict.fromkeys(schema.names) | chunk], schema)


def _commit(ledger: Ledger, row: pa.Table) -> pa.Table:
    video_id, first, end = (row[name][0].as_py() for name in ("video_id", "first_cell", "end_cell"))
    for kind in ("enriched", "observed"):
        ledger.store.put(ledger._name(video_id, kind, (first, end)), b"")
    return pa.table([[CHUNK_S * FPS], [0]], schema=rows.COMMITTED)


def _blank(adds: pa.Schema, row: pa.Table) -> pa.Table:
    return rows.blank(adds, 1)
