"""Measure the linker on gaps that are made: recall and precision without a single label.

    python -m tests.bench.artificial_gaps OUTPUT [--cache DIR] [--set identity.KEY=VALUE …] [--repeats N] [--json FILE]
        [--only PLACEMENT …] [--folds NAME=VALUE,VALUE,…]

OUTPUT is an output that kept its working area (`rollcall process … --set biometrics.keep=true`). Tracklets of its
videos are cut in two: the boxes of a gap are removed, and the halves are linked among all other tracklets. The halves
are one person by construction. Two tracklets that share a frame are two people by construction, whichever part of
them is left. So of the joins of a half, those with its other half are right, and those with somebody who was seen
beside its person are wrong. Others are not counted.

A gap is placed in one of five ways: anywhere ("uniform"), around a time when another box covers the person
("occlusion"), around a time when the box touches the border of the picture ("border"), anywhere with boxes that lose
up to half of their height from below towards the gap ("legs"), as something in front of a person makes them, and
anywhere in the video played twice as fast ("fast"), in which people turn, grow and shrink more during a gap. In each
round a third of the tracklets that are long enough are cut at once, so halves meet other halves. As many others lose
one half for good: whoever is joined with what is left of them and was seen beside them is a wrong join too.

"cut" divides a whole video at one time, as an edit of one place does: every tracklet over it becomes two, in
different shots, a second apart. Only appearance links them. "jump" leaves out 1, 5 or 20 s, as a camera does that
records now and then: both shots show one place. "infrared" is a jump after which bodies cannot be compared.

--folds tries the values of a knob or constant, chooses one on all clips but one, and reports it on that one
(tests.bench.folds).
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.config import restored
from pipeline.cores.fill import Knots
from pipeline.cores.likeness import Likenesses
from pipeline.cores.link.calibration import calibrate
from pipeline.cores.link.linking import link
from pipeline.cores.link.params import IdentityParams
from pipeline.cores.link.tracklets import Tracklet
from pipeline.cores.place import Scenes
from tests.bench import folds
from tests.bench.footage import Archive, Footage, read_archive, summaries

GAPS_S = (0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 40.0)
POOLED_S = 5.0
"""Longest gap that counts in the pooled figures."""
PLACEMENTS = ("uniform", "occlusion", "border", "legs", "fast")
SIDE_S = 1.0
"""Least time that is left on either side of a gap."""
SIDE_BOXES = 4
COVERED = 0.3
"""Least share of a box that another box covers at an occlusion."""
BORDER_PX = 3.0
HIDING_S, HIDDEN = 0.6, 0.5
"""The time before and after a gap in which legs are hidden, and the largest hidden share of the height."""
SHARE = 3
"""One in so many tracklets is cut in a round."""
CUT_S, JUMPS_S = 1.0, (1.0, 5.0, 20.0)
OVER_CUTS = ("cut", "jump", "infrared")
LEAST_PRECISION = 0.98


@dataclass(frozen=True, slots=True)
class Case:
    """The outcome for one half pair.

    video: name of the clip.
    leaves: whether one half was removed, so that nothing can be joined rightly.
    placement: of PLACEMENTS or OVER_CUTS.
    gap_s: length of the gap.
    joined: whether the halves are one person in the end.
    num_wrong: number of the two halves that are one person with somebody who was seen beside them.
    why: the outcome of the pair of halves in `links`; "not measured" if it is no candidate.
    speed: body heights per second of the whole tracklet's centre, at the median.
    size: ratio of the median heights on either side of the gap, at least 1.
    crowd: median number of other people in its frames.
    """

    video: str
    leaves: bool
    placement: str
    gap_s: float
    joined: bool
    num_wrong: int
    why: str
    speed: float
    size: float
    crowd: float


class Cutter:
    """Cuts the tracklets of one video."""

    def __init__(self, footage: Footage) -> None:
        self.footage = footage
        knots = footage.knots
        self.times_s = footage.times_ns[knots.frames] / 1e9
        self.step_s = float(np.median(np.diff(footage.times_ns[footage.analysed]))) / 1e9
        self.count = len(footage.shot_of)
        self.borders: list[int] = np.searchsorted(knots.tracklets, np.arange(self.count + 1)).tolist()
        self.is_covered, self.touches = self._covered(), self._touches()
        self.together = self._together()
        heights = knots.boxes[:, 3] - knots.boxes[:, 1]
        centres = footage.steady.boxes(knots.frames, knots.boxes)
        centres = (centres[:, :2] + centres[:, 2:]) / 2
        crowd = np.bincount(knots.frames, minlength=len(footage.times_ns))[knots.frames] - 1
        self.heights = heights
        self.speeds = np.zeros(self.count)
        self.crowds = np.zeros(self.count)
        for index, (first, end) in enumerate(zip(self.borders[:-1], self.borders[1:], strict=True)):
            steps = np.linalg.norm(np.diff(centres[first:end], axis=0), axis=1) / np.diff(self.times_s[first:end])
            self.speeds[index] = np.median(steps / heights[first + 1 : end]) if end - first > 1 else 0
            self.crowds[index] = np.median(crowd[first:end])

    def _covered(self) -> NDArray[np.bool_]:
        """Return (K,) bool: whether a box that stands lower in the picture covers COVERED of the box."""
        knots = self.footage.knots
        covered = np.zeros(len(knots), np.bool_)
        order = np.argsort(knots.frames, kind="stable")
        for places in np.split(order, np.flatnonzero(np.diff(knots.frames[order])) + 1):
            boxes = knots.boxes[places].astype(np.float64)
            shared = _intersections(boxes)
            areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
            in_front = boxes[None, :, 3] > boxes[:, None, 3]
            np.fill_diagonal(shared, 0)
            covered[places] = ((shared / areas[:, None] >= COVERED) & in_front).any(axis=1)
        return covered

    def _touches(self) -> NDArray[np.bool_]:
        boxes, (width, height) = self.footage.knots.boxes, self.footage.size
        return (
            (boxes.min(axis=1) <= BORDER_PX) | (boxes[:, 2] >= width - BORDER_PX) | (boxes[:, 3] >= height - BORDER_PX)
        )

    def _together(self) -> NDArray[np.bool_]:
        """Return (T, T) bool: whether two tracklets share an analysed frame."""
        knots = self.footage.knots
        there = np.zeros((self.count, len(self.footage.times_ns)), np.bool_)
        there[knots.tracklets, knots.frames] = True
        return (there.astype(np.float32) @ there.T.astype(np.float32)) > 0

    def gaps(
        self, placement: str, gap_s: float, generator: np.random.Generator
    ) -> Iterator[tuple[int, float, NDArray[np.int64], NDArray[np.int64]]]:
        """Yield (tracklet, gap_s, places of the boxes before, after) of the tracklets that are cut in one round."""
        chosen = generator.permutation(self.count)
        left = 2 * -(-self.count // SHARE)
        for index in chosen.tolist():
            if not left:
                return
            places = np.arange(self.borders[index], self.borders[index + 1])
            times_s = self.times_s[places]
            low, high = times_s[0] + SIDE_S, times_s[-1] - SIDE_S - gap_s
            starts = self._starts(placement, places, gap_s)
            starts = starts[(starts >= low) & (starts <= high)]
            if not len(starts):
                continue
            start = float(generator.choice(starts))
            # The gap is at most gap_s long, so a limit of so many seconds includes it.
            before, after = places[times_s <= start], places[times_s > start + gap_s - self.step_s]
            if min(len(before), len(after)) >= SIDE_BOXES:
                left -= 1
                yield index, float(times_s[after[0] - places[0]] - times_s[before[-1] - places[0]]), before, after

    def _starts(self, placement: str, places: NDArray[np.int64], gap_s: float) -> NDArray[np.float64]:
        if placement not in ("occlusion", "border"):
            return self.times_s[places]
        events = self.is_covered if placement == "occlusion" else self.touches
        return self.times_s[places[events[places]]] - gap_s / 2


def _intersections(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    return np.prod(np.maximum(high - low, 0), axis=2)


def round_of(
    cutter: Cutter, placement: str, gap_s: float, params: IdentityParams, priors: Likenesses, seed: int
) -> list[Case]:
    """Cut the tracklets of a video once, link them, and return what became of every gap."""
    footage = cutter.footage
    generator = np.random.default_rng([seed, int(gap_s * 1000), PLACEMENTS.index(placement)])
    labels = footage.knots.tracklets.copy()
    cuts = list(cutter.gaps(placement, gap_s, generator))
    if placement == "legs":
        footage = replace(footage, knots=_without_legs(cutter, cuts, generator))
    original = list(range(cutter.count))
    for index, _, before, after in cuts:
        labels[cutter.borders[index] : cutter.borders[index + 1]] = -1
        labels[before], labels[after] = index, len(original)
        original.append(index)
    for turn, (_, _, before, after) in enumerate(cuts):
        if turn % 2:
            labels[after if generator.integers(2) else before] = -1
    shots = dict(enumerate(footage.shot_of[original].tolist()))
    shots = {label: shots[label] for label in np.unique(labels[labels >= 0]).tolist()}
    return _judge(cutter, footage, placement, labels, original, cuts, shots, params, priors)


def _without_legs(
    cutter: Cutter,
    cuts: Sequence[tuple[int, float, NDArray[np.int64], NDArray[np.int64]]],
    generator: np.random.Generator,
) -> Knots:
    """Return the boxes with their lower ends hidden on either side of the gaps."""
    knots = cutter.footage.knots
    boxes = knots.boxes.copy()
    for _, _, before, after in cuts:
        for side, edge_s in ((before, cutter.times_s[before[-1]]), (after, cutter.times_s[after[0]])):
            nearness = np.maximum(1 - np.abs(cutter.times_s[side] - edge_s) / HIDING_S, 0)
            hidden = nearness * generator.uniform(0, HIDDEN)
            boxes[side, 3] -= (hidden * (boxes[side, 3] - boxes[side, 1])).astype(np.float32)
    return replace(knots, boxes=boxes)


def cut_of(
    cutter: Cutter, params: IdentityParams, priors: Likenesses, seed: int, placement: str = "cut", gap_s: float = CUT_S
) -> list[Case]:
    """Divide a whole video by a cut, link it, and return what became of every tracklet over the cut."""
    footage = cutter.footage
    generator = np.random.default_rng([seed, 1])
    first_s, last_s = cutter.times_s.min(), cutter.times_s.max()
    if last_s - first_s < 2 * SIDE_S + gap_s:
        return []
    cut_s = float(generator.uniform(first_s + SIDE_S, last_s - SIDE_S - gap_s))
    labels = footage.knots.tracklets.copy()
    is_after = cutter.times_s >= cut_s + gap_s
    labels[(cutter.times_s > cut_s) & ~is_after] = -1
    original = list(range(cutter.count))
    shots = dict(enumerate(footage.shot_of.tolist()))
    later = int(footage.shot_of.max(initial=0)) + 1
    cuts = []
    for index in range(cutter.count):
        places = np.arange(cutter.borders[index], cutter.borders[index + 1])
        before, after = places[cutter.times_s[places] <= cut_s], places[is_after[places]]
        if not len(before):
            shots[index] = footage.shot_of[index] + later
            continue
        if not len(after):
            continue
        shots[len(original)] = footage.shot_of[index] + later
        labels[after] = len(original)
        original.append(index)
        if min(len(before), len(after)) >= SIDE_BOXES:
            cuts.append((index, gap_s, before, after))
    kept = {label: shots[label] for label in np.unique(labels[labels >= 0]).tolist()}
    if placement != "cut":
        # In the file the shots follow each other. The frames in between carry no box.
        times_ns, left_ns = footage.times_ns, round(gap_s * 1e9)
        times_ns = np.where(times_ns >= (cut_s + gap_s) * 1e9, times_ns - left_ns, np.minimum(times_ns, cut_s * 1e9))
        footage = replace(footage, times_ns=times_ns.astype(np.int64))
    footage = replace(footage, scenes=_divided(footage.scenes, placement))
    return _judge(cutter, footage, placement, labels, original, cuts, kept, params, priors)


def _divided(scenes: Scenes, placement: str) -> Scenes:
    """Return the scenes of a video whose shots are counted twice, before and after a cut."""
    places, zeros = scenes.places, np.zeros_like(scenes.places)
    later = places.max() + 1 if placement == "cut" else 0
    is_grey = np.repeat([False, placement == "infrared"], len(places))
    before_and_after = np.concatenate([zeros, zeros + (placement != "cut")])
    return Scenes(np.concatenate([places, places + later]), np.concatenate([zeros, zeros]), before_and_after, is_grey)


def _judge(
    cutter: Cutter,
    footage: Footage,
    placement: str,
    labels: NDArray[np.int64],
    original: Sequence[int],
    cuts: Sequence[tuple[int, float, NDArray[np.int64], NDArray[np.int64]]],
    shots: dict[int, int],
    params: IdentityParams,
    priors: Likenesses,
) -> list[Case]:
    names = np.unique(labels[labels >= 0]).tolist()
    position = {name: place for place, name in enumerate(names)}
    tracklets: list[Tracklet] = summaries(footage, labels, shots)
    links, persons = link(tracklets, params, calibrate(tracklets, priors), footage.scenes)
    why = {
        (min(a, b), max(a, b)): reason
        for a, b, reason in zip(links.a.tolist(), links.b.tolist(), links.why, strict=True)
    }
    of = np.array([original[name] for name in names])
    cases = []
    for index, gap_s, before, after in cuts:
        halves = [position[int(labels[side[0]])] for side in (before, after) if labels[side[0]] >= 0]
        wrong = 0
        for half in halves:
            others = (persons == persons[half]) & cutter.together[of, index] & (of != index)
            wrong += bool(others.any())
        heights = np.median(cutter.heights[before[-8:]]), np.median(cutter.heights[after[:8]])
        cases.append(
            Case(
                cutter.footage.name,
                len(halves) < 2,
                placement,
                gap_s,
                len(halves) == 2 and bool(persons[halves[0]] == persons[halves[1]]),
                wrong,
                str(why.get((min(halves), max(halves)), "not measured")),
                float(cutter.speeds[index]),
                float(max(heights) / min(heights)),
                float(cutter.crowds[index]),
            )
        )
    return cases


def main() -> None:
    """Print the tables, and write them as JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", nargs="+", choices=(*PLACEMENTS, *OVER_CUTS), default=(*PLACEMENTS, *OVER_CUTS))
    parser.add_argument("--folds", type=folds.values_of)
    arguments = parser.parse_args()
    archive = read_archive(arguments.output, arguments.cache)
    config = restored(archive.config.result_knobs(), str(arguments.output), arguments.settings)
    if arguments.folds:
        name, values = arguments.folds
        results = {
            value: all_cases(archive, params, arguments.repeats, arguments.only)
            for value, params in folds.tried(name, values, config.identity)
        }
        print(folds.table(name, results, LEAST_PRECISION))
        return
    cases = all_cases(archive, config.identity, arguments.repeats, arguments.only)
    report(cases)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(case) for case in cases]))


