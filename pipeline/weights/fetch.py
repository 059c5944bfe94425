"""The files of weights on this machine: fetch them, pin them, verify them, and copy them to a mirror."""

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from itertools import chain
from pathlib import Path
from typing import IO, Protocol

import yaml

from pipeline.errors import UserError
from pipeline.weights.entry import Entry, local_path

Fetch = Callable[[str], Iterator[bytes]]
"""A function that yields the blocks of the file at a URI, and raises OSError on failure (storage.blobs.fetch)."""

LOCK = "weights.lock.yaml"
LOCK_HEAD = "# sha256 by address, as first fetched; nobody has published these. Remove a line to accept other bytes.\n"


class Mirror(Protocol):
    """A place for copies, such as pipeline.storage.store.Store."""

    def exists(self, name: str) -> bool: ...
    def read(self, name: str) -> bytes: ...
    def writing(self, name: str) -> AbstractContextManager[IO[bytes]]: ...


class AbsentError(Exception):
    """Raised for a file that is not in its place.

    name: the entry.
    where: the path or URI.
    cause: the reason why it could not be fetched. None for a file of this machine.
    """

    def __init__(self, name: str, where: str, cause: str | None = None) -> None:
        super().__init__(name, where, cause)
        self.name, self.where, self.cause = name, where, cause


