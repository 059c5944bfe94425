"""What several commands make sure of before they begin."""

from pipeline.config import Config, cluster_address
from pipeline.errors import UserError
from pipeline.models.gpu import has_gpu
from pipeline.models.tracker_options import compares_appearances
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
    """Raises UserError where the tracker does not know its options, or would miss the appearances that it compares:
    before any work, and not when all of it is done."""
    track, body = config.track, config.observe.body
    if compares_appearances(track.tracker, track.options) and (body.weights is None or body.embed != "all"):
        raise UserError(
            f"track.tracker {track.tracker} compares appearances of all detections; set observe.body.weights and "
            f"observe.body.embed=all, or track.tracker=bytetrack with track.min_score=0.5"
        )
    if track.options:
        from pipeline.stages.track import check_options  # BoxMOT: some seconds, and seldom wanted

        check_options(config)


def decide_device(config: Config) -> Config:
    """The configuration with `compute.device` cpu or cuda: a cluster is asked, this machine looked at."""
    if config.compute.device != "auto":
        return config
    if address := cluster_address(config):
        from jobs import console
        from pipeline.stages import cluster  # Ray: a few seconds

        console.say(f"connecting to {address}")
        cluster.start_ray(config, console.say)
        return config.on_device("cuda" if cluster.count_gpus() else "cpu")
    return config.on_device("cuda" if has_gpu() else "cpu")
