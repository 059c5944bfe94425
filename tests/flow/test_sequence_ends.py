"""Sequences that cannot be linked, for now or at all, stop neither a run nor the other sequences."""

from typing import Any

import pytest

from pipeline.errors import DataError, MachineError, PassingError
from pipeline.flow import deferrals as deferrals_module
from pipeline.flow import sequence_ends
from pipeline.flow.deferrals import Deferrals
from pipeline.flow.sequence_ends import SequenceEnd, link_here, link_in_rounds
from pipeline.storage.store import Store
from pipeline.video.sequences import SequenceJob

NAMES = ("a", "b", "c")


@pytest.fixture
def jobs(tmp_path: Any) -> list[SequenceJob]:
    return [SequenceJob(name, (), Store(str(tmp_path))) for name in NAMES]


@pytest.fixture
def link(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Exception]]:
    """Return the failures of each sequence, the first one first. Afterwards it is linked."""
    failures: dict[str, list[Exception]] = {name: [] for name in NAMES}

    def link_sequence(job: SequenceJob) -> None:
        if failures[job.name]:
            raise failures[job.name].pop(0)

    monkeypatch.setattr(sequence_ends, "link_sequence", link_sequence)
    monkeypatch.setattr(deferrals_module, "POLL_S", 0)
    return failures


def ends(jobs: list[SequenceJob], waits_s: tuple[float, ...] = (0, 0)) -> list[SequenceEnd]:
    return sorted(link_in_rounds(jobs, link_here, Deferrals(waits_s)), key=lambda end: end.name)


def test_a_place_that_is_asleep_for_a_while_costs_a_sequence_only_time(
    jobs: list[SequenceJob], link: dict[str, list[Exception]]
) -> None:
    link["b"] = [PassingError("s3://bucket: SlowDown")] * 2
    assert ends(jobs) == [SequenceEnd(name) for name in NAMES]


def test_a_place_that_stays_asleep_leaves_its_sequence_to_the_next_run(
    jobs: list[SequenceJob], link: dict[str, list[Exception]]
) -> None:
    link["b"] = [PassingError("s3://bucket: SlowDown")] * 3
    a, b, c = ends(jobs)
    assert (a.why, b.why, c.why) == ("", "s3://bucket: SlowDown", "")
    assert (a.may_pass, b.may_pass) == (False, True)


def test_what_is_damaged_or_a_bug_leaves_only_its_sequence_unlinked(
    jobs: list[SequenceJob], link: dict[str, list[Exception]]
) -> None:
    link["a"], link["c"] = [DataError("it is damaged")], [ZeroDivisionError("nobody thought of this")]
    a, b, c = ends(jobs)
    assert (a.why, b.why) == ("it is damaged", "")
    assert c.why == "a bug: ZeroDivisionError: nobody thought of this; please report it"
    assert not any(end.may_pass for end in (a, b, c))


def test_what_the_machine_lacks_ends_the_run(jobs: list[SequenceJob], link: dict[str, list[Exception]]) -> None:
    link["b"] = [MachineError("the disk is full")]
    with pytest.raises(MachineError):
        ends(jobs)
