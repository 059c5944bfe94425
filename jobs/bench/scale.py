"""`rollcall bench scale`: how the cost grows with length, people, videos and workers."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Annotated

import typer

from jobs.benchmarks.made_videos import FPS, crowd, repeat_video, write_video
from jobs.benchmarks.options import Clip, JsonFile, Quick, Repeats
from jobs.benchmarks.overhead import time_ray
from jobs.benchmarks.report import Report, Row
from jobs.benchmarks.setting import Knobs, Setting, prepared
from jobs.benchmarks.side_by_side import CPU_SECONDS, SECONDS, Measures, Spread, spread_of, take_turns
from jobs.benchmarks.warm_pipeline import WARM_UP, WarmPipeline, whole_video
from jobs.cli.console import say
from jobs.cli.options import STARTER, ConfigFiles, Profile, Settings
from pipeline.errors import UserError
from pipeline.flow.pools import pools_from_pixels
from pipeline.planning import recipe
from pipeline.storage.ledger import Ledger
from pipeline.storage.store import Store
from pipeline.weights import local_path

SIZE = (1280, 720)
CROWD_S = 4
LEAST = {"--lengths": 0.1, "--people": 0, "--videos": 1, "--workers": 1}
VIDEO_SECONDS, PEOPLE = "seconds of video", "people per analysed frame"


def scale(
    clip: Clip = None,
    lengths: Annotated[str, typer.Option(help="Lengths in s, to which the clip is cut or repeated.")] = "15,60,180",
    people: Annotated[str, typer.Option(help="People in the frames of a made video of 4 s.")] = "0,5,20,50",
    videos: Annotated[str, typer.Option(help="Numbers of copies of the clip's first seconds, in one run.")] = "1,2,4",
    workers: Annotated[str, typer.Option(help="Workers of each pool on Ray. An empty list leaves it out.")] = "1,2",
    repeats: Repeats = 1,
    quick: Quick = False,
    config: ConfigFiles = None,
    settings: Settings = None,
    profile: Profile = STARTER,
    json_file: JsonFile = None,
) -> None:
    """Process videos of several lengths, with several numbers of people, several videos, and with several workers of
    each pool. Starting and loading models does not count.

    Flat means: the cost of a second of video does not grow with the length, nor with the number of videos. The cost of
    people is stated beside the number that the detector really finds. Workers help as far as there are cores.
    """
    sizes = {"--lengths": lengths, "--people": people, "--videos": videos, "--workers": workers}
    each = {name: _numbers(text, name, LEAST[name]) for name, text in sizes.items()}
    if quick:
        each = {"--lengths": [0.4, 0.8], "--people": [0, 2], "--videos": [1, 2], "--workers": []}
    with prepared(clip, Knobs.of(config, settings, profile)) as setting:
        report = Report("scale", {"clip": str(clip or "demo"), "repeats": repeats} | each, quick=quick)
        with report.published(json_file):
            by_length = {f"{n:g} s": [_cut(setting, n)] for n in each["--lengths"]}
            short = next(iter(each["--lengths"]), CROWD_S)
            copies = {
                f"{n:g} videos": [_cut(setting, short, number) for number in range(round(n))] for n in each["--videos"]
            }
            pipeline = WarmPipeline(setting.config, setting.registry, setting.folder / "output")
            say("loading models")
            pipeline.warm_up()
            _add(report, "length", {name: _here(pipeline, files) for name, files in by_length.items()}, repeats)
            crowds = {f"{n:g} people": [_crowd(setting, round(n), quick=quick)] for n in each["--people"]}
            _add(report, "people", {name: _here(pipeline, files) for name, files in crowds.items()}, repeats)
            _add(report, "videos", {name: _here(pipeline, files) for name, files in copies.items()}, repeats)
            ways = {f"{n:g} workers": _on_ray(setting, round(n), copies) for n in each["--workers"] if copies}
            _add(report, "workers", ways, repeats)


def _add(report: Report, what: str, ways: Mapping[str, Callable[[], Measures]], repeats: int) -> None:
    """Measure cases in turns. Add a row for each, and the ratio of its cost for a second of video to the first's."""
    if not ways:
        return
    rounds = take_turns(ways, repeats, say)
    costs = {}
    for name in ways:
        lengths = spread_of(rounds, name, VIDEO_SECONDS).values
        figures = {measure: spread_of(rounds, name, measure) for measure in rounds[0][name]}
        for measure in (SECONDS, CPU_SECONDS):
            per_second = Spread(tuple(v / s for v, s in zip(figures[measure].values, lengths, strict=True)))
            figures[f"{measure} per second of video"] = per_second
            costs[name, measure] = per_second
        report.rows.append(Row({"what": what}, name, figures))
    first, *others = ways
    for name in others:
        for measure in (SECONDS, CPU_SECONDS):
            pairs = zip(costs[name, measure].values, costs[first, measure].values, strict=True)
            ratio = Spread(tuple(one / other for one, other in pairs))
            report.ratios[f"{measure} per second of video: {name} over {first}"] = ratio


