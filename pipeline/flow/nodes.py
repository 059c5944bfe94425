"""The machines of a cluster, as far as the blame for a death depends on them. This module does not use Ray."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from pipeline.storage.ledger import Mark

UNCLEAR_DEATHS = 4
"""Number of deaths together with the node, or beside other chunks, that count as one attempt. They are not quite free,
so that work which takes its whole machine along is given up at last."""


class Nodes(Protocol):
    """The nodes of a cluster, as one of its workers knows them."""

    def here(self) -> str:
        """Return the id of the node of this process."""
        ...

    def worker(self) -> str | None:
        """Return the id of this worker, which stays when it is started again after a death. None if it has none."""
        ...

    def gone(self, nodes: Collection[str]) -> set[str]:
        """Return those of `nodes` that have died or are about to be taken away."""
        ...


class OneMachine:
    """The only machine of a run, which is never taken away from its workers alone."""

    def here(self) -> str:
        return ""

    def worker(self) -> str | None:
        return None

    def gone(self, nodes: Collection[str]) -> set[str]:
        return set()


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt at a piece of work, after those whose workers died.

    num_deaths: number of earlier attempts that count against the work.
    num_lost: number of earlier attempts that died together with their node.
    num_beside: number of earlier attempts that died beside other work, any of which may be at fault.
    is_after_loss: whether the last attempt died together with its node.
    """

    num_deaths: int = 0
    num_lost: int = 0
    num_beside: int = 0
    is_after_loss: bool = False

    @classmethod
    def after(cls, marks: Sequence[Mark], nodes: Nodes) -> "Attempt":
        """Return the attempt after those with these marks, in their order."""
        gone = nodes.gone({mark.node for mark in marks}) if marks else set()
        num_lost = sum(mark.node in gone for mark in marks)
        num_beside = sum(mark.is_beside_others and mark.node not in gone for mark in marks)
        is_after_loss = bool(marks) and marks[-1].node in gone
        return cls(len(marks) - num_lost - num_beside, num_lost, num_beside, is_after_loss)

    @property
    def number(self) -> int:
        """The number of this attempt, from 1."""
        return 1 + self.num_deaths + (self.num_lost + self.num_beside) // UNCLEAR_DEATHS

    @property
    def deaths(self) -> str:
        """The deaths so far, for a person."""
        total = self.num_deaths + self.num_lost + self.num_beside
        unclear = {"together with its node": self.num_lost, "beside other chunks": self.num_beside}
        parts = [f"{count} of them {how}" for how, count in unclear.items() if count]
        return ", ".join([f"{total} time{'s' * (total != 1)}", *parts])
