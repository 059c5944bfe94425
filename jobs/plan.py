"""`rollcall plan`: the work that `process` would do, and why. Runs no model and writes nothing."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import typer
from rich.table import Table

from jobs.cli import console
from jobs.cli.errors import run_command
from jobs.cli.help import PLAIN
from jobs.cli.options import STARTER, ConfigFiles, Output, Profile, SequenceBy, Settings, Sources
from jobs.shared.checks import check_tracking, checked_models, decide_device, machine_of, place_of_output
from jobs.shared.sources import identify_aloud, list_aloud, probe_aloud
from pipeline.chunk.decoder import decoder_in_words
from pipeline.config import Config, load
from pipeline.flow.engine import SMALL_FRAMES, local_in_words, wants_ray
from pipeline.flow.pool_resources import in_words, resources_of
from pipeline.media.probe import Probe
from pipeline.planning import catalog, spans
from pipeline.planning.catalog import Content, Failure, VideoStatus
from pipeline.planning.planner import Planner, VideoPlan, WantedTables
from pipeline.storage import tables
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.records import Row
from pipeline.storage.sources import Listing
from pipeline.storage.store import Store
from pipeline.video import sequences

SHOWN = 50
USUAL_FPS = 25
"""Frames a second of a video, to tell small work if all frames are analysed."""

app = typer.Typer(**PLAIN)


@dataclass(frozen=True, slots=True)
class Line:
    """The planned work on one source.

    uri: the source.
    status: its state, as the first column shows it.
    why: the reason for the work.
    chunks: number of chunks to decode.
    durable: number of chunks that are reused.
    seconds: s. Length of the video.
    video_plan: the work that leads to its tables; None if there is nothing to do or the source fails.
    is_picture: the source is a single picture.
    """

    uri: str
    status: str
    why: str
    chunks: int = 0
    durable: int = 0
    seconds: float = 0.0
    video_plan: VideoPlan | None = None
    is_picture: bool = False

    @property
    def seconds_to_decode(self) -> float:
        """The seconds of the video that are still to be decoded."""
        return self.seconds * self.chunks / max(self.chunks + self.durable, 1)


@app.command()
def plan(
    sources: Sources,
    output: Output = None,
    config: ConfigFiles = None,
    settings: Settings = None,
    profile: Profile = STARTER,
    sequence: SequenceBy = None,
) -> None:
    """Show what `process` would do with the same arguments: per video what and why, chunks, hours, time and cost."""
    console.say("looking at the sources")
    chosen = load(config or [], settings or [], profile)
    store = Store(place_of_output(output, chosen))
    listing = list_aloud(sources, store.uri, sequence)
    registry, _ = checked_models(chosen)
    check_tracking(chosen)
    chosen = decide_device(chosen)
    index = OutputIndex.load(store)
    target = WantedTables.of(chosen, registry)

    ids = identify_aloud(listing, index)
    contents = catalog.contents(ids)
    lines = [
        Line(uri, "quarantined", f"{fault.stage}: {fault.reason}")
        for uri, fault in ids.items()
        if isinstance(fault, Failure)
    ]
    named = {content.video_id: content.uri for content in contents}
    for row in index.vanished(listing):
        if new := named.get(row["video_id"]):
            why = f"its content is {console.last(new)} now; the CSV of its old name goes"
        else:
            why = f"{row['named_by']} no longer names it; its rows stay until process --prune"
        lines.append(Line(row["uri"], "vanished", why))
    replaced = {uri for uri, video_id in ids.items() if _had_another(index, uri, video_id)}
    _foresee(index, listing, ids)
    lines += _lines(contents, index, target, replaced)
    _show(sorted(lines, key=lambda line: line.uri), listing.num_other)
    _show_sequences(listing, index)
    _show_steps(lines)
    _show_totals(lines, chosen, index, target.config_id)


def _had_another(index: OutputIndex, uri: str, video_id: str | Failure) -> bool:
    """Return whether a source had another content when it was last read."""
    return (index.sources.get(uri) or {}).get("video_id") not in (None, video_id)


def _foresee(index: OutputIndex, listing: Listing, ids: Mapping[str, str | Failure]) -> None:
    """Enter the sources into the index as `process` would, without writing anything."""
    index.name_sources(listing, may_write=False)
    for uri, video_id in ids.items():
        index.set_source(uri, video_id=None if isinstance(video_id, Failure) else video_id)


def _lines(contents: Sequence[Content], index: OutputIndex, target: WantedTables, replaced: set[str]) -> list[Line]:
    statuses = {content.video_id: catalog.video_status(content, index, target.config_id) for content in contents}
    undone = [content for content in contents if statuses[content.video_id] in (VideoStatus.NEW, VideoStatus.CHANGED)]
    plans = Planner(index).plans(undone, target)
    probes = probe_aloud([content for content in undone if plans[content.video_id].relink is None])
    lines = []
    for content in contents:
        status, row = statuses[content.video_id], index.videos.get(content.video_id, {})
        if status is VideoStatus.DONE:
            lines.append(Line(content.uri, "done", f"published with {console.count(row['num_persons'], 'person')}"))
        elif status is VideoStatus.FORGOTTEN:
            lines.append(Line(content.uri, "forgotten", "`forget` removed it; its tombstone keeps it out"))
        elif status is VideoStatus.QUARANTINED:
            failed = index.failed.get(content.video_id)
            why = f"{failed.stage}: {failed.reason}" if failed else f"{row['stage']}: {row['reason']}"
            stays = f"; its tables of configuration {row['config_id']} stay" if failed else ""
            lines.append(Line(content.uri, "quarantined", f"{why} (process --retry-quarantined tries again){stays}"))
        else:
            video_plan, probed = plans[content.video_id], probes.get(content.video_id)
            line = _undone(content, status, video_plan, probed, target.config, row)
            if replaced & set(content.uris):
                line = replace(line, status="changed", why=f"its content changed since it was last read; {line.why}")
            lines.append(line)
        lines += [Line(uri, "same content", f"as {content.uri}") for uri in content.uris[1:]]
    return lines


def _undone(
    content: Content,
    status: VideoStatus,
    video_plan: VideoPlan,
    probed: Probe | Failure | None,
    config: Config,
    row: Mapping[str, Any],
) -> Line:
    if isinstance(probed, Failure):
        return Line(content.uri, "quarantined", f"{probed.stage}: {probed.reason}")
    if probed is None:
        is_picture = console.is_picture(row)
        return Line(
            content.uri,
            status.value,
            str(video_plan),
            seconds=row["duration_s"],
            video_plan=video_plan,
            is_picture=is_picture,
        )
    kept = [*video_plan.durable, *(span for span, _ in video_plan.faces)]
    chunks = sum(len(span.borders) - len(span.durable) for span in spans.spans_to_decode(probed, config, kept))
    is_picture = probed.kind == "image"
    return Line(
        content.uri, status.value, str(video_plan), chunks, len(kept), probed.duration_s, video_plan, is_picture
    )


def _show(lines: Sequence[Line], num_other: int) -> None:
    table = Table("", "source", "length", "chunks", "why", box=None, pad_edge=False, header_style="bold")
    for line in lines[:SHOWN]:
        length = "picture" if line.is_picture else f"{line.seconds:.1f} s" if line.seconds else ""
        has_chunks = line.seconds or line.is_picture
        chunks = f"{line.chunks}" + (f" (+{line.durable} durable)" if line.durable else "") if has_chunks else ""
        table.add_row(line.status, console.last(line.uri), length, chunks, line.why)
    console.console.print(table)
    if len(lines) > SHOWN:
        console.say(f"… and {len(lines) - SHOWN} more")
    if num_other:
        console.say(f"{console.count(num_other, 'other file')} left out: neither video nor picture by name")


def _show_sequences(listing: Listing, index: OutputIndex) -> None:
    named = {source.sequence for source in listing.sources if source.sequence}
    if named:
        files = sum(status.files for status in sequences.sequence_statuses(index) if status.sequence in named)
        console.say(f"sequences: {len(named)}, of {console.count(files, 'file')}; they are linked when these are done")


def _show_steps(lines: Sequence[Line]) -> None:
    """Print the cost of each change by itself, over all videos that it concerns."""
    steps = Counter(str(step) for line in lines if line.video_plan is not None for step in line.video_plan.steps)
    for step, count in sorted(steps.items(), key=lambda item: (-item[1], item[0])):
        console.say(f"{step} ({console.count(count, 'video')})")


def _show_totals(lines: Sequence[Line], config: Config, index: OutputIndex, config_id: str) -> None:
    counts = Counter(line.status for line in lines)
    console.say(", ".join(f"{number} {status}" for status, number in sorted(counts.items())) or "nothing named")
    num_chunks, seconds = sum(line.chunks for line in lines), sum(line.seconds_to_decode for line in lines)
    steps = Counter((line.video_plan.basis, line.video_plan.step) for line in lines if line.video_plan is not None)
    for (_, step), number in sorted(steps.items()):
        console.say(f"{console.count(number, 'video')}: {step}")
    amounts = [console.count(num_chunks, "chunk") if num_chunks else "nothing to decode"]
    if seconds:
        amounts.append(f"{console.duration(seconds)} of video")
    if num_pictures := sum(line.is_picture and line.chunks > 0 for line in lines):
        amounts.append(console.count(num_pictures, "picture"))
    console.say(f"to do: {', '.join(amounts)}, on {config.compute.device}")
    if seconds:
        _show_estimate(seconds, config, index, config_id)


def _comparable(index: OutputIndex, config_id: str) -> tuple[list[Row], str]:
    """Return the rows of `runs` to judge by, and what they have in common: the videos that were last decoded with
    this configuration, or else all."""
    columns = ["video_id", "started_at", "seconds", "gpu_seconds", "num_chunks", "chunks_reused"]
    runs = {
        run["video_id"]: run
        for run in sorted(tables.read(index.store, "runs", columns).to_pylist(), key=lambda run: run["started_at"])
        if run["num_chunks"] > run["chunks_reused"] == 0  # a relink decodes no chunk
        and (index.videos.get(run["video_id"]) or {}).get("duration_s")
    }
    same = [run for run in runs.values() if index.videos[run["video_id"]]["config_id"] == config_id]
    return (same, "this configuration") if same else (list(runs.values()), "other configurations")


def _show_estimate(seconds: float, config: Config, index: OutputIndex, config_id: str) -> None:
    """Print the workers, and an estimate of the time and the cost of decoding `seconds` of video, from the speed of
    earlier runs."""
    machine = machine_of(config)
    pools = resources_of(config, machine)
    num_frames = seconds * (config.observe.fps or USUAL_FPS)
    is_on_ray = wants_ray(config, is_mapped=True, is_large=num_frames > SMALL_FRAMES)
    console.say(
        f"with Ray, {in_words(pools, machine)} (run.observe, run.enrich)" if is_on_ray else local_in_words(config)
    )
    if words := decoder_in_words(config):
        console.say(words)
    comparable, configuration = _comparable(index, config_id)
    seconds_of_video = sum(index.videos[run["video_id"]]["duration_s"] for run in comparable)
    if not seconds_of_video:
        console.say("time and cost: unknown, there is no finished video in this output to judge by")
        return
    work, gpu = (
        sum(run[name] for run in comparable) / seconds_of_video * seconds for name in ("seconds", "gpu_seconds")
    )
    workers = sum(pool.min_workers for pool in pools.values()) if is_on_ray else 1
    estimate = (
        f"estimate from {console.count(len(comparable), 'earlier video')} with {configuration}: "
        f"{console.duration(work)} of work, "
        f"about {console.duration(work / workers)} with {console.count(workers, 'worker')}"
    )
    prices = config.run
    if prices.cpu_hour_price is not None or prices.gpu_hour_price is not None:
        cost = (work * (prices.cpu_hour_price or 0) + gpu * (prices.gpu_hour_price or 0)) / 3600
        estimate += f", cost {cost:.2f}"
    console.say(estimate)


if __name__ == "__main__":
    run_command(app)
