"""The registry of weights. A name stands for exact bytes under a known licence, and unverified bytes are never
loaded.

Entries come from conf/weights.yaml and from `weights.extra` of a configuration. Files on this machine are used in
place. Remote files are fetched into `weights.cache`, from `weights.mirror` first, and named by their sha256. An
entry without a known sha256 is pinned at its first pull in LOCK, beside the fetched files, and compared with it
afterwards.
"""

import hashlib
import importlib.util
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO, Any, Protocol

import yaml

from pipeline.config import CONF, Config, resolve_uris
from pipeline.errors import UserError, nearest

Fetch = Callable[[str], Iterator[bytes]]
"""A function that yields the blocks of the file at a URI, and raises OSError on failure (storage.blobs.fetch)."""

LISTED = "`rollcall weights list` shows all, with their kinds"
LOCK = "weights.lock.yaml"
LOCK_HEAD = "# sha256 by address, as first fetched; nobody has published these. Remove a line to accept other bytes.\n"
FACE_DETECTORS = ("retinaface-r50", "retinaface-mobile0.25", "mtcnn", "yunet")
LOOKS = (*FACE_DETECTORS, "yolo-face")
"""The kinds for the quick face check. A yolo-face finds no landmarks for alignment, so it is no face detector."""
FACE_EMBEDDERS = ("facenet", "mobilefacenet")
ESTIMATORS = ("attributes", "heads", "network", "ssrnet")
PARTS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "heads": {"embedder": FACE_EMBEDDERS, "heads": ("keras-heads", "dense-heads")},
    "ssrnet": {"age": ("ssrnet-age",), "gender": ("ssrnet-gender",)},
    "mtcnn": {"pnet": ("mtcnn-net",), "rnet": ("mtcnn-net",), "onet": ("mtcnn-net",)},
}
"""The parts of each composite kind, and the kinds that each part may have."""
KINDS = frozenset(
    {"yolo", "reid", "attributes", "network", "gfpgan", "realesrgan", *LOOKS, *FACE_EMBEDDERS, *PARTS}
    | {kind for parts in PARTS.values() for kinds in parts.values() for kind in kinds}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of the registry: a file, or a composite of other entries.

    kind: one of KINDS. It chooses the loader.
    uri: https://, s3://, a path on this machine, or package:NAME/PATH in an installed package. None for a composite.
    sha256: the published hash of the file. None if none is published (`note` says so): it is pinned at the first
        pull.
    licence: SPDX ids, and `research-only` or `none-stated`, joined by " AND ". Each of them must be allowed.
    input: the size, colour order and range that the network was trained on.
    embedding_space: the name of the space, in which vectors may be compared. None if the model does not embed.
    likeness: the distances of its embeddings, as `same` for one person and `other` for two. Each is the median
        cosine distance and the standard deviation of its natural logarithm. It is the prior of a video
        (cores.likeness).
    parts: role -> entry, for a composite.
    note: a remark for people.
    """

    kind: str
    uri: str | None = None
    sha256: str | None = None
    licence: str | None = None
    input: str | None = None
    embedding_space: str | None = None
    likeness: Mapping[str, Sequence[float]] | None = None
    parts: Mapping[str, str] | None = None
    note: str | None = None


class Mirror(Protocol):
    """A place for copies, such as pipeline.storage.store.Store."""

    def exists(self, name: str) -> bool: ...
    def read(self, name: str) -> bytes: ...
    def writing(self, name: str) -> AbstractContextManager[IO[bytes]]: ...


class Registry:
    """All entries by name, and the files on this machine. It can be sent to other processes with its pins.

    entries: name -> entry.
    cache: the folder for fetched files and LOCK.
    fetch: fetches remote files.
    mirror: a URI that is tried before an entry's own. None for no mirror.
    """

    def __init__(self, entries: Mapping[str, Entry], *, cache: Path, fetch: Fetch, mirror: str | None = None) -> None:
        self.entries = dict(entries)
        self.cache = cache
        self.mirror = mirror.rstrip("/") if mirror else None
        self._fetch = fetch
        self._pins = _read_lock(cache / LOCK)

    @classmethod
    def of(cls, config: Config, fetch: Fetch) -> "Registry":
        """Return the registry of a configuration: conf/weights.yaml and `weights.extra`, which overrides it."""
        path = CONF / "weights.yaml"
        shipped = read_entries(resolve_uris(yaml.safe_load(path.read_text()), path.parent), f"conf/{path.name}")
        extra = read_entries(config.weights.extra, "weights.extra")
        entries = {**shipped, **extra}
        for name, entry in entries.items():
            _check_parts(name, entry, entries)
        return cls(entries, cache=Path(config.weights.cache).expanduser(), fetch=fetch, mirror=config.weights.mirror)

    def entry(self, name: str) -> Entry:
        """Return the entry of `name`. Raises UserError with the nearest existing name."""
        if name not in self.entries:
            raise UserError(f"there are no weights named {name}{nearest(name, self.entries, LISTED)}")
        return self.entries[name]

    def leaves(self, name: str) -> list[str]:
        """Return the entries with a file that make up `name`: itself, or its parts."""
        parts = self.entry(name).parts
        return [leaf for part in parts.values() for leaf in self.leaves(part)] if parts else [name]

    def path(self, name: str) -> Path:
        """Return the verified local file of `name`, and fetch it if necessary. Only for entries without parts.

        Raises UserError if the name is unknown, or the file is missing, unreachable or different from the registered
        one.
        """
        if self.entry(name).parts:
            raise ValueError(f"{name} has no file of its own; ask for its parts: {self.leaves(name)}")
        return self.pull([name])[name]

    def pull(self, names: Iterable[str]) -> dict[str, Path]:
        """Return the verified files of `names` and of their parts, by entry. One UserError lists all that are
        missing."""
        found: dict[str, Path] = {}
        absent: list[_AbsentError] = []
        for name in dict.fromkeys(leaf for each in names for leaf in self.leaves(each)):
            try:
                found[name] = self._find(name)
            except _AbsentError as error:
                absent.append(error)
        if absent:
            raise UserError(self._tell(absent))
        return found

    def sha256(self, name: str) -> str | None:
        """Return the published or pinned hash. None before the first pull of an entry without a published hash."""
        entry = self.entry(name)
        return entry.sha256 or (self._pins.get(entry.uri) if entry.uri else None)

    def here(self, name: str) -> Path | None:
        """Return the path of the local file of `name`, not verified, or None if it does not exist."""
        path = self._place(name)
        return path if path and path.is_file() else None

    def models_of(self, config: Config) -> dict[str, str]:
        """Return all files that a configuration loads: role -> entry. The role of a part is `role.part`.

        Raises UserError if an entry is unknown or of a kind that its role cannot use.
        """
        models: dict[str, str] = {}
        for role, (knob, name, kinds) in _roles(config).items():
            if name is None:
                continue
            try:
                entry = self.entry(name)
            except UserError as error:
                raise UserError(f"{knob}: {error}") from None
            if entry.kind not in kinds:
                fitting = [other for other, each in self.entries.items() if each.kind in kinds]
                few = f"; for example {fitting[0]}" if fitting else ""
                raise UserError(f"{knob} must be of kind {' or '.join(kinds)}, {name} is of kind {entry.kind}{few}")
            models |= {f"{role}.{part}": leaf for part, leaf in entry.parts.items()} if entry.parts else {role: name}
        return models

    def digests(self, config: Config) -> dict[str, str | None]:
        """Return the sha256 for every role of `models_of`. None if only a pull can determine it."""
        return {role: self.sha256(name) for role, name in self.models_of(config).items()}

    def refuse_licences(self, names: Iterable[str], allow: Iterable[str] | None) -> None:
        """Raise UserError if one of `names` has a licence that is not in `allow`. None allows all."""
        if allow is None:
            return
        allowed = {licence.lower() for licence in allow}
        for name in dict.fromkeys(leaf for each in names for leaf in self.leaves(each)):
            licence = self.entries[name].licence or ""
            if not {part.lower() for part in licence.split(" AND ")} <= allowed:
                raise UserError(
                    f"{name} is under {licence}, and licences.allow has {', '.join(sorted(allow)) or 'nothing'}; "
                    f"choose another model, or allow it"
                )

    def record(self, config: Config) -> list[dict[str, str | None]]:
        """Return the entry in run.json for every model of a configuration: role, name, sha256, licence."""
        return [
            {"role": role, "name": name, "sha256": self.sha256(name), "licence": self.entry(name).licence}
            for role, name in self.models_of(config).items()
        ]

    def copy_to(self, mirror: Mirror, names: Iterable[str]) -> list[str]:
        """Copy the verified files of `names` into a mirror, under their sha256, with their pins.

        Files of this machine are left out, because only fetched files are requested from a mirror. Returns those of
        the entries that the mirror now holds.
        """
        leaves = [leaf for name in names for leaf in self.leaves(name) if not local_path(self.entries[leaf].uri or "")]
        files = self.pull(leaves)
        pins = yaml.safe_load(mirror.read(LOCK)) if mirror.exists(LOCK) else {}
        for name, path in files.items():
            if not mirror.exists(path.name):
                with mirror.writing(path.name) as copy, path.open("rb") as file:
                    shutil.copyfileobj(file, copy)
            if self.entries[name].sha256 is None:
                pins[self.entries[name].uri] = path.name
        if pins:
            with mirror.writing(LOCK) as lock:
                lock.write(_lock_text(pins).encode())
        return list(files)

    def _place(self, name: str) -> Path | None:
        entry = self.entry(name)
        if entry.uri is None:
            return None
        if local := local_path(entry.uri):
            return local
        expected = self.sha256(name)
        return self.cache / expected if expected else None

    def _find(self, name: str) -> Path:
        entry = self.entry(name)
        assert entry.uri is not None  # `_read_entry` checks that entries without parts have a uri
        place = self._place(name)
        if local_path(entry.uri):
            assert place is not None
            if not place.is_file():
                raise _AbsentError(name, str(place))
            self._check(name, entry.uri, sha256_of(place))
            return place
        # A fetched file that no longer has the bytes of its name is damaged, and is fetched again.
        if place and place.is_file() and sha256_of(place) == place.name:
            return place
        return self._download(name, entry.uri)

    def _download(self, name: str, uri: str) -> Path:
        """Fetch a file, verify it, then rename it. A file named by its sha256 is therefore always complete and
        correct."""
        expected = self.sha256(name) or self._mirror_pin(uri)
        causes: list[str] = []
        for source in [f"{self.mirror}/{expected}"] * bool(self.mirror and expected) + [uri]:
            try:
                blocks = _no_web_page(self._fetch(source))
                first = next(blocks, b"")
            except OSError as error:
                causes.append(f"{source}: {_first_line(error)}")
                continue
            try:
                self.cache.mkdir(parents=True, exist_ok=True)
                partial = tempfile.NamedTemporaryFile(dir=self.cache, suffix=".partial", delete=False)  # noqa: SIM115
            except OSError as error:
                raise self._no_cache(error) from None
            path = Path(partial.name)
            try:
                digest = hashlib.sha256()
                with partial:
                    for block in _chain(first, blocks):
                        digest.update(block)
                        partial.write(block)
                if expected and digest.hexdigest() != expected:
                    told = _other_bytes(name, source, expected, digest.hexdigest())
                    raise UserError(f"{told}; try again, or get the file elsewhere and set weights.mirror")
                self._check(name, uri, digest.hexdigest())
                return path.replace(self.cache / digest.hexdigest())
            except OSError as error:
                causes.append(f"{source}: {_first_line(error)}")
            finally:
                path.unlink(missing_ok=True)
        raise _AbsentError(name, uri, "; ".join(causes))

    def _check(self, name: str, uri: str, digest: str) -> None:
        """Compare `digest` with the published or pinned hash. Pin it if neither exists."""
        expected = self.sha256(name)
        if expected is None:
            # Read it again, because another process may have pinned something since.
            self._pins |= {**_read_lock(self.cache / LOCK), uri: digest}
            try:
                self.cache.mkdir(parents=True, exist_ok=True)
                with tempfile.NamedTemporaryFile("w", dir=self.cache, suffix=".partial", delete=False) as partial:
                    partial.write(_lock_text(self._pins))
                Path(partial.name).replace(self.cache / LOCK)
            except OSError as error:
                raise self._no_cache(error) from None
        elif digest != expected:
            known = self.entry(name).sha256
            remedy = "get the right file" if known else f"if that is meant, remove its line from {self.cache / LOCK}"
            raise UserError(f"{_other_bytes(name, uri, expected, digest)}; {remedy}")

    def _no_cache(self, error: OSError) -> UserError:
        return UserError(f"cannot write to {self.cache}: {error.strerror}; set weights.cache to a folder that you own")

    def _mirror_pin(self, uri: str) -> str | None:
        """Return the hash in the mirror's lock file for an address that is pinned nowhere else."""
        if not self.mirror:
            return None
        try:
            text = b"".join(self._fetch(f"{self.mirror}/{LOCK}")).decode()
        except OSError:  # the mirror does not exist, or has no pins
            return None
        return (yaml.safe_load(text) or {}).get(uri)

    def _tell(self, absent: list["_AbsentError"]) -> str:
        local = [error for error in absent if not error.cause]
        remote = [error for error in absent if error.cause]
        lines: list[str] = []
        if local:
            places = ", ".join(f"{error.name} ({error.where})" for error in local)
            lines.append(
                f"weights that are not on this machine: {places}; put the files there, or choose other weights"
            )
        if remote:
            names = ", ".join(error.name for error in remote)
            lines.append(
                f"weights that cannot be fetched: {names} ({remote[0].cause}); "
                f"run `rollcall weights pull` where there is internet and copy {self.cache} here, or set weights.mirror"
            )
        return "\n".join(lines)


class _AbsentError(Exception):
    """Raised for a file that is not in its place.

    name: the entry.
    where: the path or URI.
    cause: the reason why it could not be fetched. None for a file of this machine.
    """

    def __init__(self, name: str, where: str, cause: str | None = None) -> None:
        super().__init__(name, where, cause)
        self.name, self.where, self.cause = name, where, cause


def read_entries(raw: Mapping[str, Any] | None, where: str) -> dict[str, Entry]:
    """Check the entries of one file and return them. Raises UserError with the entry, the key, and the nearest known
    key."""
    return {name: _read_entry(each, f"{where}: {name}") for name, each in (raw or {}).items()}


def fragment(entries: Mapping[str, Entry]) -> str:
    """Return the text of a configuration file that adds `entries` to the registry."""
    told = {
        name: {
            key: dict(value) if isinstance(value, Mapping) else value for key, value in asdict(entry).items() if value
        }
        for name, entry in entries.items()
    }
    return yaml.safe_dump({"weights": {"extra": told}}, sort_keys=False, width=120, allow_unicode=True)


def local_path(uri: str) -> Path | None:
    """Return the path of a URI on this machine, or None if it is remote. Raises UserError if its package is not
    installed."""
    if uri.startswith("package:"):
        package, _, inside = uri.removeprefix("package:").partition("/")
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise UserError(f"{uri}: the package {package} is not installed; run `make setup`")
        return Path(spec.submodule_search_locations[0]) / inside
    if uri.startswith("file://"):
        return Path(uri.removeprefix("file://"))
    return None if "://" in uri else Path(uri).expanduser()


_digest_by_file: dict[tuple[str, int, int], str] = {}


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file. This process remembers it until the size or modification time changes."""
    state = path.stat()
    key = (str(path.resolve()), state.st_size, state.st_mtime_ns)
    if key not in _digest_by_file:
        with path.open("rb") as file:
            _digest_by_file[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return _digest_by_file[key]


def _roles(config: Config) -> dict[str, tuple[str, str | None, tuple[str, ...]]]:
    """Return role -> (the knob that fills it, the chosen entry or None, the fitting kinds)."""
    restorer = None if config.restore.mode == "off" else config.restore.weights
    return {
        "detector": ("observe.detector.weights", config.observe.detector.weights, ("yolo",)),
        "body": ("observe.body.weights", config.observe.body.weights, ("reid",)),
        "look": ("candidates.look", config.candidates.look, LOOKS),
        "face_detector": ("faces.detector", config.faces.detector, FACE_DETECTORS),
        "restorer": ("restore.weights", restorer, ("gfpgan",)),
        "estimator": ("estimate.estimator", config.estimate.estimator, ESTIMATORS),
        "face_embedding": ("estimate.face_embedding", config.estimate.face_embedding, FACE_EMBEDDERS),
    }


def _read_entry(raw: Any, where: str) -> Entry:
    if not isinstance(raw, Mapping):
        raise UserError(f"{where} must hold kind, uri, sha256, licence, …, as in conf/weights.yaml, got {raw!r}")
    known = [field.name for field in fields(Entry)]
    among = f"there are {', '.join(known)}"
    for key, value in raw.items():
        if key not in known:
            raise UserError(f"{where}: unknown key {key}{nearest(key, known, among)}")
        wanted, word = (Mapping, "a mapping") if key in ("parts", "likeness") else (str, "text")
        if value is not None and not isinstance(value, wanted):
            raise UserError(f"{where}: {key} must be {word} or null, got {value!r}")
    if not raw.get("kind"):
        raise UserError(f"{where}: kind is missing; {LISTED}")
    entry = Entry(**raw)
    if entry.likeness is not None and not _is_likeness(entry.likeness):
        raise UserError(
            f"{where}: likeness must hold same and other, each a cosine distance and the deviation of its logarithm, "
            f"as [0.1, 0.5], and same be the nearer one; got {dict(entry.likeness)!r}"
        )
    if entry.kind not in KINDS:
        raise UserError(f"{where}: unknown kind {entry.kind}{nearest(entry.kind, KINDS, LISTED)}")
    if entry.kind in PARTS:
        if set(entry.parts or {}) != set(PARTS[entry.kind]) or entry.uri:
            raise UserError(f"{where}: kind {entry.kind} must hold parts: {', '.join(PARTS[entry.kind])}, and no uri")
        return entry
    if not entry.uri or not entry.licence or entry.parts:
        raise UserError(f"{where}: kind {entry.kind} must hold uri and licence, and no parts")
    if entry.sha256 is None and not entry.note:
        raise UserError(f"{where}: sha256 is missing; without a published one, sha256: null needs a note that says so")
    if entry.sha256 is not None and not re.fullmatch("[0-9a-f]{64}", entry.sha256):
        raise UserError(f"{where}: sha256 must be 64 hex digits, got {entry.sha256!r}")
    return entry


def _is_likeness(told: Mapping[str, Any]) -> bool:
    if set(told) != {"same", "other"}:
        return False
    pairs = [told["same"], told["other"]]
    if not all(isinstance(pair, Sequence) and len(pair) == 2 for pair in pairs):
        return False
    numbers = all(isinstance(number, (int, float)) and number > 0 for pair in pairs for number in pair)
    return numbers and pairs[0][0] < pairs[1][0]


def _check_parts(name: str, entry: Entry, entries: Mapping[str, Entry]) -> None:
    for role, part in (entry.parts or {}).items():
        if part not in entries:
            raise UserError(
                f"weights {name}: its part {role} names {part}, which is no entry{nearest(part, entries, LISTED)}"
            )
        kinds = PARTS[entry.kind][role]
        kind = entries[part].kind
        if kind not in kinds:
            raise UserError(
                f"weights {name}: its part {role} must be of kind {' or '.join(kinds)}, {part} is of kind {kind}; "
                "name another entry"
            )


def _lock_text(pins: Mapping[str, str]) -> str:
    return LOCK_HEAD + yaml.safe_dump(dict(pins), sort_keys=True)


def _read_lock(path: Path) -> dict[str, str]:
    try:
        return yaml.safe_load(path.read_text()) or {}
    except FileNotFoundError:
        return {}
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{path}: {_first_line(error)}; it holds the sha256 of weights as first fetched") from None


def _no_web_page(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield `blocks`, but raise OSError for a web page. Some servers answer a failure with a page and status 200,
    and that page must not be pinned."""
    for index, block in enumerate(blocks):
        if index == 0 and block.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")):
            raise OSError("a web page came instead of the file")
        yield block


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _other_bytes(name: str, where: str, expected: str, got: str) -> str:
    return f"weights {name}: {where} must have sha256 {expected}, got {got}"


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
