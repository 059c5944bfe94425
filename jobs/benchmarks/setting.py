"""What every bench of the models prepares: the configuration, verified models, a clip, and a folder for outputs."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from jobs.benchmarks.made_videos import repeat_video
from jobs.cli import console
from jobs.shared.checks import decide_device, verified_models
from jobs.shared.demo_clip import CLIP, make_clip
from pipeline.config import Config, load
from pipeline.errors import DataError, UserError, absent
from pipeline.media.probe import Probe
from pipeline.media.probing import probe
from pipeline.storage.source_files import opener
from pipeline.weights import Registry


@dataclass(frozen=True, slots=True)
class Knobs:
    """A configuration as the command line names it.

    files: configuration files.
    settings: KEY=VALUE.
    profile: name of the profile.
    """

    files: Sequence[Path]
    settings: Sequence[str]
    profile: str

    @classmethod
    def of(cls, files: Sequence[Path] | None, settings: Sequence[str] | None, profile: str) -> "Knobs":
        """Return the knobs of the options --config, --set and --profile."""
        return cls(tuple(files or ()), tuple(settings or ()), profile)

    def with_settings(self, *more: str) -> "Knobs":
        """Return these knobs with further settings, which win."""
        return replace(self, settings=(*self.settings, *more))

    def config(self) -> Config:
        """Return the configuration. The device may still be `auto`."""
        return load(self.files, self.settings, self.profile)

    def words(self) -> list[str]:
        """Return the words of a command line that give the configuration to another command."""
        words = [word for file in self.files for word in ("--config", str(file))]
        return [*words, "--profile", self.profile, *(word for text in self.settings for word in ("--set", text))]


@dataclass(frozen=True, slots=True)
class Setting:
    """The inputs of a bench.

    clip: the video.
    probe: of the clip.
    knobs: of the configuration.
    config: with a decided device.
    registry: of verified models.
    folder: an empty folder for outputs. It is removed at the end.
    """

    clip: Path
    probe: Probe
    knobs: Knobs
    config: Config
    registry: Registry
    folder: Path

    def variant(self, name: str, *settings: str) -> "Setting":
        """Return the same with other settings and a folder `name` of its own."""
        knobs = self.knobs.with_settings(*settings)
        config = knobs.config()
        registry = verified_models(config)
        folder = self.folder / name
        folder.mkdir()
        return replace(self, knobs=knobs, config=decide_device(config), registry=registry, folder=folder)


@contextmanager
def prepared(clip: Path | None, knobs: Knobs, seconds: float | None = None) -> Iterator[Setting]:
    """Yield the inputs of a bench. Raises UserError if the clip is no video or a model is missing.

    seconds: s. The clip is cut or repeated to this length, if it is given.
    """
    if clip is not None:
        probe_video(clip, f"--clip {clip}")
    config = knobs.config()
    # Several threads compute. A thread count that is set through torch holds only in the thread that sets it.
    os.environ["OMP_NUM_THREADS"] = str(config.compute.threads)
    registry = verified_models(config)
    config = decide_device(config)
    with scratch_folder() as folder:
        chosen, name = clip or _own_clip(folder), f"--clip {clip}" if clip else "the clip of the demo"
        if seconds is not None:
            chosen = repeat_video(chosen, folder / f"cut{chosen.suffix}", seconds)
            name = f"{name}, of {seconds:g} s,"
        yield Setting(chosen, probe_video(chosen, name), knobs, config, registry, folder)


def probe_video(video: Path, name: str) -> Probe:
    """Return the probe of a video. Raises UserError if it is none. A picture is none: it has no seconds to measure.

    name: of the video, as the user knows it.
    """
    if not video.exists():
        raise absent(video, "video")
    try:
        if not video.is_file():
            raise DataError("not a file")
        probed = probe(opener(str(video.absolute())))
        if probed.kind != "video":
            raise DataError("a picture, not a video")
    except DataError as error:
        raise UserError(f"{name} cannot be measured: {error}; name another video") from error
    return probed


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
