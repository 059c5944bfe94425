"""A CSV of the estimates over time: a line per tracklet and minute, so that flicker and change can be seen.

The estimate of a minute comes from its judged faces, or from bodies that were judged alone if it has no usable face, by
the rule that joins all faces and bodies of a person.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.columns import flags, integers, reals
from pipeline.config import restored
from pipeline.cores.vote import PersonParams, vote
from pipeline.exports.clock import video_time
from pipeline.exports.people import FinishedVideo, People
from pipeline.exports.people_csv import BYTE_ORDER_MARK, csv_lines, plain_cell
from pipeline.storage import records, tables
from pipeline.storage.output_index import OutputIndex

MINUTE_S = 60
COLUMNS = (
    *("file", "video_id", "person_id", "tracklet_id", "from", "to", "num_faces", "num_bodies"),
    *("age", "age_low", "age_high", "lowest_age", "highest_age"),
    *("gender", "female_prob", "lowest_female_prob", "highest_female_prob", "estimated_from"),
)
VALUES = ("quality", "age", "age_std", "female_prob")
OF_FACES = (*VALUES, "age_lean")
FACES = ("frame_num", "tracklet_id", "judged", "restored", *OF_FACES)


def write_estimates_csv(index: OutputIndex, name: str, people: People) -> None:
    """Write a line for each tracklet and minute with a judged face or a body that was judged alone, of each finished
    video."""
    with index.store.writing(name) as file:
        file.write(csv_lines([COLUMNS], BYTE_ORDER_MARK))
        for video in people.videos():
            rows = people.sound(video, lambda video=video: list(_rows(index, video)))
            file.write(csv_lines(rows or []))


@dataclass(frozen=True, slots=True)
class _Judged:
    """N faces or bodies that were judged.

    tracklets, frames: (N,) int64.
    values: (N, V) float32, OF_FACES and 1 for a restored face, or VALUES.
    """

    tracklets: NDArray[np.int64]
    frames: NDArray[np.int64]
    values: NDArray[np.float32]


def _rows(index: OutputIndex, video: FinishedVideo) -> Iterator[tuple[object, ...]]:
    store, video_id = index.store, video.video_id
    params = _params(index, video_id)
    table = tables.read_one(store, "detections", video_id, ["frame_num", "time_s"])
    frames, first = np.unique(integers(table, "frame_num"), return_index=True)
    minutes = (reals(table, "time_s")[first] // MINUTE_S).astype(np.int64)
    tracklets = tables.read_one(store, "tracklets", video_id, ["tracklet_id", "person_id", "bodies"])
    person_of = dict(zip(*(integers(tracklets, name).tolist() for name in ("tracklet_id", "person_id")), strict=True))
    both = _faces(tables.read_one(store, "faces", video_id, FACES)), _bodies(tracklets)
    keys = [np.stack([minutes[np.searchsorted(frames, part.frames)], part.tracklets], axis=1) for part in both]
    for minute, tracklet in np.unique(np.concatenate(keys), axis=0).tolist():
        faces, bodies = (
            part.values[(key == (minute, tracklet)).all(axis=1)] for part, key in zip(both, keys, strict=True)
        )
        qualities, ages, stds, probs, leans, restored = faces.T
        from_faces = vote(ages, stds, probs, qualities, params, age_leans=leans, restored=restored > 0)
        estimate = from_faces.or_bodies(bodies, params)
        shown = bodies if estimate.estimated_from == "body" or not len(faces) else faces
        start_s = minute * MINUTE_S
        yield (
            *(plain_cell(video.name), video_id, person_of[tracklet], tracklet),
            *(video_time(start_s), video_time(start_s + MINUTE_S), len(faces), len(bodies)),
            *(estimate.age, estimate.age_low, estimate.age_high, *_range(shown[:, 1], 1)),
            *(estimate.gender, estimate.female_prob, *_range(shown[:, 3], 3), estimate.estimated_from),
        )


def _faces(faces: pa.Table) -> _Judged:
    tracklets = integers(faces, "tracklet_id", null=0)
    usable = flags(faces, "judged") & (tracklets > 0)
    values = np.stack([*(reals(faces, name) for name in OF_FACES), flags(faces, "restored")], axis=1).astype(np.float32)
    return _Judged(tracklets[usable], integers(faces, "frame_num")[usable], values[usable])


def _bodies(tracklets: pa.Table) -> _Judged:
    lists = tracklets["bodies"].combine_chunks()
    counts = lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    items = lists.flatten()
    values = np.stack([reals(items, name) for name in VALUES], axis=1).astype(np.float32)
    return _Judged(np.repeat(integers(tracklets, "tracklet_id"), counts), integers(items, "frame_num"), values)


def _params(index: OutputIndex, video_id: str) -> PersonParams:
    """Return the knobs `person` of the published tables, for which one judged face or body of a minute is enough."""
    config_id = index.videos[video_id]["config_id"]
    recipe = records.read_recipe(index.store, config_id) or {"knobs": {}}
    person = restored(recipe["knobs"], index.store.full(f"recipes/{config_id}.json")).person
    return replace(person, min_faces=1, min_weight=0.0, min_bodies=1)


def _range(values: NDArray[np.float32], digits: int) -> tuple[float | None, float | None]:
    """Return the lowest and the highest of some values."""
    known = values[np.isfinite(values)].astype(np.float64)
    return (round(float(known.min()), digits), round(float(known.max()), digits)) if len(known) else (None, None)
