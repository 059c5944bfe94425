"""Link a published video again from its measured pairs (`links`)."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import pyarrow as pa

from pipeline.columns import integers, no_rows
from pipeline.cores.link.joining import join
from pipeline.cores.relink import select
from pipeline.planning.published import read_links, read_presence
from pipeline.planning.relink import Relink
from pipeline.storage import tables
from pipeline.storage.store import Store
from pipeline.video.facts import Facts, facts_schema
from pipeline.video.likenesses import read_likenesses
from pipeline.video.publish import conclude, publish


def publish_from_scores(task: Relink, place: Store) -> dict[str, int]:
    """Write the tables into `place`. Return the value of num_persons for `videos`."""
    store, video_id, identity = task.store, task.video_id, task.after.identity
    presence = read_presence(store, video_id)
    links = select(read_links(store, video_id), presence, identity)

    def read(dataset: str) -> pa.Table:
        return tables.read_one(store, dataset, video_id, facts_schema(dataset).names)

    likenesses = read("likenesses")
    links, labels = join(links, presence.shots, presence.intervals, identity, read_likenesses(likenesses))

    facts = Facts(
        video_id=video_id,
        shots=read("shots"),
        tracklets=read("tracklets"),
        faces=read("faces"),
        detections=partial(_read_detections, store, video_id),
        likenesses=likenesses,
        num_analysed=task.row["num_analysed"],
        size=(task.row["width"], task.row["height"]),
    )
    people = conclude(facts, links, labels, task.after.person)
    publish(place, facts, people, task.csv_names, task.after.crossings)
    return {"num_persons": people.num_persons}


def _read_detections(store: Store, video_id: str) -> Iterator[pa.Table]:
    """Yield the rows of `detections` without the columns about persons, some whole frames at a time."""
    schema = facts_schema("detections")
    waiting = no_rows(schema)
    with tables.row_groups(store, f"detections/{video_id}.parquet") as groups:
        for group in groups:
            waiting = pa.concat_tables([waiting, group.select(schema.names).cast(schema)])
            frames = integers(waiting, "frame_num")
            whole = int(np.searchsorted(frames, frames[-1])) if len(frames) else 0
            yield waiting.slice(0, whole)
            waiting = waiting.slice(whole)
        yield waiting
