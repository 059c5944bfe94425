"""Persons and tables of a published video, made again from its stored data. Nothing is decoded, and no model runs.

There are three ways. Each leads to the bytes that `process` would have published under the new knobs. The first one
that suffices is taken.

- Scores: `links` holds every pair that was measured. `detections`, `tracklets` and `faces` hold the data that
  persons are made of. This way can move any threshold, and it can narrow the limits of the measured pairs
  (cores.relink).
- Embeddings: covers all other knobs of `identity`, if biometrics are kept. The tracking result is read back.
- Chunks: the tracker runs again over the boxes and embeddings in the working area, if biometrics are kept.

The new tables are written aside and replace the old ones when they are whole.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import rows
from pipeline.config import Config
from pipeline.cores.fill import Knots
from pipeline.cores.link.joining import join
from pipeline.cores.link.pairs import Links
from pipeline.cores.link.times import microseconds
from pipeline.cores.plan import disjoint
from pipeline.cores.relink import Presence, num_crowded_out, select
from pipeline.errors import DataError, UserError
from pipeline.planning.changes import Basis, Change, compare, least
from pipeline.planning.recipe import SHAPED_BY, Recipe, priors, reduced_id
from pipeline.storage import records, replacement, tables
from pipeline.storage.ledger import ChunkSpan, Ledger, is_whole
from pipeline.storage.store import Store
from pipeline.video.blocks import BOX, Block, TrackingResult
from pipeline.video.publish import Facts, conclude, facts_schema, publish, read_likenesses, reals
from pipeline.video.reduce import (
    Part,
    PublishedVideo,
    Timeline,
    VideoChunks,
    box_array,
    flat,
    numbers,
    publish_chunks,
    read_timeline,
)

RELINKED = SHAPED_BY["reduced"]
"""The sections of the configuration that act on stored data."""
KEPT_BY = "`rollcall process` with biometrics.keep=true keeps them"


@dataclass(frozen=True, slots=True, kw_only=True)
class Relink:
    """A published video whose tables are to be made again.

    store: of the output.
    row: its row of `videos`.
    recipe: of its published tables.
    wanted: of its new tables.
    before: the old configuration.
    after: the new configuration.
    csv_names: names of the CSV files to write.
    spans: its durable chunks, if they are kept.
    in_sequence: whether later files of a sequence may be linked with the persons of this video.
    """

    store: Store
    row: Mapping[str, Any]
    recipe: Recipe
    wanted: Recipe
    before: Config
    after: Config
    csv_names: tuple[str, ...]
    spans: tuple[ChunkSpan, ...]
    in_sequence: bool = False

    @property
    def video_id(self) -> str:
        return self.row["video_id"]

    @property
    def config_id(self) -> str:
        """The config_id of the new tables."""
        return reduced_id(self.wanted.keys, self.after, self.wanted.likenesses)

    @property
    def changes(self) -> list[Change]:
        return compare(self.recipe, self.wanted)


@dataclass(frozen=True, slots=True)
class RelinkJob:
    """The last step of a published video that needs no new chunks. It is linked again.

    relink: the video and its recipes.
    way: the stored data that the new tables are made of.
    """

    relink: Relink
    way: Basis

    @property
    def video_id(self) -> str:
        return self.relink.video_id

    @property
    def uri(self) -> str:
        return self.relink.row["uri"]

    @property
    def duration_s(self) -> float:
        return self.relink.row["duration_s"]

    @property
    def num_chunks(self) -> int:
        return 0 if self.way is Basis.SCORES else len(self.relink.spans)


def publish_relinked(again: RelinkJob) -> PublishedVideo:
    """Link a video again and publish it, as reduce.reduce_video does for chunks. Raises DataError as `relink_video`
    does."""
    row = relink_video(again.relink, again.way)
    return PublishedVideo(video_id=again.video_id, row=row, num_chunks=again.num_chunks)


def kept_spans(store: Store, recipe: Recipe) -> dict[str, tuple[ChunkSpan, ...]]:
    """Return the durable chunks of every video made by a recipe, if they cover the whole video."""
    durable = Ledger(store, recipe.keys).durable()
    whole = {video_id: tuple(disjoint(spans)) for video_id, spans in durable.items()}
    return {video_id: spans for video_id, spans in whole.items() if is_whole(spans)}


def choose_basis(task: Relink) -> Basis:
    """Return the way to make a video's tables again. Raises UserError if the stored data does not suffice."""
    needs = least(task.changes)
    lacking = _lacks_scores(task, needs)
    if not lacking:
        return Basis.SCORES
    if task.spans and needs <= Basis.CHUNKS:
        has_vectors = task.store.exists(f"embeddings/{task.video_id}.parquet")
        return Basis.EMBEDDINGS if needs <= Basis.EMBEDDINGS and has_vectors else Basis.CHUNKS
    raise UserError(f"{task.row['uri']}: {lacking}")