class WeightFiles:
    """The files of entries. They can be sent to other processes with their pins. Entries here have no parts.

    cache: the folder for fetched files and LOCK.
    fetch: fetches remote files.
    mirror: a URI that is tried before an entry's own. None for no mirror.
    may_pin: whether the hash of a file without a published one is written down when the file is first read.
    """

    def __init__(self, *, cache: Path, fetch: Fetch, mirror: str | None, may_pin: bool = True) -> None:
        self._cache = cache
        self._may_pin = may_pin
        self._mirror = mirror.rstrip("/") if mirror else None
        self._fetch = fetch
        self._pins = _read_lock(cache / LOCK)

    def sha256(self, entry: Entry) -> str | None:
        """Return the published or pinned hash. None before the first pull of an entry without a published hash."""
        return entry.sha256 or (self._pins.get(entry.uri) if entry.uri else None)

    def place(self, entry: Entry) -> Path | None:
        """Return the path that the file has on this machine, or will have. None if only a pull can determine it."""
        if entry.uri is None:
            return None
        if local := local_path(entry.uri):
            return local
        expected = self.sha256(entry)
        return self._cache / expected if expected else None

    def pull(self, name: str, entry: Entry) -> Path:
        """Return the verified file of `entry`, and fetch it if necessary.

        name: of the entry, for messages.

        Raises AbsentError if the file is missing or unreachable, and UserError if it has other bytes.
        """
        assert entry.uri is not None  # entry.read_entries checks that entries without parts have a uri
        if local := self.local(name, entry):
            return local
        place = self.place(entry)
        # A fetched file that no longer has the bytes of its name is damaged, and is fetched again.
        if place and place.is_file() and sha256_of(place) == place.name:
            return place
        return self._download(name, entry, entry.uri)

    def local(self, name: str, entry: Entry) -> Path | None:
        """Return the verified file of an entry that has a path of this machine, or None for another one. Raises as
        `pull`."""
        place = local_path(entry.uri) if entry.uri else None
        if place is None:
            return None
        if not place.is_file():
            raise AbsentError(name, str(place))
        try:
            digest = sha256_of(place)
        except OSError as error:
            raise UserError(f"weights {name}: {place} cannot be read ({error.strerror}); check the file") from None
        self._check(name, entry, digest)
        return place

    def copy_to(self, mirror: Mirror, entries: Mapping[str, Entry], files: Mapping[str, Path]) -> None:
        """Copy verified fetched files into a mirror, under their sha256, with their pins.

        entries: name -> entry.
        files: name -> file, as `pull` returned it.
        """
        pins = yaml.safe_load(mirror.read(LOCK)) if mirror.exists(LOCK) else {}
        for name, path in files.items():
            if not mirror.exists(path.name):
                with mirror.writing(path.name) as copy, path.open("rb") as file:
                    shutil.copyfileobj(file, copy)
            if entries[name].sha256 is None:
                pins[entries[name].uri] = path.name
        if pins:
            with mirror.writing(LOCK) as lock:
                lock.write(_lock_text(pins).encode())

    def describe(self, absent: list[AbsentError]) -> str:
        """Return the message for files that are not in their places, with the remedies."""
        local = [error for error in absent if not error.cause]
        remote = [error for error in absent if error.cause]
        lines: list[str] = []
        if local:
            places = ", ".join(f"{error.name} ({error.where})" for error in local)
            lines.append(
                f"weights that are not on this machine: {places}; put the files there, or choose other weights"
            )
        if remote:
            names = [error.name for error in remote]
            lines.append(
                f"weights that cannot be fetched: {', '.join(names)} ({remote[0].cause}); "
                f"run `rollcall weights pull {' '.join(names)}` where there is internet and copy {self._cache} here, "
                f"or set weights.mirror"
            )
        return "\n".join(lines)

    def _download(self, name: str, entry: Entry, uri: str) -> Path:
        """Fetch a file, verify it, then rename it. A file named by its sha256 is therefore always complete and
        correct."""
        expected = self.sha256(entry) or self._mirror_pin(uri)
        causes: list[str] = []
        for source in [f"{self._mirror}/{expected}"] * bool(self._mirror and expected) + [uri]:
            try:
                blocks = _no_web_page(self._fetch(source))
                first = next(blocks, b"")
            except OSError as error:
                causes.append(f"{source}: {_first_line(error)}")
                continue
            try:
                self._cache.mkdir(parents=True, exist_ok=True)
                partial = tempfile.NamedTemporaryFile(dir=self._cache, suffix=".partial", delete=False)  # noqa: SIM115
            except OSError as error:
                raise self._no_cache(error) from None
            path = Path(partial.name)
            try:
                digest = hashlib.sha256()
                with partial:
                    for block in chain([first], blocks):
                        digest.update(block)
                        partial.write(block)
                if expected and digest.hexdigest() != expected:
                    difference = _other_bytes(name, source, expected, digest.hexdigest())
                    raise UserError(f"{difference}; try again, or get the file elsewhere and set weights.mirror")
                self._check(name, entry, digest.hexdigest())
                return path.replace(self._cache / digest.hexdigest())
            except OSError as error:
                causes.append(f"{source}: {_first_line(error)}")
            finally:
                path.unlink(missing_ok=True)
        raise AbsentError(name, uri, "; ".join(causes))

    def _check(self, name: str, entry: Entry, digest: str) -> None:
        """Compare `digest` with the published or pinned hash. Pin it if neither exists."""
        assert entry.uri is not None
        expected = self.sha256(entry)
        if expected is None and not self._may_pin:
            return
        if expected is None:
            # Read it again, because another process may have pinned something since.
            self._pins |= {**_read_lock(self._cache / LOCK), entry.uri: digest}
            try:
                self._cache.mkdir(parents=True, exist_ok=True)
                with tempfile.NamedTemporaryFile("w", dir=self._cache, suffix=".partial", delete=False) as partial:
                    partial.write(_lock_text(self._pins))
                Path(partial.name).replace(self._cache / LOCK)
            except OSError as error:
                raise self._no_cache(error) from None
        elif digest != expected:
            lock = self._cache / LOCK
            remedy = "get the right file" if entry.sha256 else f"if that is meant, remove its line from {lock}"
            raise UserError(f"{_other_bytes(name, entry.uri, expected, digest)}; {remedy}")

    def _no_cache(self, error: OSError) -> UserError:
        return UserError(f"cannot write to {self._cache}: {error.strerror}; set weights.cache to a folder that you own")

    def _mirror_pin(self, uri: str) -> str | None:
        """Return the hash in the mirror's lock file for an address that is pinned nowhere else."""
        if not self._mirror:
            return None
        try:
            text = b"".join(self._fetch(f"{self._mirror}/{LOCK}")).decode()
        except OSError:  # the mirror does not exist, or has no pins
            return None
        return (yaml.safe_load(text) or {}).get(uri)


_digest_by_file: dict[tuple[str, int, int], str] = {}


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file. This process remembers it until the size or modification time changes."""
    state = path.stat()
    key = (str(path.resolve()), state.st_size, state.st_mtime_ns)
    if key not in _digest_by_file:
        with path.open("rb") as file:
            _digest_by_file[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return _digest_by_file[key]


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


def _other_bytes(name: str, where: str, expected: str, got: str) -> str:
    return f"weights {name}: {where} must have sha256 {expected}, got {got}"


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
