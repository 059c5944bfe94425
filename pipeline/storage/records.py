"""The small records of an output: the row of a video, the rows of a run, and the recipe of a config_id."""

import io
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import rows
from pipeline.errors import LeaseError, UserError
from pipeline.storage import tables
from pipeline.storage.store import Store

Row = dict[str, Any]
HIDDEN_BY = b"hidden-by"
TRIES = 5


def write_video(store: Store, row: Mapping[str, Any]) -> None:
    """Write the row of a video. It is the last write of a video, and from then on all its tables count."""
    show_video(store, row["video_id"], tables.encode_rows(rows.DATASETS["videos"], [row]))


def show_video(store: Store, video_id: str, content: bytes) -> None:
    """Write the file of a video in `videos`. Raises LeaseError if another run has hidden or written it meanwhile."""
    name, guard = _video(video_id), store.guard
    if guard is None or not guard.swaps:
        store.put(name, content)
        return
    stored, etag = _read_with_etag(store, name)
    if stored == content:
        return  # by a first try that could not report it
    if (
        etag is not None
        and _hidden_by(stored) == guard.note
        and (store.replace(name, content, etag) is not None or store.read(name) == content)  # an answer can get lost
    ):
        return
    guard.confirm(at_once=True)
    raise LeaseError(f"{store.full(name)} was changed by another run; start one run at a time")


def read_video(store: Store, video_id: str) -> Row | None:
    """Return the published row of a video, or None if there is none."""
    try:
        published = tables.read_one(store, "videos", video_id).to_pylist()
    except FileNotFoundError:
        return None
    return published[0] if published else None


def hide_video(store: Store, video_id: str) -> None:
    """Withdraw the row of a published video before its tables change one by one.

    Its file stays, without a row, because a reader that has listed the folder would fail on a missing file. Under a
    lease, the file names the holder, also for a new video, so that `show_video` of any other run is refused.
    """
    name, schema, guard = _video(video_id), rows.DATASETS["videos"], store.guard
    if guard is None or not guard.swaps:
        if guard is not None:
            guard.confirm(at_once=True)
        if store.exists(name):
            tables.write_rows(store, name, schema, [])
        return
    hidden = tables.encode_rows(schema.with_metadata({**(schema.metadata or {}), HIDDEN_BY: guard.note}), [])
    for _ in range(TRIES):
        stored, etag = _read_with_etag(store, name)
        guard.confirm(at_once=True)  # after the read: whoever takes over from now on changes the etag
        if _hidden_by(stored) == guard.note:
            return
        if (store.create(name, hidden) if etag is None else store.replace(name, hidden, etag)) is not None:
            return
    raise LeaseError(f"{store.full(name)} is being changed by another run; start one run at a time")


def _read_with_etag(store: Store, name: str) -> tuple[bytes, str] | tuple[bytes, None]:
    try:
        return store.read_with_etag(name)
    except FileNotFoundError:
        return b"", None


def _hidden_by(content: bytes) -> str | None:
    """Return the note of the guard under which a video was hidden."""
    try:
        note = (pq.read_schema(io.BytesIO(content)).metadata or {}).get(HIDDEN_BY)
    except pa.ArrowException:  # there is no file, or a damaged one
        return None
    return None if note is None else note.decode()


def _video(video_id: str) -> str:
    return f"videos/{video_id}.parquet"


def stored_videos(store: Store) -> list[str]:
    """Return the ids of all videos that have a file in a dataset, sorted, also of those without a row in `videos`."""
    names = {name for dataset in ("videos", *rows.VIDEO_TABLES, "embeddings") for name in store.names(dataset)}
    return sorted({name.rpartition("/")[2].removesuffix(".parquet") for name in names} - {"schema"})


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
    """Write the recipe of a config_id: everything besides the content that its tables depend on."""
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
