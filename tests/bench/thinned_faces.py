"""Measure how much the estimates of persons depend on the number of their judged faces.

    python -m tests.bench.thinned_faces OUTPUT [OUTPUT …] [--labels tests/evaluation/persons_of_clips.csv]

The judged faces of an output are thinned to those in every 2nd, 4th, 8th and 16th cell, as `restore.every_cells` thins
those that are restored. Each person is judged again from what is left, and from all faces where too few are left. The
table has, for persons with an age from all their faces:

- alone: share of them whose thinned faces suffice for an age
- faces: median number of thinned faces of these
- years: median, 90th percentile and largest difference of these ages from those of all faces
- genders: number of these whose gender changes: to the other one, and to none or from none
- right: labelled persons whose age is in the labelled range, and whose gender is right, of those who have one
"""

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.shared.labelled_videos import find_video, video_names
from pipeline.config import load
from pipeline.cores.vote import PersonParams, Vote, vote
from pipeline.corpora.labelled_persons import LabelledPerson, read_persons
from pipeline.evaluation.persons import Estimate, judge, match
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.tables import read_one

EVERY_CELLS = (1, 2, 4, 8, 16)
FACES = ("frame_num", "person_id", "judged", "age", "age_std", "female_prob", "quality")
BOXES = ("frame_num", "time_s", "person_id", "bb_xmin", "bb_ymin", "bb_width", "bb_height")


@dataclass(frozen=True, slots=True)
class Person:
    """The judged faces of a person.

    cells: (N,) int64.
    columns: ages, their errors, probabilities of female and qualities, (N,) each, as `vote` takes them.
    """

    cells: NDArray[np.int64]
    columns: tuple[NDArray[np.float32], ...]

    def judged(self, every_cells: int, params: PersonParams) -> tuple[Vote, int, bool]:
        """Return the vote of the faces in every so manieth cell, their number, and whether they suffice for it. If not,
        it is the vote of all faces."""
        keep = self.cells % every_cells == 0
        thinned = self.vote(keep, params)
        if thinned.age is not None:
            return thinned, int(keep.sum()), True
        return self.vote(np.ones(len(self.cells), np.bool_), params), len(self.cells), False

    def vote(self, keep: NDArray[np.bool_], params: PersonParams) -> Vote:
        """Return the vote of the faces in a mask."""
        ages, stds, probs, qualities = (column[keep] for column in self.columns)
        return vote(ages, stds, probs, qualities, params)


def persons_of(index: OutputIndex, video_id: str, times: Mapping[int, float]) -> Iterator[tuple[int, Person]]:
    """Yield the persons of a video who have a judged face."""
    table = read_one(index.store, "faces", video_id, FACES)
    frames, owners = table["frame_num"].to_numpy(), table["person_id"].to_numpy()
    judged = table["judged"].to_numpy()
    columns = [table[name].to_numpy().astype(np.float32) for name in FACES[3:]]
    for person in np.unique(owners[judged & np.isfinite(owners)]):
        mine = judged & (owners == person) & np.array([frame in times for frame in frames.tolist()])
        cells = np.array([int(times[frame]) for frame in frames[mine].tolist()], np.int64)
        yield int(person), Person(cells, tuple(column[mine] for column in columns))


def figures(outputs: list[str], labels: list[LabelledPerson], params: PersonParams) -> list[dict[str, Any]]:
    """Return a row for each number of cells."""
    people: list[tuple[Person, list[LabelledPerson]]] = []
    for place in outputs:
        index = OutputIndex.open(place)
        names = video_names(index)
        named = {label.video: find_video(names, label.video, place) for label in labels}
        for video_id, row in index.videos.items():
            if row["status"] != "done":
                continue
            table = read_one(index.store, "detections", video_id, BOXES)
            frames, times_s, owners = (table[name].to_numpy() for name in BOXES[:3])
            left, top, width, height = (table[name].to_numpy() for name in BOXES[3:])
            boxes = np.stack([left, top, left + width, top + height], axis=1).astype(np.float32)
            mine = [label for label in labels if named[label.video] == video_id]
            matches = match([label.boxes[0] for label in mine], times_s, boxes, owners)
            times = dict(zip(frames.tolist(), times_s.tolist(), strict=True))
            for number, person in persons_of(index, video_id, times):
                people.append((person, [label for label, who in zip(mine, matches, strict=True) if who == number]))
    whole = [(person, labelled, person.judged(1, params)[0]) for person, labelled in people]
    whole = [(person, labelled, before) for person, labelled, before in whole if before.age is not None]
    return [_row(whole, every_cells, params) for every_cells in EVERY_CELLS]


def _row(
    whole: list[tuple[Person, list[LabelledPerson], Vote]], every_cells: int, params: PersonParams
) -> dict[str, Any]:
    counts, years, flips, losses, verdicts = [], [], 0, 0, []
    for person, labelled, before in whole:
        after, num_faces, alone = person.judged(every_cells, params)
        if alone and after.age is not None and before.age is not None:
            counts.append(num_faces)
            years.append(abs(after.age - before.age))
            flips += {after.gender, before.gender} == {"M", "F"}
            losses += after.gender != before.gender and "N" in (after.gender, before.gender)
        estimates = {0: Estimate(0, True, after.age, after.gender)}
        verdicts += judge(labelled, [0] * sum(len(label.boxes) for label in labelled), estimates)
    ages, genders = ([getattr(verdict, name) for verdict in verdicts] for name in ("age", "gender"))
    return {
        "every_cells": every_cells,
        "persons": len(whole),
        "alone": len(counts),
        "faces": float(np.median(counts)),
        "years": [round(float(value), 2) for value in (np.median(years), np.percentile(years, 90), max(years))],
        "genders": [flips, losses],
        "age right": f"{ages.count('right')} of {ages.count('right') + ages.count('wrong')}",
        "gender right": f"{genders.count('right')} of {genders.count('right') + genders.count('wrong')}",
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("outputs", nargs="+")
    parser.add_argument("--labels", type=Path, default=Path("tests/evaluation/persons_of_clips.csv"))
    arguments = parser.parse_args()
    for row in figures(arguments.outputs, read_persons(arguments.labels), load().person):
        print(row)


if __name__ == "__main__":
    main()
