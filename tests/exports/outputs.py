"""Small outputs to export: people who walk through simulated films."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from typer.testing import CliRunner, Result

from jobs import export
from pipeline.rows import DATASETS
from pipeline.storage import tables
from pipeline.storage.output_index import SOURCES_FILE
from pipeline.storage.records import write_recipe
from pipeline.storage.store import Store
from pipeline.video.reduce import reduce_video
from pipeline.video.track import track_part
from tests.builders import Film, Walker, job

WALKERS = [Walker(0, 4, x=20, look=1, age=30), Walker(0, 2, x=400, look=2)]
FILM = Film(4.0, WALKERS)


def publish(
    place: str, films: Mapping[str, Film], *settings: str, recorded: Mapping[str, datetime] | None = None
) -> str:
    """Publish films by the names of their sources. recorded: start of the recording by name."""
    sources: list[dict[str, Any]] = []
    for number, (name, film) in enumerate(films.items()):
        video_id = f"{number + 10:032x}"[::-1]
        work = job(film, [], place, "observe.fps=8", *settings, video_id=video_id)
        reduce_video(work, lambda parts: [track_part(part) for part in parts])
        write_recipe(Store(place), work.config_id, {"knobs": work.config.result_knobs()})
        sources.append(
            {"uri": f"/in/{name}", "video_id": video_id, "csv": f"csv/{name}.csv", "status": "done", "current": True}
            | {"recorded_at": (recorded or {}).get(name)}
        )
    tables.write_rows(Store(place), SOURCES_FILE, DATASETS["sources"], sources)
    return place


def run_export(uri: str, export_format: str, *options: str) -> Result:
    return CliRunner().invoke(export.app, [uri, "--format", export_format, *options], catch_exceptions=False)


def set_columns(place: str, dataset: str, video_id: str, changed: Sequence[Mapping[str, Any]]) -> None:
    """Write rows of a dataset of a video anew, with other values in some columns of the first rows."""
    store = Store(place)
    table_rows = tables.read_one(store, dataset, video_id).to_pylist()
    for row, values in zip(table_rows, changed, strict=False):
        row.update(values)
    tables.write_rows(store, f"{dataset}/{video_id}.parquet", DATASETS[dataset], table_rows)
