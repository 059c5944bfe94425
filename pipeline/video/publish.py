"""Publish the tables of a video from the facts about its tracklets and the persons they belong to.

This module does not depend on the origin of the facts. `facts` gets them from durable chunks, `relink_scores` from
tables that are already published. Equal facts and equal persons make equal bytes.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import rows
from pipeline.columns import flags, ids_or_null, integers, make_table, reals, reals_or_null, vectors_or_nan
from pipeline.cores.age_dist import GROUPS
from pipeline.cores.crossings import CrossingParams
from pipeline.cores.link.pairs import Links
from pipeline.cores.number import number_persons
from pipeline.cores.vote import PersonParams, Vote, five_year_group, vote
from pipeline.storage import records, tables
from pipeline.storage.store import Store
from pipeline.storage.tombstones import Forgotten
from pipeline.video.bodies import VideoBodies
from pipeline.video.crossings import SightingCollector, write_crossings
from pipeline.video.facts import COPIED_TO_DETECTIONS, Facts
from pipeline.video.left_out import NOBODY, LeftOut, recognise


@dataclass(frozen=True, slots=True)
class People:
    """The persons of a video.

    person_ids: (T,) int64 by tracklet.
    links: between the tracklets with the indices a and b.
    votes: by person, person 1 first.
    left_out: the persons without rows.
    """

    person_ids: NDArray[np.int64]
    links: Links
    votes: list[Vote]
    left_out: LeftOut = NOBODY

    @property
    def num_persons(self) -> int:
        """The number of persons who have rows."""
        return len(self.votes) - len(self.left_out.persons)


def conclude(facts: Facts, links: Links, labels: NDArray[np.int64], params: PersonParams) -> People:
    """Number the persons, and estimate age and gender of each from its faces.

    labels: (T,) int64, equal for tracklets of one person.

    The tracklets that are left out of `facts` count as one person who has a number and no rows.
    """
    ids = facts.tracklet_ids
    absent = np.setdiff1d(np.arange(1, ids.max(initial=0) + 1), ids)
    numbers = number_persons(np.append(ids, absent), np.append(labels, np.full(len(absent), labels.max(initial=0) + 1)))
    person_ids = numbers[: len(ids)]
    left_out = LeftOut(frozenset(np.setdiff1d(np.arange(1, person_ids.max(initial=0) + 1), person_ids).tolist()))
    on = _tracklets_of_faces(facts)
    person_of_face = np.where(flags(facts.faces, "judged"), facts.by_tracklet(person_ids)[on], 0)
    names = ("age", "age_std", "female_prob", "quality", "age_lean")
    columns = [reals(facts.faces, name).astype(np.float32) for name in names]
    dists_of_faces, is_restored = vectors_or_nan(facts.faces, "age_dist", GROUPS), flags(facts.faces, "restored")
    bodies = VideoBodies.of_column(facts.tracklets["bodies"])
    person_of_body = person_ids[bodies.tracklets]
    params = params.with_analysed(facts.num_analysed)
    votes = []
    for person in range(1, int(person_ids.max(initial=0)) + 1):
        faces_of_person = np.flatnonzero(person_of_face == person)
        ages, stds, probs, qualities, leans = (values[faces_of_person] for values in columns)
        dists, restored = dists_of_faces[faces_of_person], is_restored[faces_of_person]
        from_faces = vote(ages, stds, probs, qualities, params, dists, leans, restored)
        votes.append(from_faces.or_bodies(bodies.values[person_of_body == person], params))
    return People(person_ids, links, votes, left_out)


def leave_out(facts: Facts, people: People, forgotten: Forgotten) -> People:
    """Return the same persons without rows for those who are forgotten."""
    if not forgotten:
        return people
    persons = recognise(forgotten, facts.tracklet_ids, people.person_ids, facts.detections())
    left_out = LeftOut.of(persons, facts.tracklet_ids, people.person_ids, facts.faces, facts.detections())
    return replace(people, left_out=left_out)


def publish(store: Store, facts: Facts, people: People, csv_names: Sequence[str], crossings: CrossingParams) -> None:
    """Write every table of the video except `embeddings`, which does not depend on persons, and `videos`, which is
    written last.

    An older publication of the video is not listed as done until its new row of `videos` is written.
    """

    def put(dataset: str, parts: Iterable[pa.Table]) -> None:
        left = (people.left_out.without(dataset, part) for part in parts)
        tables.write(store, f"{dataset}/{facts.video_id}.parquet", rows.DATASETS[dataset], left)

    records.hide_video(store, facts.video_id)
    put("shots", [facts.shots])
    sightings = SightingCollector(crossings)
    shown = (people.left_out.without("detections", part) for part in _detections(facts, people))
    put("detections", sightings.watch(shown))
    put("tracklets", [_with("tracklets", facts.tracklets, {"person_id": people.person_ids})])
    on = facts.by_tracklet(people.person_ids)[_tracklets_of_faces(facts)]
    put("faces", [_with("faces", facts.faces, {"person_id": ids_or_null(on)})])
    put("persons", [_persons(facts, people)])
    put("links", [_links(facts, people.links)])
    put("likenesses", [facts.likenesses])
    write_crossings(store, facts, sightings, crossings)
    for name in csv_names:
        tables.write_csv(store, facts.video_id, name)


def _detections(facts: Facts, people: People) -> Iterator[pa.Table]:
    """Yield the rows of `detections`, ordered by frame, then person."""
    ages = [five_year_group(vote.age) for vote in people.votes]
    by_person = {
        "age_min": np.array([0, *(age.age_min for age in ages)], np.int64),
        "age_max": np.array([0, *(age.age_max for age in ages)], np.int64),
        "age_actual": np.array([0, *(age.age_actual for age in ages)], np.int64),
        "gender": np.array(["", *(vote.gender for vote in people.votes)]),
    }
    dataset = rows.DATASETS["detections"]
    copied = {
        name: pa.array([None, *(getattr(vote, name) for vote in people.votes)], dataset.field(name).type)
        for name in COPIED_TO_DETECTIONS
    }
    person_of = facts.by_tracklet(people.person_ids)
    for window in facts.detections():
        person = person_of[integers(window, "tracklet_id")]
        order = np.lexsort((person, integers(window, "frame_num")))
        person = person[order]
        of_persons: dict[str, Any] = {"person_id": person} | {name: by[person] for name, by in by_person.items()}
        of_persons |= {name: by.take(pa.array(person)) for name, by in copied.items()}
        yield _with("detections", window.take(pa.array(order)), of_persons)


def _persons(facts: Facts, people: People) -> pa.Table:
    count = len(people.votes)
    index = people.person_ids - 1
    start_s, end_s = np.full(count, np.inf), np.zeros(count)
    np.minimum.at(start_s, index, reals(facts.tracklets, "start_s"))
    np.maximum.at(end_s, index, reals(facts.tracklets, "end_s"))

    def total(name: str) -> NDArray[np.int64]:
        return np.bincount(index, integers(facts.tracklets, name), minlength=count).astype(np.int64)

    columns: dict[str, Any] = {
        "video_id": [facts.video_id] * count,
        "person_id": np.arange(1, count + 1),
        "start_s": start_s,
        "end_s": end_s,
        "num_frames": total("num_frames"),
        "num_tracklets": np.bincount(index, minlength=count),
        "num_faces": total("num_faces"),
    }
    for name in (field.name for field in fields(Vote)):
        columns[name] = [getattr(vote, name) for vote in people.votes]
    return make_table(rows.DATASETS["persons"], columns)


def _links(facts: Facts, links: Links) -> pa.Table:
    ends = np.sort(facts.tracklet_ids[np.stack([links.a, links.b], axis=1)], axis=1)
    order = np.lexsort((links.kind, ends[:, 1], ends[:, 0]))
    columns: dict[str, Any] = {"video_id": [facts.video_id] * len(order)}
    columns |= {"tracklet_a": ends[order, 0], "tracklet_b": ends[order, 1]}
    columns |= {"kind": links.kind[order], "joined": links.joined[order], "why": links.why[order]}
    for name in ("gap_s", "motion", "size", "size_limit", "body_similarity", "face_similarity", "score"):
        digits = 6 if name == "gap_s" else 3
        columns[name] = reals_or_null(np.round(getattr(links, name)[order].astype(np.float64), digits))
    return make_table(rows.DATASETS["links"], columns)


def _tracklets_of_faces(facts: Facts) -> NDArray[np.int64]:
    """Return the (F,) tracklet_id of each face, 0 for none."""
    return integers(facts.faces, "tracklet_id", null=0)


def _with(dataset: str, facts: pa.Table, of_persons: Mapping[str, Any]) -> pa.Table:
    """Return the rows of a dataset from its facts and its columns about persons."""
    return make_table(rows.DATASETS[dataset], {name: facts[name] for name in facts.column_names} | dict(of_persons))