def all_cases(archive: Archive, params: IdentityParams, repeats: int, placements: Sequence[str]) -> list[Case]:
    """Return the outcome of all gaps and cuts of the videos of an archive."""
    cases: list[Case] = []
    for footage in archive.videos:
        cutter, fast = Cutter(footage), Cutter(replace(footage, times_ns=footage.times_ns // 2))
        for seed in range(repeats):
            for placement in placements:
                played = fast if placement == "fast" else cutter
                of_cuts = (CUT_S,) if placement == "cut" else JUMPS_S
                for gap_s in of_cuts if placement in OVER_CUTS else GAPS_S:
                    if placement in OVER_CUTS:
                        cases += cut_of(cutter, params, archive.priors, seed, placement, gap_s)
                    else:
                        cases += round_of(played, placement, gap_s, params, archive.priors, seed)
    return cases


def report(cases: Sequence[Case]) -> None:
    """Print the figures by video, placement, gap, speed, change of size and crowd, and why halves stayed apart."""
    gaps = [case for case in cases if case.placement in PLACEMENTS and case.gap_s <= POOLED_S + 0.5]
    cuts = [case for case in cases if case.placement == "cut"]
    groups: dict[str, list[Case]] = defaultdict(list)
    groups["pooled, gaps to 5 s"] = gaps
    groups["pooled, cuts"] = cuts
    for case in gaps:
        groups[f"video {case.video}"].append(case)
        groups[f"placement {case.placement}"].append(case)
        groups[f"speed {_bin(case.speed, (0.05, 0.2, 0.5))}"].append(case)
        groups[f"size {_bin(case.size, (1.05, 1.2, 1.5))}"].append(case)
        groups[f"crowd {_bin(case.crowd, (1, 4, 10))}"].append(case)
    for case in cases:
        if case.placement in OVER_CUTS[1:]:
            groups[f"{case.placement} {case.gap_s:g} s"].append(case)
        elif case.placement != "cut":
            groups[f"gap {min(GAPS_S, key=lambda gap_s: abs(gap_s - case.gap_s)):4g} s"].append(case)
    for case in cuts:
        groups[f"cut in {case.video}"].append(case)
    print(f"{'':32s} gaps  recall precision")
    for name in [*list(groups)[:2], *sorted(list(groups)[2:])]:
        recall, precision, halves = folds.rates(groups[name])
        print(f"{name:32s} {halves:4.0f}   {recall:.3f}  {precision:.3f}")
    reasons: dict[str, int] = defaultdict(int)
    for case in gaps:
        if not case.joined and not case.leaves:
            reasons[case.why] += 1
    print(
        "apart because:",
        ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items(), key=lambda i: -i[1])),
    )


def _bin(value: float, borders: Sequence[float]) -> str:
    place = int(np.searchsorted(borders, value, side="right"))
    return f"from {([0, *borders])[place]:g}"


if __name__ == "__main__":
    main()
