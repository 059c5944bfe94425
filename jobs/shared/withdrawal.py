"""The tables of a video that is given up: older ones stay, half-written ones go."""

from pipeline.storage import records, replacement
from pipeline.storage.ledger import summary_name
from pipeline.storage.output_index import OutputIndex


def has_older_tables(index: OutputIndex, video_id: str) -> bool:
    """Return whether a video has whole tables of an earlier run. A replacement of them that died is finished or undone
    first."""
    if index.videos.get(video_id, {}).get("status") != "done":
        return False
    replacement.finish_replacing_video(index.store, video_id)
    row = records.read_video(index.store, video_id)
    if row is None or row["status"] != "done":
        return False
    index.videos[video_id] = row
    return True


def withdraw_tables(index: OutputIndex, video_id: str) -> None:
    """Remove the tables of a video, which may be half-written."""
    records.hide_video(index.store, video_id)
    index.store.delete(summary_name(video_id))
    records.delete_tables(index.store, video_id)
    for name in index.csv_names(video_id):
        index.store.delete(name)
