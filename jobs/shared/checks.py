"""Checks that several commands make before they begin."""

from collections.abc import Iterator, Mapping
from types import ModuleType

from pipeline.config import Config, cluster_address
from pipeline.errors import UserError
from pipeline.flow.machine import Machine, this_machine
from pipeline.models.gpu import NO_CARD, card, has_gpu
from pipeline.models.tracker_options import compares_appearances
from pipeline.storage.blobs import fetch
from pipeline.weights import Registry
from pipeline.weights.roles import roles_of


def verified_models(config: Config) -> Registry:
    """Return the registry after checking every model of the configuration: it is here, verified, and its licence
    allowed.

    Missing models are fetched.
    """
    registry = Registry.of(config, fetch)
    models = registry.models_of(config)
    registry.refuse_licences(models.values(), config.licences.allow)
    registry.pull(models.values())
    return registry


def checked_models(config: Config) -> tuple[Registry, Mapping[str, str]]:
    """Return the registry, and the models of the configuration by role, after checking what can be checked without
    fetching anything.

    Raises UserError for a licence that is not allowed, for a file of this machine that is missing or has other bytes,
    and for a model of an ONNX file or a package that is here and cannot be loaded as its entry says.
    """
    registry = Registry.of(config, _fetch_nothing, may_pin=False)
    models = registry.models_of(config)
    registry.refuse_licences(models.values(), config.licences.allow)
    registry.check_local(models.values())
    for name, role in roles_of(config).items():
        if role.entry and registry.is_brought(role.entry) and all(map(registry.here, registry.leaves(role.entry))):
            from pipeline.models.loading import Loader  # torch takes seconds to import

            here = {"compute": config.compute.model_copy(update={"precision": "auto"})}
            Loader(config.model_copy(update=here).on_device("cpu"), registry).of_role(name)
    return registry, models


def _fetch_nothing(uri: str) -> Iterator[bytes]:
    raise OSError("this command fetches nothing")


def place_of_output(option: str | None, config: Config) -> str:
    """Return the output of --output, or else of run.output. Raises UserError if neither names one."""
    place = option or config.run.output
    if not place:
        raise UserError("there is no output; name it with --output URI, or as run.output in the configuration")
    return place


def check_tracking(config: Config) -> None:
    """Raise UserError for a tracker that does not know its options, or that would lack the appearances it compares.

    The reduce would fail only when all other work is done, so this check comes before any work.
    """
    track, body = config.track, config.observe.body
    if compares_appearances(track.tracker, track.options) and (body.weights is None or body.embed != "all"):
        raise UserError(
            f"track.tracker {track.tracker} compares appearances of all detections; set observe.body.weights and "
            f"observe.body.embed=all, or track.tracker=bytetrack with track.min_score=0.5"
        )
    if track.options:
        from pipeline.video.track import check_options  # BoxMOT takes some seconds to import and is seldom needed

        check_options(config)


def decide_device(config: Config) -> Config:
    """Return the configuration with `compute.device` set to cpu or cuda, and with what depends on it: `compute.card`
    and the batches that are `auto`. Asks the cluster if there is one, else checks this machine.

    Raises UserError for a device or a precision that is not to be had there.
    """
    device = config.compute.device
    if device == "cpu":
        return config.on_device("cpu")
    if cluster_address(config):
        cluster = _join_cluster(config)
        if not cluster.count_gpus():
            return config.on_device("cpu" if device == "auto" else device, NO_CARD)
        return config.on_device("cuda", cluster.card_of_a_worker())
    if not has_gpu():
        if device == "cuda":
            raise UserError(
                "compute.device=cuda needs a GPU, and torch can use none on this machine; use compute.device=auto, "
                "which is a GPU where there is one"
            )
        return config.on_device("cpu")
    return config.on_device("cuda", card())


def machine_of(config: Config) -> Machine:
    """Return the machine or the cluster on which `config` runs."""
    return _join_cluster(config).machine() if cluster_address(config) else this_machine()


def _join_cluster(config: Config) -> ModuleType:
    """Connect to the cluster that the configuration names, if this has not happened. Return pipeline.flow.cluster."""
    from jobs.cli import console
    from pipeline.flow import cluster  # Ray takes a few seconds to import

    if not cluster.is_there():
        console.say(f"connecting to {cluster_address(config)}")
        cluster.start_ray(config, console.say)
    return cluster
