"""`rollcall bench seeds`: this program against the way of the earlier systems that it grew from."""

from collections.abc import Callable
from enum import StrEnum
from functools import partial
from itertools import product
from pathlib import Path
from typing import Annotated

import typer

from jobs.benchmarks.agreement import agreement
from jobs.benchmarks.earlier_way import BATCHES_OF_ONE, EarlierModels, EarlierWay, Followed
from jobs.benchmarks.made_videos import repeat_video
from jobs.benchmarks.options import Clip, JsonFile, Length, Quick, Repeats
from jobs.benchmarks.report import Report, Row
from jobs.benchmarks.setting import Knobs, Setting, prepared
from jobs.benchmarks.side_by_side import (
    CPU_SECONDS,
    SECONDS,
    Measures,
    ratio_of,
    spreads_of,
    stopwatch,
    take_turns,
)
from jobs.benchmarks.warm_pipeline import PipelineRun, WarmPipeline
from jobs.cli.console import say
from jobs.cli.options import STARTER, ConfigFiles, Profile, Settings
from pipeline.flow.machine import this_machine

EARLIER, ALL_CORES, HERE, EVERY_FRAME = "one at a time", "one at a time, all cores", "process", "process, every frame"
QUICK_S = 0.4
FIRST_S = 0.2


class Restoration(StrEnum):
    """How faces are restored in the second half of the bench."""

    NONE = "none"
    AUTO = "auto"
    ALWAYS = "always"


def seeds(
    clip: Clip = None,
    seconds: Length = None,
    restoration: Annotated[
        Restoration, typer.Option(help="Also measure with restored faces: the restore.mode of `process`.")
    ] = Restoration.NONE,
    all_cores: Annotated[
        bool,
        typer.Option("--all-cores/--one-core", help="Also measure the earlier way with all cores for each network."),
    ] = True,
    repeats: Repeats = 3,
    quick: Quick = False,
    config: ConfigFiles = None,
    settings: Settings = None,
    profile: Profile = STARTER,
    json_file: JsonFile = None,
) -> None:
    """Process a clip, and go through it in the way of the earlier systems with the same models: one at a time.

    That way detects and tracks in every frame, decodes again, and in every 5th frame finds, restores, embeds and judges
    the face of every person. It has one core for each network, and then all of them, which takes very long where others
    use the machine. `process` is measured as it is,
    and with every frame analysed. Loading models does not count. The report says how well the estimates agree.
    """
    if quick:
        seconds, repeats = min(seconds or QUICK_S, QUICK_S), 1
    with prepared(clip, Knobs.of(config, settings, profile), seconds) as setting:
        modes = ["off", *([restoration.value] if restoration is not Restoration.NONE else [])]
        variants = {mode: setting.variant(mode, f"restore.mode={mode}") for mode in modes}  # verifies all models first
        first = repeat_video(setting.clip, setting.folder / "first.mp4", FIRST_S)
        chosen = {"clip": str(clip or "demo"), "video_seconds": setting.probe.duration_s, "repeats": repeats}
        report = Report("seeds", chosen, quick=quick)
        with report.published(json_file):
            for mode, variant in variants.items():
                say(f"restoration {mode}: loading models")
                _compare(variant, mode, first, repeats, report, all_cores=all_cores)


def _compare(setting: Setting, mode: str, first: Path, repeats: int, report: Report, *, all_cores: bool) -> None:
    """Add the figures of all ways with one restore.mode.

    first: a few frames for warming up. A restorer takes seconds for each face.
    """
    single = setting.variant("single", *BATCHES_OF_ONE)
    earlier = EarlierWay(single.config, EarlierModels.load(single.config, single.registry))
    here, every_frame = (
        WarmPipeline(chosen.config, chosen.registry, chosen.folder)
        for chosen in (setting.variant("here"), setting.variant("every-frame", "observe.fps=0"))
    )
    runs: dict[str, PipelineRun] = {}
    followed: list[Followed] = []

    def go_earlier(num_cores: int) -> Measures:
        from pipeline.models.loading import set_threads

        set_threads(num_cores)
        try:
            with stopwatch() as spent:
                followed.append(earlier(setting.clip, setting.probe, setting.folder / "earlier.csv"))
        finally:
            set_threads(single.config.compute.threads)
        return spent.measures()

    def go_here(name: str, pipeline: WarmPipeline) -> Callable[[], Measures]:
        def measure() -> Measures:
            runs[name] = pipeline(setting.clip)
            return runs[name].spent.measures()

        return measure

    for pipeline in (here, every_frame):
        pipeline.warm_up()
    earlier(first, setting.probe, setting.folder / "earlier.csv")
    num_threads = single.config.compute.threads
    befores = {EARLIER: partial(go_earlier, num_threads)}
    if all_cores:
        befores[ALL_CORES] = partial(go_earlier, max(num_threads, int(this_machine().cpus)))
    ways = {
        **befores,
        HERE: go_here(HERE, here),
        EVERY_FRAME: go_here(EVERY_FRAME, every_frame),
    }
    rounds = take_turns(ways, repeats, say)
    report.rows += [Row({"restoration": mode}, way, spreads_of(rounds, way)) for way in ways]
    for way in (HERE, EVERY_FRAME):
        for measure, before in product((SECONDS, CPU_SECONDS), befores):
            report.ratios[f"restoration {mode}, {measure}: {before} over {way}"] = ratio_of(
                rounds, measure, before, way
            )
        pipeline = here if way == HERE else every_frame
        report.facts[f"agreement of {way}, restoration {mode}"] = agreement(
            followed[-1], pipeline.store, runs[way].job.video_id
        )
