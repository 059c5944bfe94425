"""Load conf/*.yaml into one frozen value. A misspelt key or a wrong value stops a command before any work.

All defaults are in conf/base.yaml. No class here has any.

The file is long because the schema, the merging of layers and the messages for wrong values state one contract: a
message names the layer, the key and the rule of the schema that a value breaks.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from pipeline import json_schema
from pipeline.cores.candidates import CandidateParams
from pipeline.cores.crossings import CrossingParams
from pipeline.cores.gate import GateParams
from pipeline.cores.link.params import IdentityParams
from pipeline.cores.plan import ChunkParams
from pipeline.cores.vote import PersonParams
from pipeline.errors import UserError, absent, nearest

CONF = Path(__file__).parents[1] / "conf"
NO_PROFILES = ("base", "weights")
Layers = Sequence[tuple[str, Mapping[str, Any]]]
ABSENT = object()
EXAMPLES = {
    "candidates.look": "yunet",
    "crossings.lines": "{door: [[0.2, 0.8], [0.6, 0.8]]}",
    "crossings.zones": "{counter: [[0.5, 0.5], [1, 0.5], [1, 1], [0.5, 1]]}",
    "track.options": "{match_thresh: 0.9}",
    "person.age_groups": "adience",
    "licences.allow": "[MIT, Apache-2.0]",
    "weights.mirror": "s3://bucket/weights",
    "weights.extra": "{mine: {kind: yolo, uri: mine.pt, licence: MIT, sha256: null, note: trained here}}",
    "run.output": "s3://bucket/results",
    "run.address": "head:6379",
    "run.restore": "{workers: 1, max_workers: 1, cpus: 0.5, gpus: auto}",
    "run.cpu_hour_price": "0.05",
    "run.gpu_hour_price": "2.5",
}
"""Example values for error messages, for knobs whose default in conf/base.yaml is no example."""
RUN_KNOBS = frozenset({"chunk.max_seconds", "observe.decode_threads", "licences", "weights", "run", "annotate"})
"""Knobs that change no row. All others are result knobs. conf/base.yaml marks each knob accordingly."""
LEFT_OUT = {"observe.decoder": "cpu", "compute.pixels": "rgb"}
"""Knobs that result knobs leave out where they have these values."""
Count = Annotated[int, Field(gt=0, strict=True)] | Literal["auto"]
AUTO_BATCHES = {
    "cpu": {"observe.detector.batch": 8, "observe.body.batch": 32, "faces.batch": 8, "restore.batch": 1},
    "cuda": {"observe.detector.batch": 64, "observe.body.batch": 256, "faces.batch": 64, "restore.batch": 4},
}
"""Device -> batch `auto` by knob. docs/decisions/0022-batches-on-a-card.md has the reasons."""
AUTO_SPANS = {"cpu": 1, "cuda": 6}
"""Device -> `auto` of run.observe.spans. docs/decisions/0032-several-spans-in-one-worker.md has the reasons."""


class Strict(BaseModel):
    """A part of the configuration that is frozen and refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)


class Detector(Strict):
    weights: str
    image_size: int = Field(multiple_of=32, gt=0)
    batch: Count
    min_score: float = Field(ge=0, le=1)
    nms_iou: float = Field(gt=0, le=1)
    max_per_frame: int = Field(gt=0)


class Body(Strict):
    weights: str | None
    embed: Literal["all", "candidates"]
    reuse_s: float = Field(ge=0)
    batch: Count


class Observe(Strict):
    fps: float = Field(ge=0)
    thumbnail_px: int = Field(ge=16)
    decoder: Literal["cpu", "auto"]
    decode_threads: int = Field(ge=1)
    camera_motion: bool
    whole_frame_faces: bool
    detector: Detector
    body: Body


class Faces(Strict):
    detector: str
    input_px: int = Field(multiple_of=32, gt=0)
    batch: Count
    min_score: float = Field(ge=0, le=1)


