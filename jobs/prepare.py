"""What several commands make sure of before they begin."""

from jobs import console
from pipeline.config import Config
from pipeline.stages import run
from pipeline.storage.blobs import fetch
from pipeline.weights import Registry


def verified_models(config: Config) -> Registry:
    """The registry, once every model of the configuration is on this machine, is what it should be, and may be used."""
    registry = Registry.of(config, fetch)
    models = registry.models_of(config)
    registry.refuse_licences(models.values(), config.licences.allow)
    registry.pull(models.values())
    return registry


def check_tracking(config: Config) -> None:
    """Before any work: what the tracker would refuse when all of it is done."""
    from pipeline.stages.track import check_tracking  # torch and boxmot: some seconds

    check_tracking(config)


def decide_device(config: Config) -> Config:
    """The configuration with `compute.device` cpu or cuda: a cluster is asked, this machine looked at."""
    if config.compute.device != "auto":
        return config
    if address := run.cluster_address(config):
        console.say(f"connecting to {address}")
        run.start_ray(config)
        return config.on_device("cuda" if run.count_gpus() else "cpu")
    from pipeline.models.loading import has_gpu  # torch: a few seconds

    return config.on_device("cuda" if has_gpu() else "cpu")
