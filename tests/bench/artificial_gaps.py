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
from itertools import product
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipeline.config import restored
from pipeline.cores.fill import Knots
from pipeline.cores.likeness import Likenesses
from pipeline.cores.link.calibration import calibrate
from pipeline.cores.link.linking import link
from pipeline.cores.link.pairs import Links
from pipeline.cores.link.params import IdentityParams
from pipeline.cores.link.tracklets import Tracklet
from pipeline.cores.place import Scenes
from tests.bench import folds
from tests.bench.cutter import SIDE_BOXES, SIDE_S, Cut, Cutter
from tests.bench.footage import Archive, Footage, read_archive, summaries

GAPS_S = (0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 40.0)
POOLED_S = 5.0
"""Longest gap that counts in the pooled figures."""
PLACEMENTS = ("uniform", "occlusion", "border", "legs", "fast")
HIDING_S, HIDDEN = 0.6, 0.5
"""The time before and after a gap in which legs are hidden, and the largest hidden share of the height."""
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


@dataclass(frozen=True, slots=True)
class Round:
    """The tracklets of a video of which some are cut, before they are linked.

    cutter: of the video.
    placement: of PLACEMENTS or OVER_CUTS.
    tracklets: N, in rising order of their labels.
    likenesses: calibrated on them.
    scenes: the shots that show one place.
    of: (N,) the tracklet of the video of which each one is a part.
    cuts: of Cutter.gaps, one for each tracklet that is cut.
    halves: for each cut the one or two tracklets that are left.
    """

    cutter: Cutter
    placement: str
    tracklets: Sequence[Tracklet]
    likenesses: Likenesses
    scenes: Scenes
    of: NDArray[np.int64]
    cuts: Sequence[Cut]
    halves: Sequence[Sequence[int]]

    @classmethod
    def made(
        cls,
        cutter: Cutter,
        footage: Footage,
        placement: str,
        labels: NDArray[np.int64],
        original: Sequence[int],
        cuts: Sequence[Cut],
        shots: Sequence[int],
        priors: Likenesses,
    ) -> Self:
        """Return the round in which the boxes of `footage` have these labels, of which each has a shot and belongs to
        an original tracklet."""
        names = np.unique(labels[labels >= 0]).tolist()
        position = {name: place for place, name in enumerate(names)}
        tracklets = summaries(footage, labels, {name: int(shots[name]) for name in names})
        halves = [
            [position[int(labels[side[0]])] for side in (before, after) if labels[side[0]] >= 0]
            for _, _, before, after in cuts
        ]
        of = np.array([original[name] for name in names])
        return cls(cutter, placement, tracklets, calibrate(tracklets, priors), footage.scenes, of, cuts, halves)

    def linked(self, params: IdentityParams) -> list[Case]:
        """Link the tracklets, and return what became of every cut."""
        return self.cases(*link(self.tracklets, params, self.likenesses, self.scenes))

    def cases(self, links: Links, persons: NDArray[np.int64]) -> list[Case]:
        """Return what became of every cut if the tracklets are linked like this."""
        why = {
            (min(a, b), max(a, b)): reason
            for a, b, reason in zip(links.a.tolist(), links.b.tolist(), links.why, strict=True)
        }
        heights = self.cutter.heights
        cases = []
        for (index, gap_s, before, after), halves in zip(self.cuts, self.halves, strict=True):
            beside = self.cutter.together[self.of, index] & (self.of != index)
            wrong = sum(bool(((persons == persons[half]) & beside).any()) for half in halves)
            sides = np.median(heights[before[-8:]]), np.median(heights[after[:8]])
            cases.append(
                Case(
                    video=self.cutter.footage.name,
                    leaves=len(halves) < 2,
                    placement=self.placement,
                    gap_s=gap_s,
                    joined=len(halves) == 2 and bool(persons[halves[0]] == persons[halves[1]]),
                    num_wrong=wrong,
                    why=str(why.get((min(halves), max(halves)), "not measured")),
                    speed=float(self.cutter.speeds[index]),
                    size=float(max(sides) / min(sides)),
                    crowd=float(self.cutter.crowds[index]),
                )
            )
        return cases


def round_of(cutter: Cutter, placement: str, gap_s: float, priors: Likenesses, seed: int) -> Round:
    """Cut the tracklets of a video once."""
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
    shots = footage.shot_of[original].tolist()
    return Round.made(cutter, footage, placement, labels, original, cuts, shots, priors)


def _without_legs(
    cutter: Cutter,
    cuts: Sequence[Cut],
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


def cut_of(cutter: Cutter, placement: str, gap_s: float, priors: Likenesses, seed: int) -> Round | None:
    """Divide a whole video by a cut. Return None if it is too short."""
    footage = cutter.footage
    generator = np.random.default_rng([seed, 1])
    first_s, last_s = cutter.times_s.min(), cutter.times_s.max()
    if last_s - first_s < 2 * SIDE_S + gap_s:
        return None
    cut_s = float(generator.uniform(first_s + SIDE_S, last_s - SIDE_S - gap_s))
    labels = footage.knots.tracklets.copy()
    is_after = cutter.times_s >= cut_s + gap_s
    labels[(cutter.times_s > cut_s) & ~is_after] = -1
    original = list(range(cutter.count))
    shots = footage.shot_of.tolist()
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
        labels[after] = len(original)
        shots.append(footage.shot_of[index] + later)
        original.append(index)
        if min(len(before), len(after)) >= SIDE_BOXES:
            cuts.append((index, gap_s, before, after))
    if placement != "cut":
        # In the file the shots follow each other. The frames in between carry no box.
        times_ns, left_ns = footage.times_ns, round(gap_s * 1e9)
        times_ns = np.where(times_ns >= (cut_s + gap_s) * 1e9, times_ns - left_ns, np.minimum(times_ns, cut_s * 1e9))
        footage = replace(footage, times_ns=times_ns.astype(np.int64))
    footage = replace(footage, scenes=_divided(footage.scenes, placement))
    return Round.made(cutter, footage, placement, labels, original, cuts, shots, priors)


def _divided(scenes: Scenes, placement: str) -> Scenes:
    """Return the scenes of a video whose shots are counted twice, before and after a cut."""
    places, zeros = scenes.places, np.zeros_like(scenes.places)
    later = places.max() + 1 if placement == "cut" else 0
    is_grey = np.repeat([False, placement == "infrared"], len(places))
    before_and_after = np.concatenate([zeros, zeros + (placement != "cut")])
    return Scenes(np.concatenate([places, places + later]), np.concatenate([zeros, zeros]), before_and_after, is_grey)


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
    return [case for made in rounds(archive, repeats, placements) for case in made.linked(params)]


def rounds(
    archive: Archive, repeats: int, placements: Sequence[str], gaps_s: Sequence[float] = GAPS_S
) -> Iterator[Round]:
    """Yield all rounds of the videos of an archive."""
    for footage in archive.videos:
        cutter, fast = Cutter(footage), Cutter(replace(footage, times_ns=footage.times_ns // 2))
        for seed, placement in product(range(repeats), placements):
            if placement in PLACEMENTS:
                played = fast if placement == "fast" else cutter
                yield from (round_of(played, placement, gap_s, archive.priors, seed) for gap_s in gaps_s)
                continue
            for gap_s in (CUT_S,) if placement == "cut" else JUMPS_S:
                if made := cut_of(cutter, placement, gap_s, archive.priors, seed):
                    yield made


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