class Restore(Strict):
    mode: Literal["off", "auto", "always"]
    weights: str
    below_eye_distance_px: float = Field(ge=0)
    below_sharpness: float = Field(ge=0)
    every_cells: int = Field(ge=1)
    batch: Count

    @field_validator("mode", mode="before")
    @classmethod
    def _bare_off(cls, value: Any) -> Any:
        return "off" if value is False else value  # YAML reads a bare off as false


class Estimate(Strict):
    estimator: str | None
    face_embedding: str | None
    uses: Literal["faces", "bodies", "both"]
    batch: int = Field(gt=0)


class Track(Strict):
    tracker: Literal["bytetrack", "ocsort", "botsort", "boosttrack", "occluboost", "hybridsort", "deepocsort", "sfsort"]
    min_score: float = Field(ge=0, le=1)
    memory_s: float = Field(gt=0)
    duplicate_iou: float = Field(gt=0, le=1)
    min_frames: int = Field(ge=1)
    split: bool
    fill_gap_s: float = Field(ge=0)
    options: dict[str, Any]


class Cuts(Strict):
    threshold: float = Field(gt=0, le=255)
    min_shot_s: float = Field(ge=0)


class Biometrics(Strict):
    keep: bool


class Licences(Strict):
    allow: tuple[str, ...] | None


class Weights(Strict):
    cache: str
    mirror: str | None
    extra: dict[str, Any]


class Compute(Strict):
    device: Literal["auto", "cpu", "cuda"]
    card: str
    pixels: Literal["rgb", "planes"]
    precision: Literal["auto", "half", "float32"]
    threads: int = Field(ge=1)


class Pool(Strict):
    workers: Count
    max_workers: Count
    cpus: Annotated[float, Field(gt=0)] | Literal["auto"]
    gpus: Annotated[float, Field(ge=0)] | Literal["auto"]

    @property
    def has_several(self) -> bool:
        """Return whether the user asks for several workers. `auto` does not."""
        return any(number != "auto" and number > 1 for number in (self.workers, self.max_workers))


class ObservePool(Pool):
    spans: Count


class EnrichPool(Pool):
    workers: Annotated[int, Field(ge=0, strict=True)] | Literal["auto"]  # pyright: ignore[reportIncompatibleVariableOverride]

    @property
    def has_workers(self) -> bool:
        """Return whether the pool exists. Otherwise the workers of observe do its work."""
        return self.workers != 0


Price = Annotated[float, Field(ge=0)]


class Run(Strict):
    output: str | None
    engine: Literal["auto", "ray", "local"]
    address: str | None
    observe: ObservePool
    enrich: EnrichPool
    restore: Pool | None
    reduce_cpus: float = Field(gt=0)
    max_reduces: int = Field(ge=1)
    max_attempts: int = Field(ge=1)
    chunk_deadline_s: float = Field(gt=0)
    deferral_waits_s: tuple[Annotated[float, Field(ge=0)], ...]
    cpu_hour_price: Price | None
    gpu_hour_price: Price | None
    log: Literal["none", "json"]
    events_ttl_days: float = Field(gt=0)
    work_ttl_days: float = Field(gt=0)

    @property
    def face_spans(self) -> Count:
        """The number of chunks whose faces one worker may find and judge at the same time."""
        return 1 if self.enrich.has_workers else self.observe.spans

    @model_validator(mode="after")
    def _has_workers_between(self) -> Self:
        if self.restore is not None and not self.enrich.has_workers:
            raise ValueError("restore must be null where enrich.workers is 0: one worker does all the work then")
        return self

    @model_validator(mode="after")
    def _is_one_process(self) -> Self:
        if self.engine != "local":
            return self
        if self.address:
            raise ValueError(f"engine=local is a process of this machine: leave out address, got {self.address!r}")
        pools = {"observe": self.observe, "enrich": self.enrich, "restore": self.restore}
        for name, pool in pools.items():
            if pool and pool.has_several:
                raise ValueError(f"engine=local is one process: leave engine at auto, or {name}.workers at 1, got more")
        return self


