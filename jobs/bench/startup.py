"""`rollcall bench startup`: how long a run takes until it works."""

from jobs.benchmarks import startup as timeline
from jobs.benchmarks.options import ChosenEngine, Clip, Engine, JsonFile, Repeats
from jobs.benchmarks.report import Report
from jobs.benchmarks.setting import Knobs, prepared
from jobs.cli.options import STARTER, ConfigFiles, Profile, Settings


def startup(
    clip: Clip = None,
    engine: ChosenEngine = Engine.BOTH,
    repeats: Repeats = 1,
    config: ConfigFiles = None,
    settings: Settings = None,
    profile: Profile = STARTER,
    json_file: JsonFile = None,
) -> None:
    """Measure a small run under the engines, from its command to its end: seconds and CPU seconds until each part.

    Beside them stand the imports of the command, of Ray and of a worker, each in a process of its own.
    """
    with prepared(clip, Knobs.of(config, settings, profile)) as setting:
        report = Report("startup", {"clip": str(clip or "demo"), "repeats": repeats})
        with report.published(json_file):
            report.rows += timeline.measure(setting, repeats, engine)
