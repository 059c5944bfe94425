"""The roles of models in a configuration, and the configuration key that fills each."""

from dataclasses import dataclass

from pipeline.config import Config


@dataclass(frozen=True, slots=True)
class Role:
    """A role of a model in one configuration.

    knob: the configuration key that fills it.
    entry: name of the chosen registry entry. None if the role is switched off.
    """

    knob: str
    entry: str | None


def roles_of(config: Config) -> dict[str, Role]:
    """Return all roles by name. kinds.KINDS states which kinds can fill each."""
    restorer = None if config.restore.mode == "off" else config.restore.weights
    return {
        "detector": Role("observe.detector.weights", config.observe.detector.weights),
        "body": Role("observe.body.weights", config.observe.body.weights),
        "look": Role("candidates.look", config.candidates.look),
        "face_detector": Role("faces.detector", config.faces.detector),
        "restorer": Role("restore.weights", restorer),
        "estimator": Role("estimate.estimator", config.estimate.estimator),
        "face_embedding": Role("estimate.face_embedding", config.estimate.face_embedding),
    }
