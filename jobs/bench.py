"""`rollcall bench`: measurements. Each compares two ways of doing the same work, side by side in one run."""

import json
import os
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from jobs.benchmarks import overhead, startup
from jobs.cli import console
from jobs.cli.errors import run_command
from jobs.cli.help import PLAIN
from jobs.cli.options import STARTER, ConfigFiles
from jobs.shared.checks import decide_device, verified_models
from jobs.shared.demo_clip import CLIP, make_clip
from pipeline.config import load
from pipeline.errors import absent

app = typer.Typer(**PLAIN)


class Benchmark(StrEnum):
    """The benchmarks that there are, as NAME of the command."""

    OVERHEAD = "overhead"
    STARTUP = "startup"


@app.command()
def bench(
    name: Annotated[Benchmark, typer.Argument(help="What to measure.", metavar="NAME", show_default=False)],
    clip: Annotated[
        Path | None, typer.Option(help="A video; without it, the clip of the demo.", metavar="FILE")
    ] = None,
    config: ConfigFiles = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="The figures, for programs.", metavar="FILE")] = None,
) -> None:
    """Measure. `overhead`: how much longer the pipeline takes through Ray than a plain loop over the same models.
    `startup`: the times of a small run under each engine, from its first line to its end, and the CPU that it takes."""
    if clip is not None and not clip.is_file():
        raise absent(clip, "clip")
    chosen = load(config or [], profile=STARTER)
    # The loop computes in two threads. A thread count that is set through torch holds only in the thread that sets it.
    os.environ["OMP_NUM_THREADS"] = str(chosen.compute.threads)
    registry = verified_models(chosen)
    chosen = decide_device(chosen)
    with tempfile.TemporaryDirectory(prefix="rollcall-bench-") as name_of_folder:
        folder = Path(name_of_folder)
        clip = clip or _own_clip(folder)
        if name is Benchmark.OVERHEAD:
            figures = overhead.measure(clip, chosen, registry, folder)
        else:
            options = [word for file in config or [] for word in ("--config", str(file))]
            figures = {"rows": startup.measure(clip, options, folder), "load_before": round(os.getloadavg()[0], 2)}
        figures = {"benchmark": name.value} | figures
    if json_file:
        json_file.write_text(json.dumps(figures, indent=2) + "\n")


def _own_clip(folder: Path) -> Path:
    console.say("no --clip: making the one of the demo; a minute or more of video tells more")
    path = folder / CLIP
    with path.open("wb") as file:
        make_clip(file)
    return path


if __name__ == "__main__":
    run_command(app)
