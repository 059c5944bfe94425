"""From the facts about a video's tracklets, and the persons they belong to, to its published tables.

This module does not depend on the origin of the facts. `reduce` gets them from durable chunks, `relink` from tables
that are already published. Equal facts and equal persons make equal bytes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import rows
from pipeline.cores.likeness import WIDE, DistanceStats, Likeness, Likenesses
from pipeline.cores.link.pairs import Links
from pipeline.cores.number import number_persons
from pipeline.cores.vote import PersonParams, Vote, age_columns, vote
from pipeline.storage import records, tables
from pipeline.storage.store import Store

TOLD_OF_FRAMES = ("age_low", "age_high", "age_why_not", "gender_why_not")
"""The columns that `detections` copies unchanged from `persons`, besides gender and those of age_columns."""
OF_PERSONS = ("person_id", "age_min", "age_max", "age_actual", "gender", *TOLD_OF_FRAMES)
"""The columns of `detections`, `tracklets` and `faces` that identify or describe a person."""


def facts_schema(dataset: str) -> pa.Schema:
    """Return the schema of a dataset without the columns about persons."""
    return pa.schema([field for field in rows.DATASETS[dataset] if field.name not in OF_PERSONS])


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The facts about a video before its persons are known. Its T tracklets have the numbers 1..T by first
    appearance.

    All tables lack the columns OF_PERSONS.

    video_id: id of the content.
    shots: the rows of `shots`.
    tracklets: the rows of `tracklets`, by tracklet_id.
    faces: the rows of `faces`.
    detections: returns the rows of `detections` in order of frames, in tables of some whole frames each.
    likenesses: the rows of `likenesses`.
    num_analysed: number of frames that the detector processed.
    """

    video_id: str
    shots: pa.Table
    tracklets: pa.Table
    faces: pa.Table
    detections: Callable[[], Iterable[pa.Table]]
    likenesses: pa.Table
    num_analysed: int


@dataclass(frozen=True, slots=True)
class People:
    """The persons of a video.

    person_ids: (T,) int64 by tracklet.
    links: between the tracklets a + 1 and b + 1.
    votes: by person, person 1 first.
    """

    person_ids: NDArray[np.int64]
    links: Links
    votes: list[Vote]


def conclude(facts: Facts, links: Links, labels: NDArray[np.int64], params: PersonParams) -> People:
    """Number the persons, and estimate age and gender of each from its faces.

    labels: (T,) int64, equal for tracklets of one person.
    """
    person_ids = number_persons(np.arange(1, len(labels) + 1), labels)
    judged, on = _judged(facts), _tracklets_of_faces(facts)
    person_of_face = np.where(judged, np.append(0, person_ids)[on], 0)
    said = [reals(facts.faces, name).astype(np.float32) for name in ("age", "age_std", "female_prob", "quality")]
    votes = []
    for person in range(1, int(person_ids.max(initial=0)) + 1):
        own = np.flatnonzero(person_of_face == person)
        ages, stds, probs, qualities = (column[own] for column in said)
        votes.append(vote(ages, stds, probs, qualities, params.with_looks(facts.num_analysed)))
    return People(person_ids, links, votes)


def publish(store: Store, facts: Facts, people: People, csv_names: Sequence[str]) -> None:
    """Write every table of the video except `embeddings`, which does not depend on persons, and `videos`, which is
    written last.

    Until `videos` is written, it does not list an older publication of the video as done either.
    """

    def put(dataset: str, *parts: pa.Table) -> None:
        tables.write(store, f"{dataset}/{facts.video_id}.parquet", rows.DATASETS[dataset], parts)

    records.hide_video(store, facts.video_id)
    put("shots", facts.shots)
    name = f"detections/{facts.video_id}.parquet"
    tables.write(store, name, rows.DATASETS["detections"], _detections(facts, people))
    put("tracklets", _with("tracklets", facts.tracklets, {"person_id": people.person_ids}))
    on = np.append(0, people.person_ids)[_tracklets_of_faces(facts)]
    put("faces", _with("faces", facts.faces, {"person_id": ids_or_null(on)}))
    put("persons", _persons(facts, people))
    put("links", _links(facts, people.links))
    put("likenesses", facts.likenesses)
    for name in csv_names:
        tables.write_csv(store, facts.video_id, name)


def _detections(facts: Facts, people: People) -> Iterator[pa.Table]:
    """Yield the rows of `detections`, ordered by frame, then person."""
    ages = [age_columns(vote.age) for vote in people.votes]
    by_person = {
        "age_min": np.array([0, *(age.age_min for age in ages)], np.int64),
        "age_max": np.array([0, *(age.age_max for age in ages)], np.int64),
        "age_actual": np.array([0, *(age.age_actual for age in ages)], np.int64),
        "gender": np.array(["", *(vote.gender for vote in people.votes)]),
    }
    dataset = rows.DATASETS["detections"]
    as_told = {
        name: pa.array([None, *(getattr(vote, name) for vote in people.votes)], dataset.field(name).type)
        for name in TOLD_OF_FRAMES
    }
    for window in facts.detections():
        person = people.person_ids[window["tracklet_id"].to_numpy() - 1]
        order = np.lexsort((person, window["frame_num"].to_numpy()))
        person = person[order]
        told: dict[str, Any] = {"person_id": person} | {name: by[person] for name, by in by_person.items()}
        told |= {name: by.take(pa.array(person)) for name, by in as_told.items()}
        yield _with("detections", window.take(pa.array(order)), told)


