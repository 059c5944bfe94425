"""What every bench of the models prepares: the configuration, verified models, a clip, and a folder for outputs."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from jobs.benchmarks.report import warn_of_load
from jobs.cli import console
from jobs.shared.checks import decide_device, verified_models
from jobs.shared.demo_clip import CLIP, make_clip
from pipeline.config import Config, load
from pipeline.errors import absent
from pipeline.weights import Registry


@dataclass(frozen=True, slots=True)
class Setting:
    """The inputs of a bench.

    clip: the video.
    config: with a decided device.
    registry: of verified models.
    folder: an empty folder for outputs. It is removed at the end.
    """

    clip: Path
    config: Config
    registry: Registry
    folder: Path


@contextmanager
def prepared(
    clip: Path | None, files: Sequence[Path] | None, settings: Sequence[str] | None, profile: str
) -> Iterator[Setting]:
    """Yield the inputs of a bench. Raises UserError if the clip or a model is missing."""
    if clip is not None and not clip.is_file():
        raise absent(clip, "clip")
    config = load(files or [], settings or [], profile)
    # Several threads compute. A thread count that is set through torch holds only in the thread that sets it.
    os.environ["OMP_NUM_THREADS"] = str(config.compute.threads)
    registry = verified_models(config)
    config = decide_device(config)
    warn_of_load()
    with scratch_folder() as folder:
        yield Setting(clip or _own_clip(folder), config, registry, folder)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield an empty folder that lives as long as the block."""
    with tempfile.TemporaryDirectory(prefix="rollcall-bench-") as name:
        yield Path(name)


def _own_clip(folder: Path) -> Path:
    console.say("no --clip: making the one of the demo; a minute or more of video tells more")
    path = folder / CLIP
    with path.open("wb") as file:
        make_clip(file)
    return path
