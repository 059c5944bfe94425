"""Tables of an output as a report reads them, from a few words for each person."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from pipeline import rows
from pipeline.report.inputs import DATASETS, ReportOptions, ReportTables
from tests.small_outputs import video_row

Person = Mapping[str, Any]


def person(
    age: float | None = None, gender: str = "N", start_s: float = 0.0, *, faces: int = 2, width: float = 10.0
) -> Person:
    """Return a person with an interval of `width` years."""
    why_not = None if faces else "no face judged"
    return {
        "start_s": start_s,
        "end_s": start_s + 5.0,
        "num_faces": faces,
        "age": age,
        "age_low": None if age is None else age - width / 2,
        "age_high": None if age is None else age + width / 2,
        "gender": gender,
        "age_why_not": None if age is not None else why_not or "unsure",
        "gender_why_not": None if gender != "N" else why_not or "unsure",
    }


def table(dataset: str, records: Sequence[Mapping[str, Any]]) -> pa.Table:
    schema = rows.DATASETS[dataset]
    return pa.Table.from_pylist([dict.fromkeys(schema.names) | dict(record) for record in records], schema)


def given(
    videos: Mapping[str, Sequence[Person]],
    *,
    recorded_at: Mapping[str, datetime] | None = None,
    faces: Sequence[Mapping[str, Any]] = (),
    sequences: Sequence[Mapping[str, Any]] = (),
    sources: Sequence[Mapping[str, Any]] = (),
    run: Mapping[str, Any] | None = None,
) -> ReportTables:
    """Return the tables of an output.

    videos: the persons of each video, by name, which is also its id. recorded_at: times by video.
    """
    persons = [
        {"video_id": video_id, "person_id": number} | dict(one)
        for video_id, people in videos.items()
        for number, one in enumerate(people, start=1)
    ]
    spans = [{name: row[name] for name in ("video_id", "person_id", "start_s", "end_s")} for row in persons]
    tables = {
        "persons": table("persons", persons),
        "tracklets": table("tracklets", spans),
        "shots": table("shots", [{"video_id": video_id, "shot": 1, "start_s": 0.0} for video_id in videos]),
        "faces": table("faces", faces),
    }
    return ReportTables(
        sources=[dict.fromkeys(rows.DATASETS["sources"].names) | {"current": True} | dict(row) for row in sources],
        videos={
            video_id: video_row(
                video_id, duration_s=60.0, num_frames=1500, recorded_at=(recorded_at or {}).get(video_id)
            )
            for video_id in videos
        },
        names={video_id: [video_id] for video_id in videos},
        tables={name: tables[name].select(columns) for name, columns in DATASETS.items()},
        sequences=table("sequences", sequences),
        runs=table("runs", []),
        run=run or {},
        left_out={},
    )


def options(**values: Any) -> ReportOptions:
    return ReportOptions(**{"zone": UTC, "zone_name": "UTC", "min_group": 1} | values)