def _persons(facts: Facts, people: People) -> pa.Table:
    count = len(people.votes)
    index = people.person_ids - 1
    start_s, end_s = np.full(count, np.inf), np.zeros(count)
    np.minimum.at(start_s, index, reals(facts.tracklets, "start_s"))
    np.maximum.at(end_s, index, reals(facts.tracklets, "end_s"))

    def total(name: str) -> NDArray[np.int64]:
        return np.bincount(index, facts.tracklets[name].to_numpy(), minlength=count).astype(np.int64)

    columns: dict[str, Any] = {
        "video_id": [facts.video_id] * count,
        "person_id": np.arange(1, count + 1),
        "start_s": start_s,
        "end_s": end_s,
        "num_frames": total("num_frames"),
        "num_tracklets": np.bincount(index, minlength=count),
        "num_faces": total("num_faces"),
    }
    for name in ("age", "age_low", "age_high", "gender", "female_prob", "age_why_not", "gender_why_not"):
        columns[name] = [getattr(vote, name) for vote in people.votes]
    return make(rows.DATASETS["persons"], columns)


def likeness_table(video_id: str, likenesses: Likenesses, spaces: Mapping[str, str]) -> pa.Table:
    """Return the rows of `likenesses`, one for each kind of embedding for which the video has a space."""
    kinds = sorted(spaces)
    own = [likenesses[kind] for kind in kinds]
    columns: dict[str, Any] = {"video_id": [video_id] * len(kinds), "kind": kinds}
    columns |= {"space": [spaces[kind] for kind in kinds], "share": [one.share for one in own]}
    for side in ("same", "other"):
        spreads: list[DistanceStats] = [getattr(one, side) for one in own]
        columns |= {f"{side}_mean": [spread.mean for spread in spreads]}
        columns |= {f"{side}_std": [spread.std for spread in spreads]}
        columns |= {f"num_{side}": [spread.count for spread in spreads]}
    return make(rows.DATASETS["likenesses"], columns)


def read_likenesses(table: pa.Table) -> Likenesses:
    """Return the calibrated similarities that `likeness_table` wrote. Embeddings of a kind without a row are never
    compared."""
    found = {
        row["kind"]: Likeness(
            DistanceStats(row["same_mean"], row["same_std"], row["num_same"]),
            DistanceStats(row["other_mean"], row["other_std"], row["num_other"]),
            row["share"],
        )
        for row in table.to_pylist()
    }
    return {**WIDE, **found}


def _links(facts: Facts, links: Links) -> pa.Table:
    ends = np.sort(np.stack([links.a + 1, links.b + 1], axis=1), axis=1)
    order = np.lexsort((links.kind, ends[:, 1], ends[:, 0]))
    columns: dict[str, Any] = {"video_id": [facts.video_id] * len(order)}
    columns |= {"tracklet_a": ends[order, 0], "tracklet_b": ends[order, 1]}
    columns |= {"kind": links.kind[order], "joined": links.joined[order], "why": links.why[order]}
    for name in ("gap_s", "motion", "size", "body_similarity", "face_similarity", "score"):
        digits = 6 if name == "gap_s" else 3
        columns[name] = nullable(np.round(getattr(links, name)[order].astype(np.float64), digits))
    return make(rows.DATASETS["links"], columns)


def _judged(facts: Facts) -> NDArray[np.bool_]:
    return facts.faces["judged"].fill_null(False).to_numpy().astype(np.bool_)


def _tracklets_of_faces(facts: Facts) -> NDArray[np.int64]:
    """Return the (F,) tracklet_id of each face, 0 for none."""
    return facts.faces["tracklet_id"].fill_null(0).to_numpy().astype(np.int64)


# --- tables ----------------------------------------------------------------------------------------------------------


def make(schema: pa.Schema, columns: Mapping[str, Any]) -> pa.Table:
    """Return a table of `schema` from arrays and lists."""

    def column(field: pa.Field) -> pa.Array | pa.ChunkedArray:
        values = columns[field.name]
        if isinstance(values, (pa.Array, pa.ChunkedArray)):
            return values.cast(field.type)
        return pa.array(values, field.type)

    return pa.table([column(field) for field in schema], schema=schema)


def _with(dataset: str, facts: pa.Table, told: Mapping[str, Any]) -> pa.Table:
    """Return the rows of a dataset from its facts and its columns about persons."""
    return make(rows.DATASETS[dataset], {name: facts[name] for name in facts.column_names} | dict(told))


def reals(table: pa.Table, name: str) -> NDArray[np.float64]:
    """Return a column as float64, with nan for null."""
    return table[name].cast(pa.float64()).to_numpy()


def nullable(values: NDArray[np.float64]) -> pa.Array:
    return pa.array(values, mask=np.isnan(values))


def ids_or_null(values: NDArray[np.int64]) -> pa.Array:
    """Return a column of ids. Ids count from 1, and 0 becomes null."""
    return pa.array(values, mask=values == 0)