def relink_video(task: Relink, way: Basis) -> dict[str, Any]:
    """Publish a video again. Return its new row of `videos`.

    Raises DataError if its stored data cannot be read or does not fit together. Then its published tables are
    unchanged.
    """
    # If a worker died at the end of this function, the published tables are already the new ones and must not be linked
    # again.
    replacement.finish_replacing(task.store, task.video_id)
    if (row := records.read_video(task.store, task.video_id)) and row["config_id"] == task.config_id:
        return row
    place = replacement.aside(task.store, task.video_id)
    try:
        with tables.damage_is_a_fault():
            counts = _from_scores(task, place) if way is Basis.SCORES else _from_chunks(task, way, place)
    except DataError:
        replacement.finish_replacing(task.store, task.video_id)  # removes the half-written tables
        raise
    row = {**task.row, "config_id": task.config_id} | counts
    if task.before.biometrics.keep and not task.after.biometrics.keep:
        replacement.drop_biometrics(task.store, task.video_id)
    records.write_video(place, row)
    replacement.replace_video(task.store, task.video_id)
    return row


def crowded_out(task: Relink) -> str:
    """Return the reason why scores do not suffice for a shorter `identity.shot_max_s`. Empty if they do."""
    before, after = task.before.identity, task.after.identity
    if after.shot_max_s >= before.shot_max_s:
        return ""
    links, seen = read_links(task.store, task.video_id), read_presence(task.store, task.video_id)
    if count := num_crowded_out(links, seen, before, after):
        return (
            f"{count} of its tracklets had more candidates than the {before.candidates} that were written down, and "
            f"the embeddings of the others are not kept"
        )
    return ""


def _lacks_scores(task: Relink, needs: Basis) -> str:
    """Return the reason why new tables cannot be made from the published ones. Empty if they can."""
    changes = [change for change in task.changes if change.needs is needs]
    if needs >= Basis.CHUNKS:
        names = ", ".join(change.name for change in changes)
        return f"{names}: needs the boxes and embeddings of all frames, which are not kept; {KEPT_BY}"
    if needs is Basis.EMBEDDINGS:
        told = ", ".join(f"{change.name} from {change.before} to {change.after}" for change in changes)
        return f"{told}: needs the embeddings of its tracklets, which are not kept; {KEPT_BY}"
    crowded = crowded_out(task)
    return crowded and f"identity.shot_max_s={task.after.identity.shot_max_s:g}: {crowded}; {KEPT_BY}"


# --- from scores -----------------------------------------------------------------------------------------------------


def _from_scores(task: Relink, place: Store) -> dict[str, int]:
    store, video_id, identity = task.store, task.video_id, task.after.identity
    seen = read_presence(store, video_id)
    links = select(read_links(store, video_id), seen, identity)

    def read(dataset: str) -> pa.Table:
        return tables.read_one(store, dataset, video_id, facts_schema(dataset).names)

    likenesses = read("likenesses")
    links, labels = join(links, seen.shots, seen.intervals, identity, read_likenesses(likenesses))

    facts = Facts(
        video_id=video_id,
        shots=read("shots"),
        tracklets=read("tracklets"),
        faces=read("faces"),
        detections=partial(_read_detections, store, video_id),
        likenesses=likenesses,
        num_analysed=task.row["num_analysed"],
    )
    people = conclude(facts, links, labels, task.after.person)
    publish(place, facts, people, task.csv_names)
    return {"num_persons": len(people.votes)}


