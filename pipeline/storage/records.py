"""The small records of an output: the row of a video, the rows of a run, and the recipe of a config_id."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pipeline import rows
from pipeline.errors import UserError
from pipeline.storage import tables
from pipeline.storage.store import Store

Row = dict[str, Any]


def write_video(store: Store, row: Mapping[str, Any]) -> None:
    """Write the row of a video. It is the last write of a video, and from then on all its tables count."""
    tables.write_rows(store, f"videos/{row['video_id']}.parquet", rows.DATASETS["videos"], [row])


def read_video(store: Store, video_id: str) -> Row | None:
    """Return the published row of a video, or None if there is none."""
    try:
        published = tables.read_one(store, "videos", video_id).to_pylist()
    except FileNotFoundError:
        return None
    return published[0] if published else None


def hide_video(store: Store, video_id: str) -> None:
    """Withdraw the row of a published video before its tables change one by one.

    Its file stays, without a row, because a reader that has listed the folder would fail on a missing file.
    """
    if store.exists(f"videos/{video_id}.parquet"):
        tables.write_rows(store, f"videos/{video_id}.parquet", rows.DATASETS["videos"], [])


def delete_tables(store: Store, video_id: str) -> None:
    """Remove the files of a video in every dataset but `videos`."""
    for dataset in (*rows.VIDEO_TABLES, "embeddings"):
        store.delete(f"{dataset}/{video_id}.parquet")


def quarantined_row(video_id: str, uri: str, config_id: str, stage: str, reason: str) -> Row:
    """Return the row of `videos` for a video that was given up."""
    blank = dict.fromkeys(rows.DATASETS["videos"].names)
    failure = {"status": "quarantined", "stage": stage, "reason": reason, "config_id": config_id}
    return blank | {"video_id": video_id, "uri": uri} | failure


def write_recipe(store: Store, config_id: str, recipe: Mapping[str, Any]) -> None:
    """Write the configuration that a config_id stands for."""
    store.put(_recipe(config_id), json.dumps(recipe, indent=2, sort_keys=True).encode())


def read_recipe(store: Store, config_id: str) -> Row | None:
    """Return what `write_recipe` wrote, or None if there is nothing. Raises UserError if the file is not JSON."""
    try:
        return json.loads(store.read(_recipe(config_id)))
    except FileNotFoundError:
        return None
    except ValueError as error:
        where = store.full(_recipe(config_id))
        raise UserError(f"{where} is not JSON: {error}; run `process` again on these sources") from None


def _recipe(config_id: str) -> str:
    return f"recipes/{config_id}.json"


def write_run(store: Store, run_id: str, run_rows: list[Row]) -> None:
    """Write the rows of `runs` that a run has made so far."""
    tables.write_rows(store, f"runs/{run_id}.parquet", rows.DATASETS["runs"], run_rows)


def run_row(run_id: str, video_id: str, started_at: datetime, **values: Any) -> Row:
    """Return a row of `runs`. values: by column, what the work on the video cost."""
    return {"run_id": run_id, "video_id": video_id, "started_at": started_at} | values