class Config(Strict):
    """The whole configuration of a run, in the order of conf/base.yaml."""

    chunk: ChunkParams
    observe: Observe
    candidates: CandidateParams
    faces: Faces
    gate: GateParams
    restore: Restore
    estimate: Estimate
    track: Track
    cuts: Cuts
    identity: IdentityParams
    person: PersonParams
    crossings: CrossingParams
    biometrics: Biometrics
    licences: Licences
    weights: Weights
    compute: Compute
    run: Run
    annotate: bool

    def plain(self) -> dict[str, Any]:
        """Return the configuration as nested dicts, lists and scalars."""
        return self.model_dump(mode="json")

    def on_device(self, device: Literal["cpu", "cuda"], card: str = "auto") -> "Config":
        """Return the same configuration for a given device, with numbers for batches and spans that are `auto`.

        card: the card of the device cuda, from models.gpu.card.

        Raises UserError for half precision on a CPU.
        """
        if device == "cpu" and self.compute.precision == "half":
            raise UserError(
                "compute.precision=half needs a GPU, and the models run on the CPU; use compute.precision=auto, "
                "which is half where there is a GPU"
            )
        tree = self.plain()
        decided = {"compute.card": card, "run.observe.spans": AUTO_SPANS[device]}
        tree["compute"]["device"] = device
        for key, value in (decided | AUTO_BATCHES[device]).items():
            *above, last = key.split(".")
            section = _value_at(tree, above, None)
            section[last] = value if section[last] == "auto" else section[last]
        return Config.model_validate(tree)

    @property
    def may_decode_on_card(self) -> bool:
        """Return whether a card may decode. docs/decisions/0043-nvdec.md has the limits."""
        return self.observe.decoder == "auto" and self.compute.device == "cuda"

    def result_knobs(self, *sections: str) -> dict[str, Any]:
        """Return the result knobs in `sections` (dotted prefixes; all if there are none), by dotted key.

        compute.card is one only on the device cuda, observe.decoder only there and only if it is auto, compute.pixels
        only if pictures stay planes, and the section crossings only if there is anything to cross.
        """
        left_out = RUN_KNOBS if self.compute.device == "cuda" else RUN_KNOBS | {"compute.card"}
        left_out = left_out if self.may_decode_on_card else left_out | {"observe.decoder"}
        left_out = left_out if self.compute.pixels == "planes" else left_out | {"compute.pixels"}
        left_out = left_out if self.crossings.is_asked else left_out | {"crossings"}
        return {
            key: value
            for key, value in flatten(self.plain())
            if not _is_below(key, left_out) and (not sections or _is_below(key, sections))
        }


def fixed(count: Count) -> int:
    """Return a number that `Config.on_device` has decided. Raises ValueError for `auto`."""
    if count == "auto":
        raise ValueError("batches and spans must be decided by Config.on_device before models are loaded")
    return count


def cluster_address(config: Config) -> str | None:
    """Return the address of the Ray cluster, or None for this machine. `ray job submit` sets RAY_ADDRESS to its own."""
    return None if config.run.engine == "local" else config.run.address or os.environ.get("RAY_ADDRESS")


def load(files: Iterable[Path] = (), settings: Iterable[str] = (), profile: str | None = None) -> Config:
    """Merge and check all layers: conf/base.yaml, `profile`, `files`, and `settings` of the form dotted.key=value.

    Later layers override earlier ones. Raises UserError that names the layer, the key, and the nearest known key.
    """
    return _build(layers(files, settings, profile))


def restored(knobs: Mapping[str, Any], where: str, settings: Iterable[str] = ()) -> Config:
    """Return the configuration that has the given result knobs, as `Config.result_knobs` returned them.

    where: the place of the knobs, for error messages.
    settings: override `knobs`.

    All other knobs are as in conf/base.yaml, but observe.decoder is cpu and compute.pixels is rgb, which result knobs
    leave out. Raises UserError as `load` does.
    """
    base, *overrides = layers(settings=settings)
    return _build([base, (where, _nest(LEFT_OUT | dict(knobs))), *overrides])


