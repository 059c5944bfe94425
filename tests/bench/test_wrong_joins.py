"""The evidence that is chosen on all clips but one."""

from dataclasses import replace

from tests.bench.artificial_gaps import Case
from tests.bench.wrong_joins import EVIDENCE, chosen, left_out, wrong_share

RIGHT = Case("a", False, "cut", 1.0, True, 0, "alike", 0.0, 1.0, 0.0)
WRONG = replace(RIGHT, joined=False, num_wrong=1)
CLIPS = ("a", "b", "c")


def with_wrong(**lowest: float) -> dict[float, list[Case]]:
    """Return ten joins of each clip by evidence, of which one is wrong below the lowest evidence of the clip."""
    return {
        evidence: [
            replace(WRONG if number == 0 and evidence < lowest[clip] else RIGHT, video=clip)
            for clip in CLIPS
            for number in range(10)
        ]
        for evidence in EVIDENCE
    }


def test_the_evidence_is_the_least_that_the_other_clips_allow() -> None:
    results = with_wrong(a=5.0, b=2.0, c=1.0)
    assert chosen(results, "a", 0.05) == 2.0
    assert chosen(results, "b", 0.05) == 5.0
    assert chosen(results, "c", 0.2) == 2.0


def test_every_clip_is_reported_under_the_evidence_that_was_chosen_without_it() -> None:
    cases, evidence = left_out(with_wrong(a=5.0, b=2.0, c=1.0), 0.05)
    assert evidence == [2.0, 5.0, 5.0]
    assert [case.video for case in cases if case.num_wrong] == ["a"]
    assert round(wrong_share(cases), 4) == round(1 / 30, 4)
