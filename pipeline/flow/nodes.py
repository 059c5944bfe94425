"""The machines of a cluster, as far as the blame for a death depends on them. This module does not use Ray."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

DEATHS_WITH_NODE = 4
"""Number of deaths together with the node that count as one attempt. They are not quite free, so that work which takes
its whole machine along is given up at last."""


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
    is_after_loss: whether the last one did.
    """

    num_deaths: int = 0
    num_lost: int = 0
    is_after_loss: bool = False

    @classmethod
    def after(cls, places: Sequence[str], nodes: Nodes) -> "Attempt":
        """Return the attempt after those on the nodes `places`, in their order."""
        gone = nodes.gone(set(places)) if places else set()
        num_lost = sum(place in gone for place in places)
        return cls(len(places) - num_lost, num_lost, bool(places) and places[-1] in gone)

    @property
    def number(self) -> int:
        """The number of this attempt, from 1."""
        return 1 + self.num_deaths + self.num_lost // DEATHS_WITH_NODE

    @property
    def deaths(self) -> str:
        """The deaths so far, for a person."""
        total = self.num_deaths + self.num_lost
        times = f"{total} time{'s' * (total != 1)}"
        return f"{times}, {self.num_lost} of them together with its node" if self.num_lost else times
