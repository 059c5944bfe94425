"""The removal of what an output need not hold any more: working files, and videos without a source."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta

from pipeline.planning.planner import WantedTables
from pipeline.planning.recipe import Recipe
from pipeline.storage import copies, records, traces
from pipeline.storage.ledger import WORK, drop_older, drop_older_summaries, summarised, summary_name
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.store import side_by_side
from pipeline.video import sequences
from pipeline.video.forgetting import remove_videos


def prune_output(index: OutputIndex) -> None:
    """Remove the sources that are not current, and the videos that no current source names, also from snapshots.

    A killed run can leave tables of a video that has no row in `videos`. They are removed as well.
    """
    store, unnamed = index.store, index.unnamed()
    for uri in [uri for uri, row in index.sources.items() if not row["current"]]:
        if csv := index.sources[uri]["csv"]:
            store.delete(csv)
        index.drop_source(uri)
    named = {row["video_id"] for row in index.sources.values()}
    begun = [video_id for video_id in records.stored_videos(store) if video_id not in named | index.videos.keys()]
    remove_videos(index, [*unnamed, *begun])
    copies.drop_copies(store, [*unnamed, *begun])
    index.close_ranks()
    index.save_sources()
    traces.drop_from_snapshots(store, [*unnamed, *begun])
    traces.forget_cached(store, [*unnamed, *begun])


def clear_work(index: OutputIndex, target: WantedTables) -> None:
    """Remove the working files that nothing needs any more.

    These are the files of videos that this configuration has finished or quarantined. They are also the files that
    other configurations left behind in interrupted runs, and the summaries that sequences wait for, once their time
    to live (`run.work_ttl_days`) has passed. The files that a published video keeps are not removed.

    A video leaves working files behind if a run was killed after writing the last table. It also does if it was
    quarantined: other chunks of it were on their way then, and their workers went on writing.
    """
    store, done = index.store, index.done()
    through = {video_id for video_id, row in index.videos.items() if row["config_id"] == target.config_id}
    if target.config.biometrics.keep:
        through -= set(done)
    in_sequences = {row["video_id"] for members in index.sequences().values() for row in members}
    stamps = store.stamps(WORK)
    keeping = sequences.keeping(index)
    _clear_failed(index, target, {name.split("/")[1] for name in stamps}, keeping)
    unneeded = {summary_name(video_id) for video_id in (through & summarised(stamps)) - in_sequences}
    for name in sorted(unneeded):
        store.delete(name)  # its biometrics were kept by an earlier run
    finished = sorted(through & {name.split("/")[1] for name in stamps})
    side_by_side(store, lambda video_id: store.delete_tree(f"{WORK}/{video_id}"), finished)
    left = {name: stamp for name, stamp in stamps.items() if name not in unneeded}
    limit = datetime.now(UTC) - timedelta(days=target.config.run.work_ttl_days)
    drop_older(store, left, limit, spared={*done, *finished})
    drop_older_summaries(store, left, limit, spared=keeping)


def _clear_failed(index: OutputIndex, target: WantedTables, working: Collection[str], keeping: Collection[str]) -> None:
    """Remove the working files of newer tables that could not be made, except those that the older tables keep.

    working: the videos with files in the working area. keeping: the videos whose biometrics are kept.
    """
    failed = {video_id for video_id, newer in index.failed.items() if newer.config_id == target.config_id}
    for video_id in sorted(failed & set(working)):
        if video_id not in keeping:
            index.store.delete_tree(f"{WORK}/{video_id}")
            continue
        stored = records.read_recipe(index.store, index.videos[video_id]["config_id"])
        kept = Recipe.from_json(stored).keys.folders if stored else ()
        for folder in sorted({*target.recipe.keys.folders, "attempts"} - {*kept}):
            index.store.delete_tree(f"{WORK}/{video_id}/{folder}")