def read_links(store: Store, video_id: str) -> Links:
    """Return the links of a published video, between the tracklets a + 1 and b + 1."""
    table = tables.read_one(store, "links", video_id)
    measured = ("gap_s", "motion", "size", "body_similarity", "face_similarity", "score")
    return Links(
        a=table["tracklet_a"].to_numpy() - 1,
        b=table["tracklet_b"].to_numpy() - 1,
        kind=np.array(table["kind"].to_pylist(), np.str_),
        joined=table["joined"].to_numpy().astype(np.bool_),
        why=np.array(table["why"].to_pylist(), np.str_),
        **{name: reals(table, name) for name in measured},
    )


def read_presence(store: Store, video_id: str) -> Presence:
    """Return the times at which the tracklets of a published video were seen, from its detections."""
    count = len(tables.read_one(store, "tracklets", video_id, ["tracklet_id"]))
    shots = np.zeros(count, np.int64)
    first_us, last_us = np.full(count, np.iinfo(np.int64).max), np.full(count, np.iinfo(np.int64).min)
    runs = [np.zeros((0, 3), np.int64)]
    with tables.row_groups(store, f"detections/{video_id}.parquet") as groups:
        for group in groups:
            tracklets = group["tracklet_id"].to_numpy() - 1
            shots[tracklets] = group["shot"].to_numpy() - 1
            tracked = ~group["interpolated"].to_numpy()
            times_us = microseconds(group["time_s"].to_numpy()[tracked])
            np.minimum.at(first_us, tracklets[tracked], times_us)
            np.maximum.at(last_us, tracklets[tracked], times_us)
            frames = group["frame_num"].to_numpy() - 1
            runs.append(_runs(tracklets, frames, frames + 1))
    runs = _runs(*np.concatenate(runs).T)
    ends = np.searchsorted(runs[:, 0], np.arange(1, count))
    return Presence(shots, first_us, last_us, np.split(runs[:, 1:], ends) if count else [])


