"""What a report is made from: the tables of an output, and the choices of a user."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Any

import pyarrow as pa

from pipeline.cores.groups import MIN_GROUP, NEAREST_ADIENCE, AgeGroup
from pipeline.report.fairness import FACES
from pipeline.report.people import PERSONS
from pipeline.text import printable

Row = Mapping[str, Any]
DATASETS: Mapping[str, Sequence[str]] = {
    "persons": PERSONS,
    "tracklets": ("video_id", "person_id", "start_s", "end_s"),
    "shots": ("video_id", "start_s"),
    "faces": FACES,
}
"""The datasets of videos that a report reads, with their columns."""


@dataclass(frozen=True, slots=True)
class ReportTables:
    """The tables of an output.

    sources: rows of `sources`.
    videos: rows of `videos`, by video_id.
    names: names of the files of each finished video, by video_id.
    tables: the datasets DATASETS of the finished videos.
    sequences, runs: the datasets.
    run: run.json, empty if there is none.
    left_out: reasons by video_id, of videos whose tables could not be read.
    pictures: data URIs of pictures by video_id and person_id, of persons that have one.
    """

    sources: Sequence[Row]
    videos: Mapping[str, Row]
    names: Mapping[str, Sequence[str]]
    tables: Mapping[str, pa.Table]
    sequences: pa.Table
    runs: pa.Table
    run: Row
    left_out: Mapping[str, str]
    pictures: Mapping[tuple[str, int], str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """The choices of a user.

    min_group: size of the smallest group of people that summaries show.
    age_groups: groups of the summaries.
    zone: time zone of days and hours. zone_name: its name.
    summary_only: whether everything that describes single persons is left out.
    """

    zone: tzinfo
    zone_name: str
    min_group: int = MIN_GROUP
    age_groups: Sequence[AgeGroup] = NEAREST_ADIENCE
    summary_only: bool = False


def name_of(given: ReportTables, video_id: str) -> str:
    """Return the name of a video's first file, or its id."""
    names = given.names.get(video_id) or (video_id,)
    return printable(names[0])


def is_picture(row: Row) -> bool:
    """Return whether a row of `videos` that is done describes a picture: it has no frame rate."""
    return row["fps"] is None and row["num_frames"] == 1
