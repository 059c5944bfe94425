"""A CSV of the estimates over time: a line per tracklet and minute, so that flicker and change can be seen.

The estimate of a minute comes from its judged faces alone, by the rule that joins all faces of a person.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
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
    *("file", "video_id", "person_id", "tracklet_id", "from", "to", "num_faces"),
    *("age", "age_low", "age_high", "lowest_age", "highest_age"),
    *("gender", "female_prob", "lowest_female_prob", "highest_female_prob"),
)
FACES = ("frame_num", "person_id", "tracklet_id", "judged", "quality", "age", "age_std", "female_prob")


def write_estimates_csv(index: OutputIndex, name: str, people: People) -> None:
    """Write a line for each tracklet and minute with a judged face, of each finished video."""
    with index.store.writing(name) as file:
        file.write(csv_lines([COLUMNS], BYTE_ORDER_MARK))
        for video in people.videos():
            rows = people.sound(video, lambda video=video: list(_rows(index, video)))
            file.write(csv_lines(rows or []))


def _rows(index: OutputIndex, video: FinishedVideo) -> Iterator[tuple[object, ...]]:
    store, video_id = index.store, video.video_id
    params = _params(index, video_id)
    frames = tables.read_one(store, "detections", video_id, ["frame_num", "time_s"])
    faces = tables.read_one(store, "faces", video_id, FACES)
    tracklets = integers(faces, "tracklet_id", null=0)
    usable = np.flatnonzero(flags(faces, "judged") & (tracklets > 0))
    numbers, first = np.unique(integers(frames, "frame_num"), return_index=True)
    places = np.searchsorted(numbers, integers(faces, "frame_num")[usable])
    minutes = (reals(frames, "time_s")[first][places] // MINUTE_S).astype(np.int64)
    persons = integers(faces, "person_id", null=0)
    values = [reals(faces, name).astype(np.float32) for name in ("age", "age_std", "female_prob", "quality")]
    for key in np.unique(np.stack([minutes, tracklets[usable]], axis=1), axis=0):
        chosen = usable[(minutes == key[0]) & (tracklets[usable] == key[1])]
        ages, stds, probs, qualities = (column[chosen] for column in values)
        estimate = vote(ages, stds, probs, qualities, params)
        start_s = int(key[0]) * MINUTE_S
        yield (
            *(plain_cell(video.name), video_id, int(persons[chosen[0]]), int(key[1])),
            *(video_time(start_s), video_time(start_s + MINUTE_S), len(chosen)),
            *(estimate.age, estimate.age_low, estimate.age_high, *_range(ages, 1)),
            *(estimate.gender, estimate.female_prob, *_range(probs, 3)),
        )


def _params(index: OutputIndex, video_id: str) -> PersonParams:
    """Return the knobs `person` of the published tables, for which one judged face of a minute is enough."""
    config_id = index.videos[video_id]["config_id"]
    recipe = records.read_recipe(index.store, config_id) or {"knobs": {}}
    person = restored(recipe["knobs"], index.store.full(f"recipes/{config_id}.json")).person
    return replace(person, min_faces=1, min_weight=0.0)


def _range(values: NDArray[np.float32], digits: int) -> tuple[float | None, float | None]:
    """Return the lowest and the highest of the faces' values."""
    known = values[np.isfinite(values)].astype(np.float64)
    return (round(float(known.min()), digits), round(float(known.max()), digits)) if len(known) else (None, None)
