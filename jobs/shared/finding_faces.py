"""The detector of faces that are to be covered, with its verified file."""

from collections.abc import Sequence

from jobs.shared.checks import decide_device
from pipeline.config import Config, load
from pipeline.errors import UserError
from pipeline.storage.blobs import fetch
from pipeline.video.anonymisation import FrameFaces
from pipeline.weights import Registry

SECTIONS = ("faces", "compute", "weights", "licences")


def load_config(settings: Sequence[str], profile: str, *more: str) -> Config:
    """Return the configuration of a command that only finds faces. more: further sections that may be set.

    Raises UserError.
    """
    sections = (*SECTIONS, *more)
    for setting in settings:
        if setting.partition(".")[0] not in sections:
            known = f"{', '.join(sections[:-1])} and {sections[-1]}"
            raise UserError(f"--set {setting}: only {known} act here; leave it out")
    return load((), settings, profile)


def face_finder(config: Config) -> FrameFaces:
    """Return the face detector that a configuration names, on a chosen device. Raises UserError."""
    config = decide_device(config)
    registry = Registry.of(config, fetch)
    registry.refuse_licences([config.faces.detector], config.licences.allow)
    registry.pull([config.faces.detector])
    return FrameFaces(config, registry)
