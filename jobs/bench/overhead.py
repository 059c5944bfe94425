"""`rollcall bench overhead`: the price of the engines."""

from typing import Annotated

import typer

from jobs.benchmarks import overhead as loop_and_engines
from jobs.benchmarks import startup as timeline
from jobs.benchmarks.options import ChosenEngine, Clip, Engine, JsonFile, Repeats
from jobs.benchmarks.report import Report
from jobs.benchmarks.setting import Knobs, prepared
from jobs.cli.options import STARTER, ConfigFiles, Profile, Settings


def overhead(
    clip: Clip = None,
    engine: ChosenEngine = Engine.BOTH,
    repeats: Repeats = 1,
    no_startup: Annotated[bool, typer.Option("--no-startup", help="Leave out the start-up.")] = False,
    config: ConfigFiles = None,
    settings: Settings = None,
    profile: Profile = STARTER,
    json_file: JsonFile = None,
) -> None:
    """Measure how much longer the pipeline takes through Ray, and through one worker process, than a plain loop over
    the same models.

    Neither starting nor loading models counts, and the tables of all are compared byte by byte. Beside it stands the
    start-up, as in `bench startup`.
    """
    engines = {Engine.LOCAL: [loop_and_engines.LOCAL], Engine.RAY: [loop_and_engines.RAY]}
    with prepared(clip, Knobs.of(config, settings, profile)) as setting:
        length_s = round(setting.probe.duration_s, 3)
        report = Report("overhead", {"clip": str(clip or "demo"), "video_seconds": length_s, "repeats": repeats})
        with report.published(json_file):
            chosen = engines.get(engine, [loop_and_engines.LOCAL, loop_and_engines.RAY])
            report.rows, report.ratios = loop_and_engines.measure(setting, repeats, chosen)
            if not no_startup:
                report.rows += timeline.measure(setting, repeats, engine)
