"""Run the whole flow without Ray: the same stages and the same reduce, one after the other in this process."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.config import load
from pipeline.flow.pools import pools_from_pixels
from pipeline.flow.stage import Stage, Worker
from pipeline.media.probing import probe
from pipeline.planning import recipe
from pipeline.planning.spans import span_rows, spans_to_decode
from pipeline.storage import records, tables
from pipeline.storage.blobs import fetch
from pipeline.storage.ledger import Ledger
from pipeline.storage.source_files import opener
from pipeline.storage.store import Store
from pipeline.video.job import VideoJob
from pipeline.video.reduce import reduce_video
from pipeline.video.track import track_part
from pipeline.weights import Registry

SHARED_WEIGHTS = Path(__file__).parents[1] / "conf" / "shared-weights.yaml"


def process(
    video: Path,
    place: Path,
    *settings: str,
    files: Sequence[Path] = (),
    video_id: str = "v",
    in_sequence: bool = False,
) -> int:
    """Publish `video` at `place`, and return the number of chunks."""
    job = make_durable(video, place, [SHARED_WEIGHTS, *files], settings, video_id)
    store = job.ledger.store
    records.write_recipe(store, "c", {"knobs": job.config.result_knobs()})
    tables.create(store, job.config.biometrics.keep)
    reduce_video(replace(job, in_sequence=in_sequence), lambda parts: [track_part(part) for part in parts])
    return len(job.chunks)


def make_durable(
    video: Path, place: Path, files: Sequence[Path], settings: Sequence[str], video_id: str = "v"
) -> VideoJob:
    """Make the chunks of `video` durable at `place`, and return the job that reduces them. Durable chunks are not
    made again."""
    config = load(files, settings).on_device("cpu")
    registry = Registry.of(config, fetch)
    ledger = Ledger(Store(str(place)), recipe.keys(config, registry))
    probed = probe(opener(str(video)))
    missing = spans_to_decode(probed, config, ledger.durable().get(video_id, []))
    pools = pools_from_pixels(config, registry, ledger, "run") if missing else []
    workers = [
        Worker(replace(pool, stages=tuple(_remembered(stage, (*map(str, files), *settings)) for stage in pool.stages)))
        for pool in pools
    ]
    for span in span_rows(video_id, str(video), probed, missing):
        rows = [span.table()]
        for worker in workers:
            rows = [out for row in rows for out in worker(row)]
        assert all(row["error"].null_count == 1 for row in rows), [row["error"].to_pylist() for row in rows]
    return VideoJob(
        video_id=video_id,
        uri=video.name,
        probe=probed,
        chunks=tuple(ledger.durable()[video_id]),
        csv_names=(f"csv/{video.name}.csv",),
        ledger=ledger,
        config=config,
        config_id="c",
        spaces=recipe.spaces(config, registry),
        priors=recipe.priors(recipe.registry_likenesses(config, registry)),
    )


def contents(place: Path) -> dict[str, bytes]:
    """Return every file that a user reads."""
    return {
        path.relative_to(place).as_posix(): path.read_bytes()
        for path in sorted(place.rglob("*"))
        if path.is_file() and not {"_work", "_lease", "_events"} & set(path.parts)
    }


def differing(one: Path, other: Path) -> Sequence[str]:
    a, b = contents(one), contents(other)
    return sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))


def _remembered(stage: Stage, settings: Sequence[str]) -> Stage:
    """Return the stage with a cached core, so that models are loaded once for all chunk lengths.

    The commit depends on the place and is built anew.
    """
    if stage.name == "commit":
        return stage
    shaping = tuple(setting for setting in settings if not setting.startswith("chunk."))
    return replace(stage, takes_threads=False, build=lambda: _core(stage.name, shaping, _Builder(stage.build)))


class _Builder:
    """A builder that equals every other, so that the cache returns the core of the first."""

    def __init__(self, build: Any) -> None:
        self.build = build

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Builder)

    def __hash__(self) -> int:
        return 0


@cache
def _core(name: str, settings: Sequence[str], builder: _Builder) -> Any:
    return builder.build()
