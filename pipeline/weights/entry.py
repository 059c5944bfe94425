"""The schema of registry entries, and the check of entries that users write."""

import importlib.util
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import UserError, nearest
from pipeline.weights.kinds import Kind, all_kinds

LISTED = "`rollcall weights list` shows all, with their kinds"
OF_PACKAGE = f"{LISTED}, and a package that brings one must be installed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of the registry: a file, or a composite of other entries.

    kind: one of kinds.all_kinds. It chooses the loader.
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
    options: what the loader of the kind must know besides the file, for kinds that need it.
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
    options: Mapping[str, Any] | None = None
    note: str | None = None


def read_entries(raw: Mapping[str, Any] | None, where: str) -> dict[str, Entry]:
    """Check the entries of one file and return them. Raises UserError with the entry, the key, and the nearest known
    key."""
    return {name: _read_entry(entry, f"{where}: {name}") for name, entry in (raw or {}).items()}


def fragment(entries: Mapping[str, Entry]) -> str:
    """Return the text of a configuration file that adds `entries` to the registry."""
    plain = {
        name: {
            key: dict(value) if isinstance(value, Mapping) else value for key, value in asdict(entry).items() if value
        }
        for name, entry in entries.items()
    }
    return yaml.safe_dump({"weights": {"extra": plain}}, sort_keys=False, width=120, allow_unicode=True)


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


def _read_entry(raw: Any, where: str) -> Entry:
    if not isinstance(raw, Mapping):
        raise UserError(f"{where} must hold kind, uri, sha256, licence, …, as in conf/weights.yaml, got {raw!r}")
    known = [field.name for field in fields(Entry)]
    among = f"there are {', '.join(known)}"
    for key, value in raw.items():
        if key not in known:
            raise UserError(f"{where}: unknown key {key}{nearest(key, known, among)}")
        wanted, word = (Mapping, "a mapping") if key in ("parts", "likeness", "options") else (str, "text")
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
    kinds = all_kinds()
    if entry.kind not in kinds:
        raise UserError(f"{where}: unknown kind {entry.kind}{nearest(entry.kind, kinds, OF_PACKAGE)}")
    _check_options(entry, kinds[entry.kind], where)
    if parts := kinds[entry.kind].parts:
        if set(entry.parts or {}) != set(parts) or entry.uri:
            raise UserError(f"{where}: kind {entry.kind} must hold parts: {', '.join(parts)}, and no uri")
        return entry
    if not entry.uri or not entry.licence or entry.parts:
        raise UserError(f"{where}: kind {entry.kind} must hold uri and licence, and no parts")
    if entry.sha256 is None and not entry.note:
        raise UserError(f"{where}: sha256 is missing; without a published one, sha256: null needs a note that says so")
    if entry.sha256 is not None and not re.fullmatch("[0-9a-f]{64}", entry.sha256):
        raise UserError(f"{where}: sha256 must be 64 hex digits, got {entry.sha256!r}")
    return entry


def _check_options(entry: Entry, kind: Kind, where: str) -> None:
    if kind.check_options is not None:
        kind.check_options(entry.options or {}, f"{where}.options")
    elif entry.options is not None and kind.package is None:
        raise UserError(f"{where}: kind {entry.kind} must not have options, got {dict(entry.options)!r}")


def _is_likeness(likeness: Mapping[str, Any]) -> bool:
    if set(likeness) != {"same", "other"}:
        return False
    pairs = [likeness["same"], likeness["other"]]
    if not all(isinstance(pair, Sequence) and len(pair) == 2 for pair in pairs):
        return False
    numbers = all(isinstance(number, (int, float)) and number > 0 for pair in pairs for number in pair)
    return numbers and pairs[0][0] < pairs[1][0]


def check_parts(name: str, entry: Entry, entries: Mapping[str, Entry]) -> None:
    """Raise UserError if a part of a composite is not in `entries`, or is of a kind that cannot be that part."""
    for role, part in (entry.parts or {}).items():
        if part not in entries:
            raise UserError(
                f"weights {name}: its part {role} names {part}, which is no entry{nearest(part, entries, LISTED)}"
            )
        kinds = all_kinds()[entry.kind].parts[role]
        kind = entries[part].kind
        if kind not in kinds:
            raise UserError(
                f"weights {name}: its part {role} must be of kind {' or '.join(kinds)}, {part} is of kind {kind}; "
                "name another entry"
            )
