"""The recipe of published tables: the knobs, weights and revisions on which their bytes depend, and its digests."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from pipeline.config import Config, digest
from pipeline.cores.likeness import WIDE, Likeness, Likenesses
from pipeline.storage.ledger import Keys
from pipeline.weights import Registry

REVISION = 11
"""Version of the results. It rises when the code changes the results of the same knobs and weights."""
REDUCE_REVISION = 12
"""Version of the reduce. It rises when the code changes the results of the reduce alone. The objects in the
working area stay valid then."""
SHAPED_BY = {
    "observed": ("chunk", "observe", "candidates", "compute"),
    "enriched": ("faces", "gate", "restore", "estimate", "biometrics"),
    "reduced": ("track", "cuts", "identity", "person", "crossings"),
}
"""The sections of the configuration that shape each durable object, in addition to those of the objects before it."""
OBSERVED_ROLES = ("detector", "body", "look")

RegistryLikenesses = Mapping[str, Mapping[str, Sequence[float]]]
"""weights.Entry.likeness by kind of embedding, where the registry has one."""


def keys(config: Config, registry: Registry) -> Keys:
    """Return the keys under which the durable objects of a configuration are stored. The sha256 of its models must
    be known."""
    shas = registry.digests(config)
    roles, sections = OBSERVED_ROLES, SHAPED_BY["observed"]
    if config.observe.whole_frame_faces:
        roles, sections = (*roles, "face_detector"), (*sections, "faces")
    used = {role: sha for role, sha in shas.items() if role.split(".")[0] in roles}
    observed = digest(REVISION, config.result_knobs(*sections), used)
    return Keys(observed, digest(observed, config.result_knobs(*SHAPED_BY["enriched"]), shas))


def config_id(config: Config, registry: Registry) -> str:
    """Return the id of everything besides its content that the tables of a video depend on."""
    return reduced_id(keys(config, registry), config, registry_likenesses(config, registry))


def reduced_id(keys: Keys, config: Config, likenesses: RegistryLikenesses) -> str:
    """Return the config_id of tables that are reduced from the durable objects under `keys`."""
    return digest(REDUCE_REVISION, keys.enriched, config.result_knobs(*SHAPED_BY["reduced"]), likenesses)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The meaning of a config_id, as stored in `recipes/`. It depends neither on the time nor on the place of a run.

    knobs: by dotted name, those that can change a row.
    keys: of the durable objects.
    spaces: by kind of embedding, the embedding space.
    likenesses: by kind of embedding, the numbers of the registry for calibrated similarity, where it has some.
    models: by role, their name, sha256 and licence.
    reduce_revision: REDUCE_REVISION of the code that made the tables.
    """

    knobs: Mapping[str, Any]
    keys: Keys
    spaces: Mapping[str, str]
    likenesses: RegistryLikenesses
    models: Mapping[str, Mapping[str, str | None]]
    reduce_revision: int

    @classmethod
    def of(cls, config: Config, registry: Registry) -> Self:
        """Return the recipe of a configuration. The sha256 of its models must be known."""
        return cls(
            knobs=config.result_knobs(),
            keys=keys(config, registry),
            spaces=spaces(config, registry),
            likenesses=registry_likenesses(config, registry),
            models=models(config, registry),
            reduce_revision=REDUCE_REVISION,
        )

    def reduced_with(self, config: Config) -> Self:
        """Return the recipe of another reduce of the same durable objects."""
        return replace(self, knobs=config.result_knobs(), reduce_revision=REDUCE_REVISION)

    def to_json(self) -> dict[str, Any]:
        """Return the recipe as `recipes/` stores it."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Return the recipe that `to_json` made. Raises TypeError or KeyError if it is of another version."""
        return cls(**{**stored, "keys": Keys(**stored["keys"])})


def spaces(config: Config, registry: Registry) -> dict[str, str]:
    """Return the embedding spaces of a configuration. Vectors of two spaces are never compared."""
    chosen = _embedders(config)
    return {kind: registry.entry(name).embedding_space or name for kind, name in chosen.items()}


def registry_likenesses(config: Config, registry: Registry) -> RegistryLikenesses:
    """Return, by kind of embedding, what the registry states about the embedders of a configuration."""
    likenesses = {kind: registry.entry(name).likeness for kind, name in _embedders(config).items()}
    return {kind: {key: list(pair) for key, pair in pairs.items()} for kind, pairs in likenesses.items() if pairs}


def priors(likenesses: RegistryLikenesses) -> Likenesses:
    """Return the calibrated similarity that a video starts from. Kinds without an entry in the registry get a wide
    one."""
    return {
        kind: Likeness.from_distances(**likenesses[kind]) if kind in likenesses else wide for kind, wide in WIDE.items()
    }


def _embedders(config: Config) -> dict[str, str]:
    chosen = {"body": config.observe.body.weights, "face": config.estimate.face_embedding}
    return {kind: name for kind, name in chosen.items() if name}


def models(config: Config, registry: Registry) -> dict[str, dict[str, str | None]]:
    """Return the models that a run reports. They are given by role, with name, sha256 and licence, and with a digest of
    their options and package, if they have some."""
    return {
        role: {"name": name, "sha256": registry.sha256(name), "licence": registry.entry(name).licence}
        | ({"besides": besides} if (besides := registry.besides(name)) else {})
        for role, name in registry.models_of(config).items()
    }
