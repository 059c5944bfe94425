"""`rollcall bench limit`: how near `process` comes to what the models and the decoder allow."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

import typer

from jobs.benchmarks.decoders import observe_frames
from jobs.benchmarks.metered_models import MeteredModel, metered_models
from jobs.benchmarks.options import Clip, JsonFile, Length, Quick, Repeats
from jobs.benchmarks.report import Report, Row
from jobs.benchmarks.setting import Knobs, Setting, prepared
from jobs.benchmarks.side_by_side import (
    CPU_SECONDS,
    SECONDS,
    Measures,
    Spent,
    Spread,
    ratio_of,
    spreads_of,
    stopwatch,
    take_turns,
)
from jobs.benchmarks.warm_pipeline import PipelineRun, WarmPipeline
from jobs.cli.console import say
from jobs.cli.options import STARTER, ConfigFiles, Profile, Settings

HERE, DECODER, SUM, OVERLAPPED = "process", "decoder", "all parts, one after the other", "all parts at once"
STAGE_OF = {
    "person detector": "observe",
    "body embedder": "observe",
    "quick face check": "observe",
    "faces in whole frames": "observe",
    "face detector": "find_faces",
    "restorer": "restore_faces",
    "estimator": "estimate",
    "face embedder": "estimate",
}
QUICK_S = 0.4
READABLE = "compute.pixels=rgb"
"""The setting with which models get their inputs as arrays."""


def limit(
    clip: Clip = None,
    seconds: Length = None,
    share: Annotated[
        float, typer.Option(min=0.01, max=1, help="Share of the calls that are repeated; below 1 for long clips.")
    ] = 1,
    repeats: Repeats = 3,
    quick: Quick = False,
    config: ConfigFiles = None,
    settings: Settings = None,
    profile: Profile = STARTER,
    json_file: JsonFile = None,
) -> None:
    """Process a clip and count the calls of every model. Then repeat the decoding, and the calls of each model, alone.

    Together, one after the other, they are the CPU seconds that nothing can save without other models. All at once, a
    thread for each, they are the least time in which one worker could be done. The report has the shares of both that
    `process` reaches, and for each stage the time in which it works, is in its models, and waits. On a card too,
    pictures become RGB on the CPU, so that the models can be given their inputs again.
    """
    if quick:
        seconds, share, repeats = min(seconds or QUICK_S, QUICK_S), 1, 1
    with prepared(clip, Knobs.of(config, [READABLE, *(settings or [])], profile), seconds) as setting:
        chosen = {"clip": str(clip or "demo"), "video_seconds": setting.probe.duration_s, "share": share}
        report = Report("limit", chosen | {"repeats": repeats}, quick=quick)
        with report.published(json_file), metered_models() as meters:
            _measure(setting, meters, share, repeats, report)


def _measure(setting: Setting, meters: dict[str, MeteredModel], share: float, repeats: int, report: Report) -> None:
    pipeline = WarmPipeline(setting.config, setting.registry, setting.folder / "output")
    say("loading models")
    pipeline.warm_up()
    for meter in meters.values():
        meter.reset()
    say("counting calls")
    first = pipeline(setting.clip)
    for meter in meters.values():
        meter.is_counting = False
    used = {name: meter for name, meter in meters.items() if meter.num_calls}
    runs: list[PipelineRun] = [first]
    counted = {name: (meter.num_calls, meter.num_samples, meter.seconds) for name, meter in used.items()}
    parts: dict[str, Callable[[float], Spent]] = {DECODER: lambda share: _decode(setting, first.num_frames, share)}
    parts |= {name: meter.repeat for name, meter in used.items()}

    def process() -> Measures:
        runs.append(pipeline(setting.clip))
        return runs[-1].spent.measures()

    ways: dict[str, Callable[[], Measures]] = {HERE: process}
    ways |= {f"{name} alone": lambda part=part: part(share).measures() for name, part in parts.items()}
    ways[OVERLAPPED] = lambda: _at_once(parts, share)
    rounds = take_turns(ways, repeats, say)
    alone = [f"{name} alone" for name in parts]
    summed = [
        {**measured, SUM: {key: sum(measured[way][key] for way in alone) for key in (SECONDS, CPU_SECONDS)}}
        for measured in rounds
    ]
    for way in (*alone, SUM, OVERLAPPED, HERE):
        name = way.removesuffix(" alone")
        calls = dict(zip(("calls", "samples"), map(_once, counted.get(name, ())[:2]), strict=False))
        report.rows.append(Row({"what": "part"}, way, spreads_of(summed, way) | calls))
    report.rows += _stages(first, counted)
    report.ratios = {
        "share of the limit that process reaches (seconds, all parts at once over process)": ratio_of(
            summed, SECONDS, OVERLAPPED, HERE
        ),
        "share of the CPU of process that the parts need": ratio_of(summed, CPU_SECONDS, SUM, HERE),
        # Two threads on the two halves of a core take more CPU seconds for the same work
        "share of the CPU of process that the parts need at once": ratio_of(summed, CPU_SECONDS, OVERLAPPED, HERE),
    }
    report.facts = {"frames": first.num_frames, "people in analysed frames": first.num_detections}


def _stages(run: PipelineRun, counted: Mapping[str, tuple[int, int, float]]) -> list[Row]:
    """Return for each stage of a run the seconds in which it works, those inside its models, and those in which it
    waits while others work."""
    rows = []
    for stage, busy in run.stages.items():
        in_models = sum(seconds for name, (_, _, seconds) in counted.items() if STAGE_OF[name] == stage)
        figures = {"busy s": busy, "in models s": in_models, "waiting s": run.spent.seconds - busy}
        rows.append(Row({"what": "stage"}, stage, {name: _once(value) for name, value in figures.items()}))
    return rows


def _decode(setting: Setting, num_frames: int, share: float) -> Spent:
    """Decode the first part of the clip as the stage `observe` does, and return the time of the whole."""
    wanted = max(1, round(num_frames * share))
    count = 0
    with stopwatch() as spent:
        for count, _ in enumerate(observe_frames(str(setting.clip), setting.config), start=1):
            if count == wanted:
                break
    return Spent(spent.seconds * num_frames / count, spent.cpu_seconds * num_frames / count)


def _at_once(parts: Mapping[str, Callable[[float], Spent]], share: float) -> Measures:
    """Do `share` of all parts at once, a thread for each, and return the time of the whole."""
    with stopwatch() as spent, ThreadPoolExecutor(len(parts)) as pool:
        list(pool.map(lambda part: part(share), parts.values()))
    return {SECONDS: spent.seconds / share, CPU_SECONDS: spent.cpu_seconds / share}


def _once(value: float) -> Spread:
    return Spread((value,))
