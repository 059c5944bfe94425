"""The copies of sources in an output: annotated or anonymised videos and pictures.

    annotated/sub/clip.mp4          the copy of the source sub/clip.mp4
    annotated/sub/.clip.mp4.json    its mark: the content, and the key of everything that the copy depends on
    _work/VIDEO/copy-KEY/           pieces of a copy that is being made

A copy appears when it is complete, and its mark after it. A copy without its mark is made again.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath

from pipeline.storage.ledger import WORK
from pipeline.storage.names import Names, same
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.store import Store, side_by_side

FOLDERS = ("annotated", "anonymised")
"""The folders of an output that hold copies."""
VIDEO_SUFFIX = ".mp4"
PICTURE_SUFFIX = ".png"
WRITABLE_PICTURES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
"""Suffixes of the pictures whose copies keep their format. Copies of others are PNG files."""


@dataclass(frozen=True, slots=True)
class Mark:
    """The origin of a copy.

    video_id: the content that was copied.
    key: changes with everything that the copy depends on.
    """

    video_id: str
    key: str


def copy_names(index: OutputIndex, folder: str) -> dict[str, tuple[str, ...]]:
    """Return the names of the copies of every finished video, one per source, by video_id.

    A name is that of the source. A suffix is added if the format of the copy is another one.
    """
    names = Names(holds=index.store.holds)
    return {
        video_id: tuple(
            names.give(*_with_suffix(f"{folder}/{name}", is_picture=_is_picture(index.videos[video_id])))
            for name in index.file_names(video_id)
        )
        for video_id in index.done()
    }


def _is_picture(row: Mapping[str, object]) -> bool:
    return row["fps"] is None and row["num_frames"] == 1


def _with_suffix(name: str, *, is_picture: bool) -> tuple[str, str]:
    """Return a name without the suffix of its copy, and this suffix."""
    suffix = PurePosixPath(name).suffix
    if suffix.lower() in (WRITABLE_PICTURES if is_picture else {VIDEO_SUFFIX}):
        return name.removesuffix(suffix), suffix
    return name, PICTURE_SUFFIX if is_picture else VIDEO_SUFFIX


def is_made(store: Store, names: Iterable[str], mark: Mark) -> bool:
    """Return whether all copies of a content exist and have this mark."""
    return all(_read_mark(store, _mark_name(name)) == mark and store.exists(name) for name in names)


def hide(store: Store, names: Iterable[str]) -> None:
    """Remove copies and their marks."""
    for name in names:
        store.delete(_mark_name(name))
        store.delete(name)


def mark_made(store: Store, names: Iterable[str], mark: Mark) -> None:
    """Write the marks of complete copies."""
    for name in names:
        store.put(_mark_name(name), json.dumps(asdict(mark)).encode())


def drop_others(store: Store, folder: str, wanted: Collection[str]) -> None:
    """Remove the copies below `folder` that are not `wanted`, because their videos or sources are gone."""
    kept = {same(name) for name in wanted}
    hide(store, [name for name in store.names(folder) if same(name) not in kept])


def drop_copies(store: Store, video_ids: Collection[str]) -> list[str]:
    """Remove all copies of some contents. Return their names."""
    gone = []
    for folder in FOLDERS if video_ids else ():
        marks = [name for name in store.names(folder, hidden=True) if _copy_of(name) is not None]
        for name, mark in zip(marks, side_by_side(store, lambda name: _read_mark(store, name), marks), strict=True):
            if mark is not None and mark.video_id in video_ids and (copy := _copy_of(name)):
                gone.append(copy)
    hide(store, gone)
    return gone


def work_folder(mark: Mark) -> str:
    """Return the folder for the pieces of a copy that is being made."""
    return f"{WORK}/{mark.video_id}/copy-{mark.key}"


def drop_other_pieces(store: Store, mark: Mark) -> None:
    """Remove the pieces of interrupted copies of a content that depended on something else."""
    for folder in store.folders(f"{WORK}/{mark.video_id}"):
        if folder.startswith("copy-") and folder != f"copy-{mark.key}":
            store.delete_tree(f"{WORK}/{mark.video_id}/{folder}")


def _mark_name(name: str) -> str:
    above, slash, last = name.rpartition("/")
    return f"{above}{slash}.{last}.json"


def _copy_of(mark_name: str) -> str | None:
    """Return the name of the copy that a mark belongs to, None if the name is not that of a mark."""
    above, slash, last = mark_name.rpartition("/")
    if not (last.startswith(".") and last.endswith(".json")):
        return None
    return f"{above}{slash}{last[1:].removesuffix('.json')}"


def _read_mark(store: Store, name: str) -> Mark | None:
    try:
        return Mark(**json.loads(store.read(name)))
    except (FileNotFoundError, ValueError, TypeError):
        return None
