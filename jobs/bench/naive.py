"""`rollcall bench naive`: this program against the usual recipe of Ray Data."""

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Annotated

import typer

from jobs.benchmarks.made_videos import repeat_video
from jobs.benchmarks.options import Clip, JsonFile, Length, Quick, Repeats
from jobs.benchmarks.overhead import time_ray
from jobs.benchmarks.ray_recipe import RecipeRun, run_recipe, running_ray, watched_object_store
from jobs.benchmarks.report import Report, Row
from jobs.benchmarks.setting import Knobs, Setting, prepared
from jobs.benchmarks.side_by_side import CPU_SECONDS, SECONDS, Measures, ratio_of, spreads_of, take_turns
from jobs.benchmarks.warm_pipeline import WARM_UP, whole_video
from jobs.cli.console import say
from jobs.cli.options import STARTER, ConfigFiles, Profile, Settings
from pipeline.flow.pools import pools_from_pixels
from pipeline.planning import recipe
from pipeline.storage.ledger import Ledger
from pipeline.storage.store import Store
from pipeline.weights import local_path

HERE, USUAL = "process", "usual recipe"
PEAK_MB = "peak of the object store, MB"


def naive(
    clip: Clip = None,
    seconds: Length = None,
    videos: Annotated[int, typer.Option(min=1, help="Number of copies of the clip.")] = 2,
    repeats: Repeats = 3,
    quick: Quick = False,
    config: ConfigFiles = None,
    settings: Settings = None,
    profile: Profile = STARTER,
    json_file: JsonFile = None,
) -> None:
    """Process copies of a clip through Ray, and with the usual recipe of Ray Data over the same models: frames as rows,
    map_batches for each model, groupby over the videos, and tracking of each group.

    The recipe judges the face of every person in every analysed frame. Both analyse the same frames, with a worker for
    each pool. Starting Ray and loading models does not count. The report has times and the peak of Ray's object store.
    """
    if quick:
        seconds, videos, repeats = min(seconds or 0.4, 0.4), 1, 1
    with prepared(clip, Knobs.of(config, settings, profile), seconds) as setting:
        probed = setting.probe
        chosen = {"clip": str(clip or "demo"), "video_seconds": probed.duration_s, "videos": videos}
        report = Report("naive", chosen | {"repeats": repeats}, quick=quick)
        with report.published(json_file):
            copies = [
                repeat_video(setting.clip, setting.folder / f"{number}{setting.clip.suffix}", probed.duration_s, number)
                for number in range(videos)
            ]
            last: dict[str, RecipeRun] = {}
            ways = {HERE: _way_of_process(setting, copies), USUAL: _usual_way(setting, copies, float(probed.fps), last)}
            rounds = take_turns(ways, repeats, say)
            report.rows = [Row({}, way, spreads_of(rounds, way)) for way in ways]
            report.ratios = {
                f"{measure}: {USUAL} over {HERE}": ratio_of(rounds, measure, USUAL, HERE)
                for measure in (SECONDS, CPU_SECONDS, PEAK_MB)
            }
            report.facts = {"analysed frames": last[USUAL].num_frames, "IDs of the recipe": last[USUAL].num_persons}


def _way_of_process(setting: Setting, copies: list[Path]) -> Callable[[], Measures]:
    store, numbers = Store(str(setting.folder / "output")), count(1)

    def measure() -> Measures:
        ledger, number = Ledger(store, recipe.keys(setting.config, setting.registry)), next(numbers)
        warm_up, *work = (
            whole_video(str(file), setting.config, setting.registry, ledger, number=number)
            for file in (local_path(WARM_UP), *copies)
        )
        pools = pools_from_pixels(setting.config, setting.registry, ledger, "bench")
        go = setting.folder / f"go-{number}"
        go.mkdir()
        with watched_object_store() as used:
            timing = time_ray(warm_up, work, pools, setting.config, go)
        return timing.spent.measures() | {PEAK_MB: used.peak_bytes / 1e6}

    return measure


def _usual_way(setting: Setting, copies: list[Path], fps: float, last: dict[str, RecipeRun]) -> Callable[[], Measures]:
    numbers = count()

    def measure() -> Measures:
        folder = setting.folder / f"recipe-{next(numbers)}"
        folder.mkdir()
        with running_ray(setting.config), watched_object_store() as used:
            run = last[USUAL] = run_recipe(copies, fps, setting.config, setting.registry, folder)
        return run.spent.measures() | {PEAK_MB: used.peak_bytes / 1e6}

    return measure
