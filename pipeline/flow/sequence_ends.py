"""The linking of sequences, as the engines carry it out: its ends, and its rounds."""

import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pipeline.errors import BUG, DataError, PassingError, described_bug, raise_of_all
from pipeline.flow import journal
from pipeline.flow.deferrals import Deferrals, in_rounds
from pipeline.flow.stage import WORKER_DIED
from pipeline.video.sequence_link import link_sequence
from pipeline.video.sequences import SequenceJob

STAGE = "sequence"


@dataclass(frozen=True, slots=True)
class SequenceEnd:
    """The end of the work on one sequence.

    name: of the sequence.
    why: the reason why it is not linked. Empty if it is.
    kind: of the failure, for the events.
    """

    name: str
    why: str = ""
    kind: str = DataError.__name__

    @property
    def may_pass(self) -> bool:
        """Whether the next run may link it, because its storage failed for the moment."""
        return self.kind == PassingError.__name__


LinkAll = Callable[[Sequence[SequenceJob]], Iterator[SequenceEnd]]


def finish_sequence(job: SequenceJob) -> SequenceEnd:
    """Link a sequence. Only an error of the user or the machine is raised, because it concerns all sequences."""
    with journal.working_on(stage=STAGE):
        try:
            link_sequence(job)
        except (DataError, PassingError) as fault:
            return SequenceEnd(job.name, str(fault), type(fault).__name__)
        except Exception as bug:
            raise_of_all(bug)
            trace = "".join(traceback.format_exception(bug))
            journal.note("sequence_failed", "error", kind=BUG, message=described_bug(bug), traceback=trace)
            return SequenceEnd(job.name, described_bug(bug), BUG)
    return SequenceEnd(job.name)


def link_here(jobs: Sequence[SequenceJob]) -> Iterator[SequenceEnd]:
    """Link one sequence after the other in this process, as LinkAll."""
    return map(finish_sequence, jobs)


def died(job: SequenceJob, deaths: str) -> SequenceEnd:
    """Return the end of a sequence whose workers die again and again."""
    return SequenceEnd(job.name, f"its worker died {deaths} (memory, or a crash)", WORKER_DIED)


def link_in_rounds(jobs: Sequence[SequenceJob], link_all: LinkAll, deferrals: Deferrals) -> Iterator[SequenceEnd]:
    """Link all sequences. Those whose storage fails for the moment are linked again in rounds, as videos are."""
    for batch in in_rounds({job.name: job for job in jobs}, deferrals):
        for end in link_all(batch):
            if end.may_pass and deferrals.fail(end.name, end.why):
                continue
            if not end.may_pass:
                deferrals.succeed()
            yield end
