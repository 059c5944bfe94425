"""Measure what a second face of a person in a cell adds to the first.

    python -m tests.bench.faces_of_a_cell OUTPUT [OUTPUT …]

Persons with judged faces in at least 8 cells are judged again from some consecutive ones of every so manieth cell, with
all of their faces there, or with the best face of each cell. The table has, for both, the number of such windows, the
faces and their summed quality in the mean, and how far the age is from that of all faces: the median of the persons'
medians, the root of the mean of the persons' mean squares, and the 90th percentile of the windows, in years.
"""

import sys
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pipeline.config import load
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.tables import read_one
from tests.bench.thinned_faces import BOXES, Person, persons_of

LEAST_CELLS = 8
EVERY_CELLS = (1, 2, 8)
NUM_CELLS = (2, 4)


def persons(outputs: list[str]) -> Iterator[Person]:
    """Yield the persons of the outputs who have a judged face."""
    for place in outputs:
        index = OutputIndex.open(place)
        for video_id, row in index.videos.items():
            if row["status"] == "done":
                table = read_one(index.store, "detections", video_id, BOXES[:2])
                frames, times_s = (table[name].to_pylist() for name in BOXES[:2])
                yield from (
                    person for _, person in persons_of(index, video_id, dict(zip(frames, times_s, strict=True)))
                )


def best_of_cells(person: Person) -> NDArray[np.bool_]:
    """Return which faces are the best of their cell, (N,)."""
    qualities = person.columns[-1]
    best_first = np.argsort(-qualities, kind="stable")
    _, firsts = np.unique(person.cells[best_first], return_index=True)
    best = np.zeros(len(qualities), np.bool_)
    best[best_first[firsts]] = True
    return best


def windows(cells: NDArray[np.int64], every_cells: int, num_cells: int) -> Iterator[NDArray[np.int64]]:
    """Yield groups of `num_cells` of the (C,) rising cells, `every_cells` apart, from every start."""
    for phase in range(every_cells):
        chosen = cells[cells % every_cells == phase]
        yield from (chosen[start : start + num_cells] for start in range(0, len(chosen) - num_cells + 1, num_cells))


def main() -> None:
    """Print the table."""
    params = load().person
    errors: defaultdict[tuple[int, int, str], list[tuple[int, float, int, float]]] = defaultdict(list)
    for number, person in enumerate(persons(sys.argv[1:])):
        everything, cells = np.ones(len(person.cells), np.bool_), np.unique(person.cells)
        whole = person.vote(everything, params)
        if whole.age is None or len(cells) < LEAST_CELLS:
            continue
        for every_cells in EVERY_CELLS:
            for num_cells in NUM_CELLS:
                for window in windows(cells, every_cells, num_cells):
                    for name, faces in (("all", everything), ("best", best_of_cells(person))):
                        keep = faces & np.isin(person.cells, window)
                        if (age := person.vote(keep, params).age) is not None:
                            weight = float(person.columns[-1][keep].sum())
                            errors[every_cells, num_cells, name].append(
                                (number, abs(age - whole.age), int(keep.sum()), weight)
                            )
    for key, rows in sorted(errors.items()):
        people, years, faces, weights = (np.array(column) for column in zip(*rows, strict=True))
        by_person = [years[people == number] for number in np.unique(people)]
        print(
            f"every {key[0]} cells, {key[1]} of them, {key[2]}: {len(rows)} windows of {len(by_person)} persons, "
            f"{faces.mean():.1f} faces of {weights.mean():.1f}; years: {np.median([*map(np.median, by_person)]):.2f}, "
            f"{np.sqrt(np.mean([np.mean(each**2) for each in by_person])):.2f}, {np.percentile(years, 90):.2f}"
        )


if __name__ == "__main__":
    main()