def _build(layers: Iterable[tuple[str, dict[str, Any]]]) -> Config:
    merged: dict[str, Any] = {}
    known: dict[str, Any] = {}
    read = list(layers)
    for where, over in read:
        known = known or over
        _check_keys(over, known, where)
        merged = _merge(merged, over)
    merged = _without_removed(merged)
    if odd := _no_number(merged, known):
        raise _wrong({"loc": odd, "type": "no number"}, read)
    try:
        return Config.model_validate(merged)
    except ValidationError as error:
        raise _wrong(error.errors()[0], read) from None


def _without_removed(merged: Mapping[str, Any]) -> dict[str, Any]:
    """Return the merged layers without the lines and zones that a later layer has set to null."""
    section = merged.get("crossings")
    if not isinstance(section, Mapping):
        return dict(merged)
    kept = {
        kind: {name: points for name, points in (shapes or {}).items() if points is not None}
        for kind in ("lines", "zones")
        if isinstance(shapes := section.get(kind), Mapping | None)
    }
    return {**merged, "crossings": {**section, **kept}}


def _no_number(merged: Mapping[str, Any], known: Mapping[str, Any]) -> list[str] | None:
    """Return the path of the first number that pydantic would wrongly accept: a boolean, inf or nan."""
    numbers = {key for key, value in flatten(known) if isinstance(value, int | float) and not isinstance(value, bool)}
    for key, value in flatten(merged):
        if (key in numbers and isinstance(value, bool)) or (isinstance(value, float) and not math.isfinite(value)):
            return key.split(".")
    return None


def _wrong(error: Mapping[str, Any], layers: Layers) -> UserError:
    """Turn an error of pydantic into a message: the layer, the knob, the rule, the value, and an example."""
    schema, path = Config.model_json_schema(), [str(part) for part in error["loc"]]
    node, keys = json_schema.node_at(schema, path)
    is_missing, is_rule = error["type"] == "missing", error["type"] == "value_error"
    message = error.get("msg", "").removeprefix("Value error, ")
    if is_rule and message.split()[0] in json_schema.properties(node, schema):
        keys.append(message.split()[0])
    if error["type"] == "extra_forbidden":
        keys.append(path[-1])
    dotted = ".".join(keys)
    named = keys[:-1] if is_missing or is_rule else keys
    where, over = [(where, over) for where, over in layers if _value_at(over, named, ABSENT) is not ABSENT][-1]
    if error["type"] == "extra_forbidden":
        known = json_schema.properties(node, schema)
        return UserError(f"{where}: unknown key {dotted}{nearest(path[-1], known, _among(known))}")
    if is_rule:
        return UserError(f"{where}: {dotted} {message.removeprefix(keys[-1]).strip()}")
    got = "" if is_missing else f", got {_typed(_value_at(over, keys, None))}"
    usual = EXAMPLES.get(dotted) or _typed(_value_at(layers[0][1], keys, None))
    example = f"{dotted}={usual}" if where.startswith("--set") else f"{dotted}: {usual}"
    if is_missing and (whole := ".".join(named)) in EXAMPLES:
        return UserError(f"{where}: {dotted} is missing; for example {whole}={EXAMPLES[whole]}")
    rule = "is missing; it must be" if is_missing else "must be"
    return UserError(
        f"{where}: {dotted} {rule} {json_schema.describe_values(node, schema)}{got}; for example {example}"
    )


def _typed(value: Any) -> str:
    """Return a value as a person types it in YAML."""
    return yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True).split("\n...")[0].strip()


def _value_at(tree: Any, keys: Sequence[str], otherwise: Any) -> Any:
    for key in keys:
        if not isinstance(tree, Mapping) or key not in tree:
            return otherwise
        tree = tree[key]
    return tree