def _runs(tracklets: NDArray[np.int64], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return (M, 3) tracklet, start, end, ordered by tracklet, then start. Spans that follow each other without a
    gap are joined."""
    order = np.lexsort((starts, tracklets))
    tracklets, starts, ends = tracklets[order], starts[order], ends[order]
    opens = np.ones(len(order), np.bool_)
    opens[1:] = (tracklets[1:] != tracklets[:-1]) | (starts[1:] != ends[:-1])
    closes = np.append(opens[1:], np.ones(min(len(order), 1), np.bool_))
    return np.stack([tracklets[opens], starts[opens], ends[closes]], axis=1)


def _read_detections(store: Store, video_id: str) -> Iterator[pa.Table]:
    """Yield the rows of `detections` without the columns about persons, some whole frames at a time."""
    schema = facts_schema("detections")
    waiting = schema.empty_table()
    with tables.row_groups(store, f"detections/{video_id}.parquet") as groups:
        for group in groups:
            waiting = pa.concat_tables([waiting, group.select(schema.names).cast(schema)])
            frames = waiting["frame_num"].to_numpy()
            whole = int(np.searchsorted(frames, frames[-1])) if len(frames) else 0
            yield waiting.slice(0, whole)
            waiting = waiting.slice(whole)
        yield waiting


# --- from chunks -----------------------------------------------------------------------------------------------------


def _from_chunks(task: Relink, way: Basis, place: Store) -> dict[str, int]:
    chunks = VideoChunks(
        video_id=task.video_id,
        spans=task.spans,
        csv_names=task.csv_names,
        ledger=Ledger(task.store, task.recipe.keys),
        config=task.after,
        spaces=task.wanted.spaces,
        priors=priors(task.wanted.likenesses),
        in_sequence=task.in_sequence,
    )
    timeline = read_timeline(chunks, 0)
    frame_ns = round(task.row["duration_s"] * 1e9) - int(timeline.times_ns[-1])
    timeline = replace(timeline, frame_ns=frame_ns)
    if way is Basis.CHUNKS:
        return publish_chunks(chunks, timeline, track_here, place)
    known = read_likenesses(tables.read_one(task.store, "likenesses", task.video_id))
    return publish_chunks(chunks, timeline, lambda _: [read_tracked(chunks, timeline)], place, known)


def track_here(parts: Sequence[Part]) -> Iterable[TrackingResult]:
    from pipeline.video.track import track_part  # imports torch and boxmot, which takes some seconds

    return [track_part(part) for part in parts]


def read_tracked(chunks: VideoChunks, timeline: Timeline) -> TrackingResult:
    """Return the tracking result of a published video. Its boxes are in `detections`, its bodies in `embeddings`."""
    store, video_id = chunks.ledger.store, chunks.video_id
    knots = _read_knots(store, video_id)
    places = np.zeros((2, len(knots)), np.int64)
    for chunk, span in enumerate(chunks.spans):
        first, end = timeline.first_frames[chunk : chunk + 2]
        own = np.flatnonzero((knots.frames >= first) & (knots.frames < end))
        seen = flat(chunks.ledger.observed(video_id, span, rows.DETECTIONS.names)["detections"])
        keys = list(_keys(numbers(seen, "frame") + first, box_array(seen, "box"), numbers(seen, "score")))
        # `suppress` keeps the first of equal detections.
        place_by_key = {key: place for place, key in reversed([*enumerate(keys)])}
        found = [place_by_key[key] for key in _keys(knots.frames[own], knots.boxes[own], knots.scores[own])]
        places[0, own], places[1, own] = chunk, found
    shots = tables.read_one(store, "tracklets", video_id, ["shot"])["shot"].to_numpy() - 1
    boxes = np.empty(len(knots), BOX)
    boxes["track"], boxes["frame"], boxes["box"], boxes["score"] = (getattr(knots, name) for name in Knots.__slots__)
    boxes["chunk"], boxes["detection"] = places
    boxes = boxes[np.argsort(knots.frames, kind="stable")]
    tracks = np.arange(len(shots))
    first, end = np.searchsorted(knots.tracklets, (tracks, tracks + 1))
    blocks = (Block(int(boxes["frame"][0]), int(boxes["frame"][-1]), boxes),) if len(boxes) else ()
    bodies = _read_bodies(store, video_id, len(shots))
    return TrackingResult(
        blocks, tracks, knots.frames[first], knots.frames[end - 1], shots, bodies, np.full(len(shots), np.nan)
    )


def _read_knots(store: Store, video_id: str) -> Knots:
    corners = ("bb_xmin", "bb_ymin", "bb_width", "bb_height")
    table = tables.read_one(
        store, "detections", video_id, ["tracklet_id", "frame_num", *corners, "score", "interpolated"]
    )
    table = table.filter(pa.array(~table["interpolated"].to_numpy()))
    left, top, width, height = (reals(table, name) for name in corners)
    boxes = np.stack([left, top, np.round(left + width, 1), np.round(top + height, 1)], axis=1).astype(np.float32)
    tracklets, frames = table["tracklet_id"].to_numpy() - 1, table["frame_num"].to_numpy() - 1
    return Knots.ordered(tracklets, frames, boxes, reals(table, "score").astype(np.float32))


def _read_bodies(store: Store, video_id: str, count: int) -> NDArray[np.float32]:
    """Return the (T, D) body vectors as in TrackingResult, nan where there is none."""
    table = tables.read_one(store, "embeddings", video_id, ["tracklet_id", "kind", "vector"])
    of_body = [row for row in table.to_pylist() if row["kind"] == "body"]
    bodies = np.full((count, max((len(row["vector"]) for row in of_body), default=0)), np.nan, np.float32)
    for row in of_body:
        bodies[row["tracklet_id"] - 1] = row["vector"]
    return bodies


def _keys(frames: NDArray[np.int64], boxes: NDArray[np.float32], scores: NDArray[Any]) -> Iterator[tuple[int, ...]]:
    """Yield a key for each of N detections: frame, box in steps of 0.1 px, score in steps of 0.001."""
    tenths, thousandths = np.rint(boxes.astype(np.float64) * 10), np.rint(scores.astype(np.float64) * 1000)
    yield from map(tuple, np.column_stack([frames, tenths, thousandths]).astype(np.int64).tolist())
