"""The comparison of two outputs, one video at a time."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from pipeline import rows
from pipeline.cores.matching import Matching, PersonBoxes, match_persons
from pipeline.errors import DataError
from pipeline.storage import tables
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.store import Store

VIDEOS_AT_ONCE = 16
READERS = 32
BLOCK_BYTES = 4 << 20
NOT_RESULTS = {"uri", "config_id"}
"""The columns of `videos` that do not describe the people in a video."""
BOX = ("bb_xmin", "bb_ymin", "bb_width", "bb_height")


@dataclass(frozen=True, slots=True)
class Estimates:
    """The estimates of a person who is in both outputs. An age or gender is None if there is none."""

    a: int
    b: int
    frames: int
    age_a: float | None
    age_b: float | None
    gender_a: str | None
    gender_b: str | None

    @property
    def age_change(self) -> float | None:
        """Years by which B's age is higher, or None if one of them is missing."""
        return None if self.age_a is None or self.age_b is None else self.age_b - self.age_a

    @property
    def is_equal(self) -> bool:
        """Whether id, age and gender are equal."""
        return (self.a, self.age_a, self.gender_a) == (self.b, self.age_b, self.gender_b)


@dataclass(frozen=True, slots=True)
class VideoDifference:
    """The difference of one video between the outputs A and B.

    same_bytes: whether all its tables are byte for byte equal.
    changed_columns: columns of `videos` that differ, other than NOT_RESULTS.
    num_rows: rows in A and B by dataset, of the datasets whose rows differ.
    num_persons: in A and B.
    matching: None if no table differs.
    estimates: of the matched persons.
    damage: why its tables cannot be compared, or None.
    """

    video_id: str
    uri: str
    same_bytes: bool
    changed_columns: tuple[str, ...]
    num_persons: tuple[int, int]
    num_rows: Mapping[str, tuple[int, int]]
    matching: Matching | None = None
    estimates: tuple[Estimates, ...] = ()
    damage: str | None = None

    @property
    def is_equal(self) -> bool:
        """Whether no row differs."""
        return not (self.changed_columns or self.num_rows or self.damage)


def compare_videos(a: OutputIndex, b: OutputIndex, video_ids: Sequence[str]) -> Iterator[VideoDifference]:
    """Yield the difference of each video that is done in both outputs, in order."""
    with ThreadPoolExecutor(READERS) as pool:
        for start in range(0, len(video_ids), VIDEOS_AT_ONCE):
            batch = video_ids[start : start + VIDEOS_AT_ONCE]
            names = [f"{dataset}/{video_id}.parquet" for video_id in batch for dataset in rows.VIDEO_TABLES]
            digests = iter(zip(pool.map(_digest_in(a.store), names), pool.map(_digest_in(b.store), names), strict=True))
            for video_id in batch:
                pairs = [next(digests) for _ in rows.VIDEO_TABLES]
                differing = [
                    name
                    for name, (digest, other) in zip(rows.VIDEO_TABLES, pairs, strict=True)
                    if digest != other or (digest is None and name not in rows.OPTIONAL_TABLES)
                ]
                yield _compare_video(a, b, video_id, differing)


def _digest_in(store: Store) -> Any:
    """Return a function that returns the digest of a file, or None if it is missing."""

    def digest(name: str) -> str | None:
        hashed = hashlib.sha256()
        try:
            with store.open(name) as file:
                while block := file.read(BLOCK_BYTES):
                    hashed.update(block)
        except FileNotFoundError:
            return None
        return hashed.hexdigest()

    return digest


def _compare_video(a: OutputIndex, b: OutputIndex, video_id: str, differing: Sequence[str]) -> VideoDifference:
    """Compare the datasets `differing` of a video, whose bytes are not equal."""
    row_a, row_b = a.videos[video_id], b.videos[video_id]
    changed = tuple(name for name in row_a if name not in NOT_RESULTS and row_a[name] != row_b[name])
    persons = (row_a["num_persons"] or 0, row_b["num_persons"] or 0)
    same_bytes = not differing
    try:
        with tables.damage_is_a_fault():
            num_rows = {
                name: _num_rows(a.store, b.store, f"{name}/{video_id}.parquet")
                for name in differing
                if not _has_equal_rows(a.store, b.store, f"{name}/{video_id}.parquet")
            }
            if not num_rows:
                return VideoDifference(video_id, row_a["uri"], same_bytes, changed, persons, {})
            matching = match_persons(_boxes(a.store, video_id), _boxes(b.store, video_id))
            estimates = _estimates(a.store, b.store, video_id, matching)
    except DataError as error:
        return VideoDifference(video_id, row_a["uri"], same_bytes, changed, persons, {}, damage=str(error))
    return VideoDifference(video_id, row_a["uri"], same_bytes, changed, persons, num_rows, matching, estimates)


def _has_equal_rows(a: Store, b: Store, name: str) -> bool:
    if not all(_has_file(store, name) for store in (a, b)):
        return _num_rows(a, b, name) == (0, 0)
    with tables.row_groups(a, name) as groups_a, tables.row_groups(b, name) as groups_b:
        return all(
            group is not None and other is not None and group.equals(other)
            for group, other in zip_longest(groups_a, groups_b)
        )


def _num_rows(a: Store, b: Store, name: str) -> tuple[int, int]:
    numbers = []
    for store in (a, b):
        if not _has_file(store, name):
            numbers.append(0)
            continue
        with store.open(name) as file:
            numbers.append(pq.ParquetFile(file).metadata.num_rows)
    return numbers[0], numbers[1]


def _has_file(store: Store, name: str) -> bool:
    """Return whether a file of an optional dataset exists. A missing file of another dataset is damage, and counts as
    there."""
    return name.partition("/")[0] not in rows.OPTIONAL_TABLES or store.exists(name)


def _boxes(store: Store, video_id: str) -> PersonBoxes:
    table = tables.read_one(store, "detections", video_id, ("frame_num", "person_id", *BOX))
    frames = table["frame_num"].to_numpy()
    order = np.argsort(frames, kind="stable")
    left, top, width, height = (table[name].to_numpy() for name in BOX)
    boxes = np.stack([left, top, left + width, top + height], axis=1)
    return PersonBoxes(frames[order], table["person_id"].to_numpy()[order], boxes[order])


def _estimates(a: Store, b: Store, video_id: str, matching: Matching) -> tuple[Estimates, ...]:
    columns = ("person_id", "age", "gender")
    persons = [
        {row["person_id"]: row for row in tables.read_one(store, "persons", video_id, columns).to_pylist()}
        for store in (a, b)
    ]
    blank = dict.fromkeys(columns)
    estimates = []
    for match in matching.matches:
        row_a, row_b = persons[0].get(match.a, blank), persons[1].get(match.b, blank)
        genders = (row["gender"] if row["gender"] != "N" else None for row in (row_a, row_b))
        estimates.append(Estimates(match.a, match.b, match.frames, row_a["age"], row_b["age"], *genders))
    return tuple(estimates)
