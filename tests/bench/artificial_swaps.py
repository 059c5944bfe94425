"""Measure whether tracklets that change person are divided, on changes that are made: no label is needed.

    python -m tests.bench.artificial_swaps OUTPUT [--cache DIR]

OUTPUT is an output that kept its working area (`rollcall process … --set biometrics.keep=true`). Wherever two tracklets
of a video touch, their later parts change places, as when a tracker swaps two people who cross. Both have a SIDE_S on
either side, so each result should be divided at that time. A tracklet that is not changed should not be divided at all;
some do change person, so this share of wrong divisions is an upper limit. Relinking heals a wrong division if it
joins its parts again.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.boxes import overlap_of_smaller
from pipeline.cores.likeness import Likeness
from pipeline.cores.link.calibration import calibrate
from pipeline.cores.link.linking import link
from pipeline.cores.purity import CONTACT, AppearanceLog
from pipeline.video.track import touching_boxes
from tests.bench.cutter import Cutter
from tests.bench.footage import Archive, Footage, read_archive, summaries

SIDE_S = 1.5
"""Least time of both people before and after the time at which they change places."""
NEAR_S = 1.0
"""A division this far from the change at most is one at the change."""


def by_frame(footage: Footage) -> list[NDArray[np.int64]]:
    """Return the places of the boxes of each frame."""
    order = np.argsort(footage.knots.frames, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(footage.knots.frames[order])) + 1)


def contacts(footage: Footage) -> Iterator[tuple[int, int, int]]:
    """Yield (tracklet, other, frame) for each pair that touches, at the frame in which it overlaps most."""
    knots = footage.knots
    best: dict[tuple[int, int], tuple[float, int]] = {}
    for places in by_frame(footage):
        first, second = np.triu_indices(len(places), 1)
        boxes = knots.boxes[places].astype(np.float64)
        shared = overlap_of_smaller(boxes[first], boxes[second])
        for row in np.flatnonzero(shared >= CONTACT).tolist():
            a, b = sorted((int(knots.tracklets[places[first[row]]]), int(knots.tracklets[places[second[row]]])))
            best[a, b] = max(best.get((a, b), (0.0, 0)), (float(shared[row]), int(knots.frames[places[0]])))
    for (a, b), (_, frame) in sorted(best.items()):
        yield a, b, frame


def touched_boxes(footage: Footage) -> NDArray[np.bool_]:
    """Return (K,) bool: whether each box touches another one."""
    touched = np.zeros(len(footage.knots), np.bool_)
    for places in by_frame(footage):
        touched[places] = touching_boxes(footage.knots.boxes[places])
    return touched


def divisions_s(
    cutter: Cutter, places: NDArray[np.int64], touched: NDArray[np.bool_], likeness: Likeness
) -> list[float]:
    """Return the times at which a tracklet of these boxes is divided."""
    log = AppearanceLog()
    footage = cutter.footage
    for place, vector in zip(places.tolist(), footage.weighted(places), strict=True):
        if vector.any():
            frame = int(footage.knots.frames[place])
            log.add(frame, int(footage.times_ns[frame]), vector, touches=bool(touched[place]))
    return [footage.times_ns[part.start] / 1e9 for part in log.parts(likeness)[1:]]


def swaps(cutter: Cutter, touched: NDArray[np.bool_], likeness: Likeness) -> tuple[int, int]:
    """Return the number of changed tracklets, and how many of them are divided where they change."""
    count = divided = 0
    for a, b, frame in contacts(cutter.footage):
        at_s = cutter.footage.times_ns[frame] / 1e9
        of = [np.arange(cutter.borders[index], cutter.borders[index + 1]) for index in (a, b)]
        before = [places[cutter.times_s[places] <= at_s] for places in of]
        after = [places[cutter.times_s[places] > at_s] for places in of]
        if any(not len(side) or np.ptp(cutter.times_s[side]) < SIDE_S for side in (*before, *after)):
            continue
        for first, second in ((before[0], after[1]), (before[1], after[0])):
            count += 1
            times_s = divisions_s(cutter, np.concatenate([first, second]), touched, likeness)
            divided += any(abs(time_s - at_s) <= NEAR_S for time_s in times_s)
    return count, divided


def unchanged(cutter: Cutter, touched: NDArray[np.bool_], archive: Archive, likeness: Likeness) -> tuple[int, int, int]:
    """Return the number of tracklets, how many of them are divided, and how many of these are joined again."""
    labels, original = cutter.footage.knots.tracklets.copy(), list(range(cutter.count))
    parts: dict[int, list[int]] = defaultdict(list)
    for index in range(cutter.count):
        places = np.arange(cutter.borders[index], cutter.borders[index + 1])
        for time_s in divisions_s(cutter, places, touched, likeness):
            labels[places[cutter.times_s[places] >= time_s]] = len(original)
            parts[index] += [len(original)]
            original.append(index)
    shots = dict(enumerate(cutter.footage.shot_of[original].tolist()))
    tracklets = summaries(cutter.footage, labels, shots)
    _, persons = link(tracklets, archive.config.identity, calibrate(tracklets, archive.priors), cutter.footage.scenes)
    healed = sum(len({int(persons[part]) for part in [index, *later]}) == 1 for index, later in parts.items())
    return cutter.count, len(parts), healed


def main() -> None:
    """Print a table by video."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--cache", type=Path)
    arguments = parser.parse_args()
    archive = read_archive(arguments.output, arguments.cache)
    likeness = archive.priors["body"]
    print(f"{'':22s} changed  divided   unchanged  divided  healed")
    totals = np.zeros(5, np.int64)
    for footage in archive.videos:
        cutter = Cutter(footage)
        touched = touched_boxes(footage)
        row = np.array([*swaps(cutter, touched, likeness), *unchanged(cutter, touched, archive, likeness)])
        totals += row
        print(f"{footage.name:22s} {row[0]:7d} {row[1]:8d} {row[2]:11d} {row[3]:8d} {row[4]:7d}", flush=True)
    print(f"{'all':22s} {totals[0]:7d} {totals[1]:8d} {totals[2]:11d} {totals[3]:8d} {totals[4]:7d}")


if __name__ == "__main__":
    main()
