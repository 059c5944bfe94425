"""The cost of the videos and stages of a run: seconds of work and of GPUs, and their price."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pipeline.config import Run
from pipeline.flow.events import ChunkDone
from pipeline.storage import records

OBSERVE = "observe"


class StageSeconds(defaultdict[str, list[float]]):
    """[s of work, s on GPUs] by stage, added up over all workers."""

    def __init__(self) -> None:
        super().__init__(lambda: [0.0, 0.0])

    def spend(self, stage: str, seconds: float, gpu_seconds: float) -> None:
        """Add work of a stage."""
        self[stage][0] += seconds
        self[stage][1] += gpu_seconds

    def costs(self, prices: Run) -> dict[str, dict[str, float | None]]:
        """Return the work and the cost of each stage, by its name."""
        return {
            stage: {"seconds": round(seconds, 3), "gpu_seconds": round(gpu_seconds, 3)}
            | {"cost": _price(seconds, gpu_seconds, prices)}
            for stage, (seconds, gpu_seconds) in sorted(self.items())
        }


@dataclass(slots=True)
class VideoCost:
    """The cost of one video in this run.

    started_at: UTC time at which its work began.
    reused: number of chunks that were durable already, or of which only the faces were estimated again.
    done: number of chunks that were observed in this run.
    attempts: the most attempts that any of its chunks needed.
    seconds: s of work, added up over all workers.
    gpu_seconds: s of work on GPUs, added up over all workers.
    stages: the same by stage.
    """

    started_at: datetime
    reused: int
    done: int = 0
    attempts: int = 0
    seconds: float = 0.0
    gpu_seconds: float = 0.0
    stages: StageSeconds = field(default_factory=StageSeconds)

    def count(self, chunk: ChunkDone) -> None:
        """Count a chunk that became durable."""
        if OBSERVE in chunk.timings:
            self.done += 1
        else:  # only its faces were estimated again
            self.reused += 1
        self.attempts = max(self.attempts, chunk.attempts)

    def spend(self, stage: str, seconds: float, gpu_seconds: float) -> None:
        """Add work of a stage."""
        self.seconds += seconds
        self.gpu_seconds += gpu_seconds
        self.stages.spend(stage, seconds, gpu_seconds)

    def run_row(self, run_id: str, video_id: str, prices: Run) -> dict[str, Any]:
        """Return the row of `runs` of the video."""
        return records.run_row(
            run_id,
            video_id,
            self.started_at,
            seconds=round(self.seconds, 3),
            gpu_seconds=round(self.gpu_seconds, 3),
            cost=_price(self.seconds, self.gpu_seconds, prices),
            attempts=max(self.attempts, 1),
            num_chunks=self.done + self.reused,
            chunks_reused=self.reused,
            stages=[{"stage": stage} | costs for stage, costs in self.stages.costs(prices).items()],
        )


def rounded(timings: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    """Return [s, s on GPUs] by stage, to the ms."""
    return {stage: [round(seconds, 3) for seconds in spent] for stage, spent in timings.items()}


def _price(seconds: float, gpu_seconds: float, prices: Run) -> float | None:
    """Return the cost of so many seconds of work, or None if no price is known."""
    if prices.cpu_hour_price is None and prices.gpu_hour_price is None:
        return None
    price = seconds * (prices.cpu_hour_price or 0) + gpu_seconds * (prices.gpu_hour_price or 0)
    return round(price / 3600, 6)
