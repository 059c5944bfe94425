"""The registry: all entries by name, and the models that a configuration chooses among them."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import yaml

from pipeline.config import CONF, Config, digest, resolve_uris
from pipeline.errors import UserError, nearest
from pipeline.weights.entry import LISTED, Entry, check_parts, local_path, read_entries
from pipeline.weights.fetch import AbsentError, Fetch, Mirror, WeightFiles
from pipeline.weights.kinds import all_kinds, kinds_of
from pipeline.weights.licences import refuse_licences
from pipeline.weights.roles import roles_of


class Registry:
    """All entries by name, and their files on this machine. It can be sent to other processes with its pins.

    entries: name -> entry.
    cache: the folder for fetched files and fetch.LOCK.
    fetch: fetches remote files.
    mirror: a URI that is tried before an entry's own. None for no mirror.
    may_pin: as of WeightFiles.
    """

    def __init__(
        self,
        entries: Mapping[str, Entry],
        *,
        cache: Path,
        fetch: Fetch,
        mirror: str | None = None,
        may_pin: bool = True,
    ) -> None:
        self.entries = dict(entries)
        self._files = WeightFiles(cache=cache, fetch=fetch, mirror=mirror, may_pin=may_pin)

    @classmethod
    def of(cls, config: Config, fetch: Fetch, *, may_pin: bool = True) -> "Registry":
        """Return the registry of a configuration: conf/weights.yaml and `weights.extra`, which overrides it."""
        path = CONF / "weights.yaml"
        shipped = read_entries(resolve_uris(yaml.safe_load(path.read_text()), path.parent), f"conf/{path.name}")
        extra = read_entries(config.weights.extra, "weights.extra")
        entries = {**shipped, **extra}
        for name, entry in entries.items():
            check_parts(name, entry, entries)
        cache, mirror = Path(config.weights.cache).expanduser(), config.weights.mirror
        return cls(entries, cache=cache, fetch=fetch, mirror=mirror, may_pin=may_pin)

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
        return self._each(names, self._files.pull)

    def check_local(self, names: Iterable[str]) -> None:
        """Raise UserError if a file that has a path of this machine is missing, unreadable or different from the
        registered one. Fetches nothing."""
        self._each(names, self._files.local)

    def is_brought(self, name: str) -> bool:
        """Return whether others bring the model `name`: as an ONNX file that its options describe, or as a package."""
        has_options = any(self.entry(leaf).options is not None for leaf in (name, *self.leaves(name)))
        return has_options or all_kinds()[self.entry(name).kind].package is not None

    def _each(self, names: Iterable[str], get: Callable[[str, Entry], Path | None]) -> dict[str, Path]:
        """Return the files that `get` returns for `names` and their parts. One UserError lists all that are missing."""
        files: dict[str, Path] = {}
        absent: list[AbsentError] = []
        for leaf in self._leaves_of(names):
            try:
                path = get(leaf, self.entries[leaf])
            except AbsentError as error:
                absent.append(error)
            else:
                files |= {leaf: path} if path else {}
        if absent:
            raise UserError(self._files.describe(absent))
        return files

    def sha256(self, name: str) -> str | None:
        """Return the published or pinned hash. None before the first pull of an entry without a published hash."""
        return self._files.sha256(self.entry(name))

    def here(self, name: str) -> Path | None:
        """Return the path of the local file of `name`, not verified, or None if it does not exist."""
        path = self._files.place(self.entry(name))
        return path if path and path.is_file() else None

    def models_of(self, config: Config) -> dict[str, str]:
        """Return all files that a configuration loads: role -> entry. The role of a part is `role.part`.

        Raises UserError if an entry is unknown or of a kind that its role cannot use.
        """
        models: dict[str, str] = {}
        for name, role in roles_of(config).items():
            if role.entry is None:
                if name == "estimator" and config.estimate.uses != "faces":
                    raise UserError(
                        f"estimate.uses={config.estimate.uses} needs an estimator, and estimate.estimator is null; "
                        "name one, or estimate.uses=faces"
                    )
                continue
            try:
                entry = self.entry(role.entry)
            except UserError as error:
                raise UserError(f"{role.knob}: {error}") from None
            kinds = kinds_of(name)
            if entry.kind not in kinds:
                fitting = [other for other, candidate in self.entries.items() if candidate.kind in kinds]
                example = f"; for example {fitting[0]}" if fitting else ""
                raise UserError(
                    f"{role.knob} must be of kind {' or '.join(kinds)}, {role.entry} is of kind {entry.kind}{example}"
                )
            kind = all_kinds()[entry.kind]
            # Of the kinds of packages, the model itself says so when it is loaded.
            reads_bodies = kind.reads_bodies or kind.package
            if name == "estimator" and config.estimate.uses != "faces" and not reads_bodies:
                readers = [kind for kind, each in all_kinds().items() if each.reads_bodies]
                raise UserError(
                    f"estimate.uses={config.estimate.uses} needs an estimator that reads bodies, {role.entry} is of "
                    f"kind {entry.kind}; choose one of kind {' or '.join(readers)}, or estimate.uses=faces"
                )
            needed = kind.needs.get(name)
            if needed and (entry.options or {}).get(needed) is None:
                raise UserError(
                    f"{role.knob} must be a model with {needed}, and the options of {role.entry} name none; "
                    "name its output, or another model"
                )
            parts = entry.parts or {}
            models |= {f"{name}.{part}": leaf for part, leaf in parts.items()} or {name: role.entry}
        return models

    def digests(self, config: Config) -> dict[str, str | None]:
        """Return, for every role of `models_of`, what identifies the model: its sha256, and its options and package, if
        it has some. None if only a pull can determine it."""
        models = self.models_of(config).items()
        return {role: (sha := self.sha256(name)) and sha + (self.besides(name) or "") for role, name in models}

    def besides(self, name: str) -> str | None:
        """Return a digest of what a model depends on besides its file: its options, and the installed package of its
        kind. None for most."""
        entry = self.entry(name)
        package = all_kinds()[entry.kind].package
        return digest(entry.options, package) if entry.options or package else None

    def refuse_licences(self, names: Iterable[str], allow: Iterable[str] | None) -> None:
        """Raise UserError if one of `names` has a licence that is not in `allow`. None allows every licence."""
        refuse_licences({leaf: self.entries[leaf].licence for leaf in self._leaves_of(names)}, allow)

    def copy_to(self, mirror: Mirror, names: Iterable[str]) -> list[str]:
        """Copy the verified files of `names` into a mirror, under their sha256, with their pins.

        Files of this machine are left out, because only fetched files are requested from a mirror. Returns those of
        the entries that the mirror now holds.
        """
        files = self.pull(leaf for leaf in self._leaves_of(names) if not local_path(self.entries[leaf].uri or ""))
        self._files.copy_to(mirror, self.entries, files)
        return list(files)

    def _leaves_of(self, names: Iterable[str]) -> list[str]:
        return list(dict.fromkeys(leaf for name in names for leaf in self.leaves(name)))
