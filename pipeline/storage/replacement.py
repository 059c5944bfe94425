"""The replacement of a published video: its new tables are completed in the working area, and then take the place of
the old ones."""

from collections import defaultdict
from collections.abc import Iterable

from pipeline.storage.ledger import WORK
from pipeline.storage.records import hide_video, show_video
from pipeline.storage.store import Store

ASIDE = "relinked"
DROPPED_BY = {"embeddings": "no-biometrics", "crossings": "no-crossings"}
"""The datasets in which a published video may lose its file, and the marks that say so."""


def aside(store: Store, video_id: str) -> Store:
    """Return a store in the working area for tables that will replace those of a published video once they are
    complete."""
    return Store(store.full(_aside(video_id)), store.guard and store.guard.for_work())


def replace_video(store: Store, video_id: str) -> None:
    """Replace the published tables of a video with the complete ones in its `aside` store.

    Meanwhile, `videos` does not list the video as done. A repeated call finishes an interrupted replacement.
    """
    place, row = f"{_aside(video_id)}/", f"videos/{video_id}.parquet"
    dropped = {_mark(video_id, dataset): dataset for dataset in DROPPED_BY}
    hide_video(store, video_id)
    # The name of a CSV comes from its source, and may begin with a dot.
    names = store.names(_aside(video_id), hidden=True)
    for mark in dropped.keys() & set(names):
        store.delete(f"{dropped[mark]}/{video_id}.parquet")
    for name in names:
        if name != f"{place}{row}" and name not in dropped:
            store.move(name, name.removeprefix(place))
    show_video(store, video_id, store.read(f"{place}{row}"))
    store.delete(f"{place}{row}")
    kept = [name for name in store.names(f"{WORK}/{video_id}") if not name.startswith(place)]
    store.delete_tree(_aside(video_id) if kept else f"{WORK}/{video_id}")


def drop_table(store: Store, video_id: str, dataset: str) -> None:
    """Mark the `aside` store, so that a dataset of DROPPED_BY has no file of the video once it replaces the published
    tables."""
    store.put(_mark(video_id, dataset), b"")


def finish_replacing(store: Store, names: Iterable[str]) -> bool:
    """Finish interrupted calls of `replace_video`. Incomplete replacements are removed. Return whether there were any.

    names: the files of the working area, or those of one video in it.
    """
    begun: dict[str, list[str]] = defaultdict(list)
    for name in names:
        parts = name.split("/")
        if len(parts) > 3 and parts[2] == ASIDE:
            begun[parts[1]].append(name)
    for video_id in sorted(begun):
        if f"{_aside(video_id)}/videos/{video_id}.parquet" in begun[video_id]:
            replace_video(store, video_id)
        else:
            store.delete_tree(_aside(video_id))
    return bool(begun)


def finish_replacing_video(store: Store, video_id: str) -> None:
    """Finish an interrupted `replace_video` of one video."""
    finish_replacing(store, store.names(f"{WORK}/{video_id}"))


def _aside(video_id: str) -> str:
    return f"{WORK}/{video_id}/{ASIDE}"


def _mark(video_id: str, dataset: str) -> str:
    return f"{_aside(video_id)}/{DROPPED_BY[dataset]}"
