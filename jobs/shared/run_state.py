"""The state of the last run of an output, as its events tell it."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from jobs.cli import console
from pipeline.storage import event_log
from pipeline.storage.claims import Claim
from pipeline.storage.event_log import Line
from pipeline.storage.store import Store

SILENT_S = 90.0
"""Seconds without a line after which a run is taken for dead. A run that lives says every 10 s how far it is."""
RATE_S = 300.0
"""Seconds over which the rate is measured."""
SHOWN_MESSAGE = 200
ENDS = ("interrupted", "failed", "done")

Status = Literal["running", "silent", "died", "done", "interrupted", "failed"]


@dataclass(frozen=True, slots=True)
class Fault:
    """Failures of one kind.

    event: name of the event.
    stage: the stage, or else the pool, or None.
    kind: of the failure.
    count: number of them.
    last_at: UTC time of the last one.
    message: of the last one.
    """

    event: str
    stage: str | None
    kind: str | None
    count: int
    last_at: str
    message: str | None


@dataclass(frozen=True, slots=True)
class RunState:
    """The last run of an output.

    run_id: the run.
    job: the id of `ray job submit`, or None.
    status: running, done, interrupted, failed; silent: no line for SILENT_S; died: its process has ended silently.
    began_at: UTC time, or None.
    seconds: from its beginning to its last line, or to now while it runs.
    silent_s: seconds since its last line.
    progress: the counts of its last event `run_progress`. Empty before the first one.
    frames_per_s: rate of the last minutes, or None.
    left_s: seconds until all frames are decoded at that rate, or None.
    faults: its failures by kind, the last one first. Of a long run only those since each process began its newest file.
    message: why it failed.
    """

    run_id: str
    job: str | None
    status: Status
    began_at: datetime | None
    seconds: float
    silent_s: float
    progress: dict[str, int]
    frames_per_s: float | None
    left_s: float | None
    faults: tuple[Fault, ...]
    message: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the state for programs."""
        rounded = {"seconds": round(self.seconds, 3), "silent_s": round(self.silent_s, 3)}
        began_at = self.began_at and self.began_at.isoformat()
        return asdict(self) | rounded | {"began_at": began_at}

    def __str__(self) -> str:
        facts = [_AS_TEXT[self.status].format(console.duration(self.seconds), console.duration(self.silent_s))]
        if self.message:
            facts[0] += f": {self.message.splitlines()[0][:SHOWN_MESSAGE]}"
        done = self.progress
        so_far, for_these = ("", "") if done.get("knows_all", True) else (" so far", " for these")
        if done.get("videos"):
            facts.append(f"{done['videos_done']:,} of {console.count(done['videos'], 'video')}{so_far}")
        if done.get("frames"):
            facts.append(f"{min(done['frames_done'], done['frames']):,} of about {done['frames']:,} frames")
        if self.frames_per_s:
            facts.append(f"{self.frames_per_s:.{0 if self.frames_per_s >= 10 else 1}f} frames/s")
        if self.left_s:
            facts.append(f"about {console.duration(self.left_s)} left{for_these}")
        return f"run {self.run_id}: {', '.join(facts)}"


_AS_TEXT: dict[Status, str] = {
    "running": "running for {}",
    "silent": "silent for {1} after {0}, so it has probably died (run the same command again)",
    "died": "died after {} (run the same command again: what is finished is kept)",
    "done": "done after {}",
    "interrupted": "interrupted after {} (run the same command again)",
    "failed": "failed after {}",
}


def read_state(store: Store, claim: Claim | None, now: datetime | None = None) -> RunState | None:
    """Return the state of the last run of an output, or None if it has no events.

    claim: the last claim to the output, ended or not.
    """
    run_id = event_log.last_run(store)
    if run_id is None:
        return None
    lines = event_log.read_lines(store, event_log.newest_files(store, run_id))
    return state_of(run_id, lines, claim, now or datetime.now(UTC))


def state_of(run_id: str, lines: Sequence[Line], claim: Claim | None, now: datetime) -> RunState:
    """Return the state of a run from its newest lines, in order of time."""
    ended = next((line for line in lines if line["event"] == "run_ended"), None)
    last_at = max((_time(line) for line in lines), default=now)
    silent_s = max(0.0, (now - last_at).total_seconds())
    began_at = event_log.began_at(run_id)
    status: Status = "running"
    if ended is not None:
        status = ended["kind"] if ended["kind"] in ENDS else "failed"
    elif claim is not None and (claim.run_id == run_id) == claim.is_free():  # nobody holds the output, or another run
        status = "died"
    elif silent_s > SILENT_S:
        status = "silent"
    until = now if status == "running" else last_at
    lines_of_progress = [line for line in lines if line["event"] == "run_progress"]
    rate = _rate(lines_of_progress) if status == "running" else None
    progress = _counts(lines_of_progress[-1]) if lines_of_progress else {}
    left = progress.get("frames", 0) - progress.get("frames_done", 0)
    return RunState(
        run_id=run_id,
        job=next((line["job"] for line in lines if line.get("job")), None),
        status=status,
        began_at=began_at,
        seconds=max(0.0, (until - began_at).total_seconds()) if began_at else 0.0,
        silent_s=silent_s,
        progress=progress,
        frames_per_s=rate and round(rate, 3),
        left_s=round(left / rate, 3) if rate and left > 0 else None,
        faults=tuple(_faults(lines)),
        message=ended["message"] if ended is not None else None,
    )


def _rate(lines: Sequence[Line]) -> float | None:
    """Return frames a second, from the last progress to the earliest one in RATE_S seconds before it."""
    if len(lines) < 2:
        return None
    recent = [line for line in lines if (_time(lines[-1]) - _time(line)).total_seconds() <= RATE_S]
    seconds = (_time(recent[-1]) - _time(recent[0])).total_seconds()
    frames = recent[-1].get("frames_done", 0) - recent[0].get("frames_done", 0)
    return frames / seconds if seconds > 0 and frames > 0 else None


def _counts(line: Line) -> dict[str, int]:
    return {name: value for name, value in line.items() if name not in event_log.FIELDS and isinstance(value, int)}


def _faults(lines: Sequence[Line]) -> Iterator[Fault]:
    groups: dict[tuple[str, str | None, str | None], list[Line]] = {}
    for line in lines:
        if line["level"] in ("warning", "error") and line["event"] != "run_ended":
            key = (line["event"], line["stage"] or line["pool"], line["kind"])
            groups.setdefault(key, []).append(line)
    for (event, stage, kind), group in sorted(groups.items(), key=lambda item: item[1][-1]["ts"], reverse=True):
        yield Fault(event, stage, kind, len(group), group[-1]["ts"], group[-1]["message"])


def _time(line: Line) -> datetime:
    return datetime.fromisoformat(line["ts"])