def _here(pipeline: WarmPipeline, files: Sequence[Path]) -> Callable[[], Measures]:
    """Return a way that processes videos one after the other, as the local engine does."""

    def measure() -> Measures:
        runs = [pipeline(file) for file in files]
        frames = sum(run.num_analysed for run in runs)
        return {
            SECONDS: sum(run.spent.seconds for run in runs),
            CPU_SECONDS: sum(run.spent.cpu_seconds for run in runs),
            VIDEO_SECONDS: sum(run.job.probe.duration_s for run in runs),
            PEOPLE: sum(run.num_detections for run in runs) / max(1, frames),
        }

    return measure


def _on_ray(setting: Setting, workers: int, copies: Mapping[str, Sequence[Path]]) -> Callable[[], Measures]:
    """Return a way that processes the largest number of copies on Ray, with `workers` in each pool."""
    pools = f"{{workers: {workers}, max_workers: {workers}, cpus: 0.5, gpus: auto}}"
    chosen = setting.variant(f"workers-{workers}", f"run.observe={pools}", f"run.enrich={pools}", "run.reduce_cpus=0.5")
    store, numbers = Store(str(chosen.folder / "output")), count(1)
    files = list(copies.values())[-1]

    def measure() -> Measures:
        ledger, number = Ledger(store, recipe.keys(chosen.config, chosen.registry)), next(numbers)
        warm_up, *work = (
            whole_video(str(file), chosen.config, chosen.registry, ledger, number=number)
            for file in (local_path(WARM_UP), *files)
        )
        go = chosen.folder / f"go-{number}"
        go.mkdir()
        map_pools = pools_from_pixels(chosen.config, chosen.registry, ledger, "bench")
        timing = time_ray(warm_up, work, map_pools, chosen.config, go)
        return timing.spent.measures() | {VIDEO_SECONDS: sum(item.job.probe.duration_s for item in work)}

    return measure


def _cut(setting: Setting, seconds: float, number: int = 0) -> Path:
    target = setting.folder / f"{seconds:g}-{number}{setting.clip.suffix}"
    return target if target.exists() else repeat_video(setting.clip, target, seconds, number)


def _crowd(setting: Setting, people: int, *, quick: bool) -> Path:
    target = setting.folder / f"crowd-{people}.mp4"
    width, height, seconds = (320, 180, 0.4) if quick else (*SIZE, CROWD_S)
    write_video(target, crowd(people, width, height, round(seconds * FPS)))
    return target


def _numbers(text: str, option: str, least: float) -> list[float]:
    with suppress(ValueError):
        numbers = [float(word) for word in text.split(",") if word.strip()]
        if all(least <= number < math.inf for number in numbers):
            return numbers
    raise UserError(f"{option} takes numbers from {least} on with commas between them, got {text!r}; for example 1,2,4")