def layers(
    files: Iterable[Path] = (), settings: Iterable[str] = (), profile: str | None = None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the place and the unchecked content of each layer, conf/base.yaml first."""
    yield "conf/base.yaml", _read(CONF / "base.yaml")
    for path in [*([_profile(profile)] if profile else []), *files]:
        yield str(path), _read(path)
    for setting in settings:
        yield f"--set {setting}", _parse_setting(setting)


def digest(*parts: object) -> str:
    """Return 16 hex digits that identify `parts`, the same on every machine."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _profile(name: str) -> Path:
    profiles = sorted(path.stem for path in CONF.glob("*.yaml") if path.stem not in NO_PROFILES)
    if name not in profiles:
        raise UserError(f"there is no profile {name}{nearest(name, profiles, _among(profiles))}")
    return CONF / f"{name}.yaml"


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text()
    except FileNotFoundError:
        raise absent(path, "configuration file") from None
    except OSError as error:
        raise UserError(f"configuration file {path} cannot be read: {error.strerror}; name another") from None
    except UnicodeDecodeError:
        raise UserError(f"configuration file {path} is not text in UTF-8; name a YAML file") from None
    try:
        content = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        why = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UserError(f"configuration file {path}{line}: not YAML, {why}; see conf/base.yaml for the form") from None
    if not isinstance(content, dict):
        raise UserError(f"configuration file {path} must hold keys and values, as conf/base.yaml does, got {content!r}")
    resolve_uris((content.get("weights") or {}).get("extra"), path.parent)
    return content


def resolve_uris(entries: Any, folder: Path) -> Any:
    """Make relative paths among the uris of registry `entries` absolute, in place, and return `entries`."""
    for entry in (entries or {}).values() if isinstance(entries, dict | None) else ():
        uri = entry.get("uri") if isinstance(entry, dict) else None
        if isinstance(uri, str) and "://" not in uri and not uri.startswith("package:"):
            entry["uri"] = os.path.normpath(folder.absolute() / uri)
    return entries


def _parse_setting(setting: str) -> dict[str, Any]:
    key, equals, text = setting.partition("=")
    if not equals or not key:
        raise UserError(f"--set takes dotted.key=value, got {setting!r}; for example --set observe.fps=4")
    try:
        value: Any = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"--set {setting}: the value is not YAML; close its brackets and quotes") from None
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def _check_keys(over: Mapping[str, Any], known: Mapping[str, Any], where: str, prefix: str = "") -> None:
    for key, value in over.items():
        dotted = f"{prefix}{key}"
        if key not in known:
            elsewhere = [other for other in _dotted(known) if other.endswith(f".{key}")]
            otherwise = f"did you mean {elsewhere[0]}?" if elsewhere else _among(known)
            raise UserError(f"{where}: unknown key {dotted}{nearest(key, known, otherwise, prefix)}")
        below = known[key]
        if isinstance(below, Mapping) and below:
            if not isinstance(value, Mapping):
                example = f"{dotted}.{next(iter(below))}"
                raise UserError(
                    f"{where}: {dotted} must hold {', '.join(below)}, got {_typed(value)}; for example {example}"
                )
            _check_keys(value, below, where, f"{dotted}.")


def _among(known: Iterable[str]) -> str:
    return f"there are {', '.join(known)}"


def _dotted(tree: Mapping[str, Any]) -> list[str]:
    return [key for key, _ in flatten(tree)]


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    both = {
        k: _merge(base[k], v) for k, v in over.items() if isinstance(v, Mapping) and isinstance(base.get(k), Mapping)
    }
    return {**base, **over, **both}


def flatten(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return the leaves of nested mappings with their dotted keys. An empty mapping is a leaf."""
    leaves: list[tuple[str, Any]] = []
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            leaves += flatten(value, f"{prefix}{key}.")
        else:
            leaves.append((f"{prefix}{key}", value))
    return leaves


def _nest(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Undo `flatten`."""
    tree: dict[str, Any] = {}
    for key, value in leaves.items():
        *above, last = key.split(".")
        branch = tree
        for part in above:
            branch = branch.setdefault(part, {})
        branch[last] = value
    return tree


def _is_below(key: str, sections: Iterable[str]) -> bool:
    return any(key == section or key.startswith(f"{section}.") for section in sections)
