"""Measure whether `identity.wrong_joins` means what it says, on gaps and cuts that are made (artificial_gaps).

    python -m tests.bench.wrong_joins OUTPUT [--cache DIR] [--repeats N] [--cut-repeats N] [--shares SHARE …]
        [--set identity.KEY=VALUE …]

Pairs are measured once and joined with different least evidence, in nats. The first table has the recall and the share
of wrong joins by that evidence, and of all pairs that evidence next to it newly joins or parts, how many are right. The
second has the share for each accepted share: as the code has it, and if the least evidence is chosen on all clips but
one and used on that one (leave-one-out cross-validation). It is the least with which at most AIM of the accepted share
is wrong on the other clips.
"""

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np

from pipeline.config import restored
from pipeline.cores.link import params as calibrated
from pipeline.cores.link.joining import join
from pipeline.cores.link.pairs import measure
from pipeline.cores.link.params import IdentityParams
from pipeline.cores.link.tracklets import appearance_key
from tests.bench.artificial_gaps import GAPS_S, PLACEMENTS, POOLED_S, Case, Round, rounds
from tests.bench.folds import rates
from tests.bench.footage import read_archive

SHARES = (0.01, 0.05, 0.2)
AIM = 0.4
"""The wrong joins that are aimed at, as a share of the accepted ones. At least a third and at most all are wanted, and
at the default, .05, a precision of .98."""
EVIDENCE = (14.0, 12.0, 10.0, 9.0, 8.0, 7.0, 6.0, 5.0, 4.5, 4.0, 3.5, 3.0, 2.5, 2.0, 1.5, 1.0, 0.5, 0.0)
EVIDENCE += (-0.5, -1.0, -1.5, -2.0, -2.5, -3.0, -3.5, -4.0, -5.0, -6.0)
Linked = Callable[[IdentityParams], list[Case]]


def measured(made: Round, params: IdentityParams) -> Linked:
    """Return a function that joins the pairs of a round, which are measured once."""
    order = np.array(sorted(range(len(made.tracklets)), key=lambda index: appearance_key(made.tracklets[index])))
    ordered = [made.tracklets[index] for index in order]
    links = measure(ordered, params, made.scenes)
    shots = np.array([tracklet.shot for tracklet in ordered], np.int64)
    intervals = [tracklet.intervals for tracklet in ordered]

    def linked(params: IdentityParams) -> list[Case]:
        joined, labels = join(links, shots, intervals, params, made.likenesses)
        persons = np.empty_like(labels)
        persons[order] = labels
        return made.cases(replace(joined, a=order[joined.a], b=order[joined.b]), persons)

    return linked


def by_evidence(every: Sequence[Linked], params: IdentityParams) -> Mapping[float, list[Case]]:
    """Return the cases for each least evidence, over gaps and shots alike."""
    results = {}
    for least in EVIDENCE:
        with patch.multiple(calibrated, GAP_SURETY=least, SHOT_SURETY=least):
            usual = replace(params, wrong_joins=calibrated.USUAL_SHARE)
            results[least] = [case for linked in every for case in linked(usual)]
    return results


def wrong_share(cases: Iterable[Case]) -> float:
    """Return the share of wrong joins."""
    return 1 - rates(list(cases))[1]


def chosen(results: Mapping[float, Sequence[Case]], left_out: str, share: float) -> float:
    """Return the least evidence with which at most AIM of `share` is wrong on all other clips, at all higher ones
    too."""
    least = max(results)
    for evidence in sorted(results, reverse=True):
        if wrong_share(case for case in results[evidence] if case.video != left_out) > AIM * share:
            break
        least = evidence
    return least


def left_out(results: Mapping[float, Sequence[Case]], share: float) -> tuple[list[Case], list[float]]:
    """Return the cases of every clip under the evidence that is chosen without it, and the evidence."""
    clips = dict.fromkeys(case.video for case in results[EVIDENCE[0]])
    of_clip = {clip: chosen(results, clip, share) for clip in clips}
    return [case for clip in clips for case in results[of_clip[clip]] if case.video == clip], list(of_clip.values())


def main() -> None:
    """Print both tables for gaps and for cuts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cut-repeats", type=int, default=20)
    parser.add_argument("--shares", type=float, nargs="+", default=SHARES)
    arguments = parser.parse_args()
    archive = read_archive(arguments.output, arguments.cache)
    params = restored(archive.config.result_knobs(), str(arguments.output), arguments.settings).identity
    short_s = [gap_s for gap_s in GAPS_S if gap_s <= POOLED_S]
    kinds = {
        "gaps to 5 s": rounds(archive, arguments.repeats, PLACEMENTS, short_s),
        "cuts": rounds(archive, arguments.cut_repeats, ["cut"]),
    }
    for kind, made in kinds.items():
        every = [measured(one_round, params) for one_round in made]
        if not every:
            continue
        results = by_evidence(every, params)
        print(f"{kind}: evidence, recall, share of wrong joins; of those added, right and wrong")
        before = (0, 0)
        for evidence, cases in results.items():
            right, wrong = sum(case.joined for case in cases), sum(case.num_wrong for case in cases)
            added = f"{right - before[0]:5d} {wrong - before[1]:4d}"
            print(f"{evidence:6.1f}  {rates(cases)[0]:.3f}  {wrong_share(cases):.4f}  {added}", flush=True)
            before = right, wrong
        print("accepted share: recall, share of wrong joins; chosen without a clip, on that clip, and the evidence")
        for share in arguments.shares:
            now = [case for linked in every for case in linked(replace(params, wrong_joins=share))]
            others, evidence = left_out(results, share)
            print(
                f"{share:6.2f}  {rates(now)[0]:.3f}  {wrong_share(now):.4f}   {rates(others)[0]:.3f}  "
                f"{wrong_share(others):.4f}  {min(evidence):g} to {max(evidence):g}"
            )


if __name__ == "__main__":
    main()
