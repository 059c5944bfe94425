"""From what a user names to the files behind it, and from a file to the id of its content."""

import codecs
import csv
import hashlib
import io
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as kinds

from pipeline.errors import DataError, UserError, blame_machine
from pipeline.storage.absences import CHECK, no_list, nothing_matches, nothing_there
from pipeline.storage.places import FILE, MAGIC, local_path, place, uri_of
from pipeline.storage.store import FOUND_NOTHING, plain_cause
from pipeline.storage.walk import Entry, is_inside, look, match, walk
from pipeline.text import storable

# fmt: off
VIDEO_SUFFIXES = frozenset(
    {
        ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mts", ".mpg", ".mpeg", ".vob", ".wmv",
        ".asf", ".flv", ".f4v", ".3gp", ".3g2", ".ogv", ".mxf", ".dv", ".h264", ".h265", ".hevc", ".264", ".265",
        ".mjpg", ".mjpeg", ".y4m", ".divx", ".rm", ".rmvb",
    }
)
# fmt: on
PICTURE_SUFFIXES = frozenset(
    {
        ".jpg",
        ".jpeg",
        ".png",
        ".bmp",
        ".webp",
        ".tif",
        ".tiff",
        ".gif",
        ".avif",
        ".heic",
        ".heif",
        ".hif",
    }
)
KNOWN_SUFFIXES = VIDEO_SUFFIXES | PICTURE_SUFFIXES

BY_FOLDER = "folder"
TEXTS = (kinds.is_string, kinds.is_large_string, kinds.is_dictionary, kinds.is_null)
KINDS = {"sequence": (*TEXTS, kinds.is_integer), "recorded_at": (*TEXTS, kinds.is_timestamp)}
"""The columns of a list besides `uri`, and of what types they may be in Parquet."""
TOLD = {"sequence": "names or whole numbers", "recorded_at": "times, as 2024-05-01T10:00:00Z"}

NOTHING_THERE = "there is no such file or folder"
NOTHING_MATCHES = "nothing matches this pattern"

WHOLE_BYTES = 64 << 20
"""Contents up to this size are hashed whole."""
SAMPLE_BYTES = 1 << 20
NUM_SAMPLES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One input as named.

    name: its path below the folder, prefix or list that named it; its CSV is called after it. named_by: that root.
    etag: what changes when the bytes do, as far as the place can tell without reading them. missing: why it cannot be
    had; null for one that is there. is_unlisted: it is a folder of which nobody knows what is in it. sequence: the
    recording that it is a piece of. place: in the order in which pieces were named. recorded_at: when it begins, as a
    list says. All text is UTF-8.
    """

    uri: str
    name: str
    named_by: str
    size_bytes: int | None = None
    etag: str | None = None
    missing: str | None = None
    is_unlisted: bool = False
    sequence: str | None = None
    place: int = 0
    recorded_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """sources: in order, each uri once. num_other: files below folders that by name are neither video nor picture.

    roots: what was named, each as an absolute path, a full URI, a pattern of these, or @ and a list's place.
    """

    sources: tuple[Source, ...]
    num_other: int
    roots: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Line:
    """What a list says of one input."""

    uri: str
    sequence: str | None = None
    recorded_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class _Candidate:
    """What may be a source. outright: by name it need not be a video or picture."""

    entry: Entry
    uri: str
    outright: bool = False


@dataclass(slots=True)
class _Collected:
    advance: Callable[[], None]
    by_uri: dict[str, Source] = field(default_factory=dict)
    num_other: int = 0
    num_named: int = 0

    def add(self, source: Source) -> None:
        """A file that is named twice is one source, and belongs to the sequence that either name gives it."""
        self.num_named += 1
        self.advance()
        known = self.by_uri.get(source.uri)
        if known is None:
            self.by_uri[source.uri] = replace(source, place=self.num_named)
        elif known.sequence is None:
            told = {"sequence": source.sequence, "recorded_at": source.recorded_at}
            self.by_uri[source.uri] = replace(known, place=self.num_named, **told)
        elif source.sequence not in (None, known.sequence):
            raise UserError(
                f"{source.uri} is named in two sequences, {known.sequence} and {source.sequence}; a file has one"
            )


def list_sources(
    named: Sequence[str], output: str, sequence: str | None = None, advance: Callable[[], None] = lambda: None
) -> Listing:
    """Find what `named` stands for: files, folders, globs, prefixes, `@LIST`s. Nothing below `output` is ever a source.

    sequence: 'folder' makes the videos of each folder one sequence, called as the folder, but for those to which a list
    gives one. advance: called for each source.

    Raises UserError where something named outright does not exist. A file that only a list names and that is
    missing is a Source with `missing`: one rotten line does not stop the others.
    """
    if sequence not in (None, BY_FOLDER):
        raise UserError(f"--sequence {sequence}: there is one way, {BY_FOLDER}; names of sequences stand in a list")
    found = _Collected(advance)
    roots: list[str] = []
    for argument in named:
        root = _root(argument)
        roots.append(root)
        if is_list(argument):
            for line in _read_list(argument[1:]):
                _collect(found, line, root, output, listed=True)
        else:
            _collect(found, _Line(argument), root, output, listed=False)
    sources = [
        _in_folder(source) if sequence == BY_FOLDER else source
        for source in sorted(found.by_uri.values(), key=lambda source: source.uri)
    ]
    return Listing(tuple(sources), found.num_other, tuple(roots))


def in_order(sequence: str, known: Sequence[str], named: Sequence[str]) -> list[str]:
    """The uris of a sequence of which `known` stood in this order before, and `named` are named in this order now.

    What is not named now keeps its place behind what stood before it. A folder's own files are in order of their names,
    in which numbers count as numbers.
    """
    ordered = list(named)
    at = 0
    for uri in known:
        if uri in ordered:
            at = ordered.index(uri) + 1
        else:
            ordered.insert(at, uri)
            at += 1
    if all(_folder(uri) == sequence for uri in ordered):
        ordered.sort(key=_natural)
    return ordered


def _in_folder(source: Source) -> Source:
    """A source in the sequence of its folder; a picture is no piece of a recording."""
    if source.sequence or source.missing or Path(source.uri).suffix.lower() in PICTURE_SUFFIXES:
        return source
    return replace(source, sequence=_folder(source.uri))


def _folder(uri: str) -> str:
    path = local_path(uri)
    return uri.rpartition("/")[0] if path is None else uri_of(path.rpartition("/")[0] or "/")


def _natural(uri: str) -> tuple[list[str | int], str]:
    parts = re.split(r"(\d+)", uri.lower())
    return [int(part) if number % 2 else part for number, part in enumerate(parts)], uri


def is_known(path: str) -> bool:
    """Whether a file in a folder is a source, by its name."""
    return Path(path).suffix.lower() in KNOWN_SUFFIXES and not Path(path).name.startswith(".")


def content_id(source: Source) -> str:
    """20 hex digits for the content of `source`, whatever its name.

    Up to 64 MB all bytes count; above, the size and 16 samples of 1 MB at even distances, the first and the last among
    them: two files that differ in between only are taken for one. Raises DataError where it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        fs, path = place(source.uri)
        size = int(fs.info(path)["size"])
        with fs.open(path, "rb") as file:
            if size <= WHOLE_BYTES:
                while block := file.read(SAMPLE_BYTES):
                    digest.update(block)
            else:
                digest.update(size.to_bytes(8, "big"))
                for i in range(NUM_SAMPLES):
                    file.seek((size - SAMPLE_BYTES) * i // (NUM_SAMPLES - 1))
                    digest.update(file.read(SAMPLE_BYTES))
    except Exception as error:
        blame_machine(error)
        raise DataError(f"cannot be read: {plain_cause(error)}") from error
    return digest.hexdigest()[:20]


def _root(argument: str) -> str:
    """An argument by one name, wherever it is typed and however it is spelt."""
    if is_list(argument):
        return f"@{_root(argument[1:])}"
    if (path := _typed_path(argument)) is not None:
        return uri_of(path)
    fs, path = place(argument)
    return fs.unstrip_protocol(path).rstrip("/")


def is_list(argument: str) -> bool:
    """Whether an argument names a list: the shell expands * to a file that is called @… as well."""
    return argument.startswith("@") and (os.path.lexists(argument[1:]) or not os.path.lexists(argument))


def _typed_path(argument: str) -> str | None:
    """The path that a person means on this machine; None for other places. File managers write file:///a%20b."""
    path = local_path(argument)
    if path is not None and argument.startswith(FILE) and not os.path.lexists(path):
        decoded = os.path.abspath(unquote(argument.removeprefix(FILE)))
        return decoded if os.path.lexists(decoded) else path
    return path


def _collect(found: _Collected, line: _Line, named_by: str, output: str, *, listed: bool) -> None:
    try:
        candidates, base = _find(line.uri, output)
    except (DataError, UserError) as error:
        if not listed:
            raise _absence(line.uri, error) from None
        _miss(found, line, named_by, str(error))
        return
    for candidate in sorted(candidates, key=lambda candidate: _natural(candidate.entry.path)):
        _add(found, candidate, base, line, named_by)


def _absence(uri: str, error: DataError | UserError) -> UserError:
    """What a person is told of a source that is named on the command line and cannot be had."""
    if isinstance(error, UserError):
        return error
    path = _typed_path(uri)
    fs, path = place(uri) if path is None else place(uri_of(path))
    if str(error) == NOTHING_THERE:
        return nothing_there(uri, fs, path)
    if str(error) == NOTHING_MATCHES:
        return nothing_matches(uri, _base(path))
    return UserError(f"{uri}: {error}; {CHECK}")


def _base(pattern: str) -> str:
    """The folder or prefix above the first wildcard."""
    magic = MAGIC.search(pattern)
    return pattern[: magic.start()].rpartition("/")[0] if magic else pattern


def _find(uri: str, output: str) -> tuple[list[_Candidate], str]:
    """What one argument or line stands for, and the folder or prefix by which their names are shortened.

    Raises DataError where nothing is there or it cannot be listed, and UserError for an unknown protocol.
    """
    if (path := _typed_path(uri)) is not None:
        return _find_files(path, local_path(output))
    fs, path = place(uri)
    try:
        return _find_objects(fs, path, output)
    except FOUND_NOTHING:
        raise DataError(NOTHING_THERE) from None
    except (DataError, UserError):
        raise
    except Exception as error:
        raise DataError(plain_cause(error)) from error


def _find_files(path: str, output: str | None) -> tuple[list[_Candidate], str]:
    avoided = os.path.realpath(output) if output else os.devnull
    above = path.rpartition("/")[0]
    try:
        entry = look(path)
    except FOUND_NOTHING:
        if not MAGIC.search(path):
            raise DataError(NOTHING_THERE) from None
        return _matching(path, avoided), _base(path)
    except OSError as error:
        raise DataError(plain_cause(error)) from error
    if is_inside(path, avoided):
        return [], path
    if not entry.is_folder:
        return [_Candidate(entry, uri_of(path), outright=True)], above
    entries = list(walk(path, avoided))
    if entries and entries[0].path == path:
        raise DataError(str(entries[0].why_not))
    return [_Candidate(each, uri_of(each.path)) for each in entries], path


def _matching(pattern: str, avoided: str) -> list[_Candidate]:
    try:
        matches = list(match(pattern, avoided))
    except ValueError as error:
        raise DataError(str(error)) from error
    entries = {entry.path: entry for entry in matches if not entry.is_folder or entry.is_unlisted}
    for entry in matches:
        if entry.is_folder and not entry.is_unlisted:
            entries |= {each.path: each for each in walk(entry.path, avoided)}
    if not matches:
        raise DataError(NOTHING_MATCHES)
    return [_Candidate(entry, uri_of(entry.path)) for entry in entries.values()]


def _find_objects(fs: Any, path: str, output: str) -> tuple[list[_Candidate], str]:
    """Objects of a store. A prefix may be an object as well: a mark of a folder, if it is empty."""
    above = path.rpartition("/")[0]
    found: dict[str, Any] = {}
    outright, base = None, path
    if MAGIC.search(path) and not fs.exists(path):
        base = _base(path)
        for name in fs.glob(path):
            found |= fs.find(name, detail=True)
        if not found:
            raise DataError(NOTHING_MATCHES)
    else:
        info = fs.info(path)
        is_file = info["type"] != "directory"
        below = {} if is_file and (is_known(path) or "http" in fs.protocol) else fs.find(f"{path}/", detail=True)
        found = {name: details for name, details in below.items() if name != path}
        if is_file and not (found and not info["size"]):
            outright, base = path, path if found else above
            found[path] = info
    candidates = []
    for name, details in found.items():
        uri = fs.unstrip_protocol(name)
        if name.endswith("/") and not details.get("size"):
            continue  # it stands for a folder
        if uri != output and not uri.startswith(f"{output}/"):
            # Some libraries read what follows as the version of another object.
            why_not = "its key holds ?versionId=" if "?versionId=" in name and name != outright else None
            entry = Entry(path=name, size_bytes=details.get("size"), etag=_etag(details), why_not=why_not)
            candidates.append(_Candidate(entry, uri, outright=name == outright))
    return candidates, base


def _add(found: _Collected, candidate: _Candidate, base: str, line: _Line, named_by: str) -> None:
    entry = candidate.entry
    if not (candidate.outright or entry.is_unlisted or is_known(entry.path)):
        found.num_other += 1
        return
    name = entry.path.removeprefix(base).lstrip("/") or entry.path.rpartition("/")[2]
    found.add(
        Source(
            uri=candidate.uri,
            name=storable(name),
            named_by=named_by,
            size_bytes=entry.size_bytes,
            etag=entry.etag,
            missing=storable(entry.why_not) if entry.why_not else None,
            is_unlisted=entry.is_unlisted,
            sequence=line.sequence,
            recorded_at=line.recorded_at,
        )
    )


def _miss(found: _Collected, line: _Line, named_by: str, why: str) -> None:
    path = _typed_path(line.uri)
    found.add(
        Source(
            uri=storable(line.uri) if path is None else uri_of(path),
            name=storable(Path(line.uri).name),
            named_by=named_by,
            missing=storable(why),
            sequence=line.sequence,
            recorded_at=line.recorded_at,
        )
    )


def _read_list(uri: str) -> Iterator[_Line]:
    try:
        fs, path = place(uri) if (typed := _typed_path(uri)) is None else place(uri_of(typed))
        content: bytes = fs.cat_file(path)
    except Exception as error:
        raise no_list(uri, error, plain_cause(error)) from error
    folder = path.rpartition("/")[0]
    here = uri_of(folder or "/") if local_path(uri) is not None else fs.unstrip_protocol(folder)
    for line in _lines(uri, content):
        known = next(filter(None, (_existing(each, here) for each in _spellings(line.uri))), None)
        if known or not (_is_text_list(uri) and line.uri.lstrip().startswith("#")):
            name = line.uri.strip()
            yield replace(line, uri=known or (name if _is_absolute(name) else _beside(name, here)))


def _spellings(name: str) -> Iterator[str]:
    """A name of a list as it stands there, without spaces around it, and with its bytes as Windows writes letters."""
    yield name
    yield name.strip()
    if storable(name) != name:
        yield _windows(name.strip())


def _existing(name: str, here: str) -> str | None:
    """Where a name of a list leads, if something is there. It lies beside the list, or in the current folder: a list
    that was made with `ls` names it from there."""
    if "://" in name:
        return name
    for each in (name,) if name.startswith("/") else (_beside(name, here), name):
        path = local_path(each)
        if os.path.lexists(path) if path is not None else _exists(each):
            return each if path is None else uri_of(path)
    return None


def _beside(name: str, here: str) -> str:
    """A name of a list that lies in the folder or prefix `here`."""
    folder = local_path(here)
    return f"{here}/{name}" if folder is None else uri_of(os.path.abspath(os.path.join(folder, name)))


def _exists(uri: str) -> bool:
    fs, path = place(uri)
    return bool(fs.exists(path))


def _is_absolute(name: str) -> bool:
    return "://" in name or name.startswith(("/", "~"))


def _is_text_list(uri: str) -> bool:
    """Whether a list is one of names alone, in which # begins a comment."""
    return not uri.lower().endswith((".csv", ".parquet"))


def _windows(text: str) -> str:
    """Text whose stray bytes were letters in the code of western Windows; any other as it is."""
    if storable(text) == text:
        return text
    return text.encode("utf-8", "surrogateescape").decode("cp1252", "replace")


def _lines(uri: str, content: bytes) -> list[_Line]:
    if uri.lower().endswith(".parquet"):
        return _lines_of_parquet(uri, content)
    text = _decoded(uri, content)
    if _is_text_list(uri):
        # `find -print0` writes names apart with zeros: some hold an end of line.
        lines = text.split("\0") if "\0" in text else [line.removesuffix("\r") for line in text.split("\n")]
        return [_Line(line) for line in lines if line.strip() and line.strip() != "uri"]
    for delimiter in ",;\t":
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
        try:
            if "uri" in (reader.fieldnames or ()):
                return [_line(uri, row) for row in reader if row["uri"] and row["uri"].strip()]
        except csv.Error as error:
            raise UserError(f"list {uri}: line {reader.line_num} is no CSV: {error}; correct it") from None
    _check_columns(uri, next(csv.reader(io.StringIO(text, newline="")), ()))
    return []


def _lines_of_parquet(uri: str, content: bytes) -> list[_Line]:
    try:
        table = pq.read_table(io.BytesIO(content))
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"list {uri}: cannot be read as Parquet: {plain_cause(error)}; write it again") from None
    _check_columns(uri, table.column_names)
    for field_ in table.schema:
        if field_.name in KINDS and not any(of_kind(field_.type) for of_kind in KINDS[field_.name]):
            raise UserError(f"list {uri}: column `{field_.name}` must hold {TOLD[field_.name]}, holds {field_.type}")
    known = [name for name in ("uri", *KINDS) if name in table.column_names]
    return [_line(uri, row) for row in table.select(known).to_pylist() if row["uri"]]


def _decoded(uri: str, content: bytes) -> str:
    """The text of a list. Bytes that are not UTF-8 stay, as in the names of files that a shell lists."""
    for mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        if content.startswith(mark):
            return content.decode("utf-16", "replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        if b"\0" in content:
            raise UserError(f"list {uri}: must be text, CSV or Parquet (a file .parquet)") from None
        return content.decode("utf-8-sig", "surrogateescape")


def _check_columns(uri: str, names: Sequence[str]) -> None:
    if "uri" not in names:
        raise UserError(f"list {uri}: needs a column `uri`, has {', '.join(names) or 'none'}; rename one")


def _line(uri: str, row: Mapping[str, Any]) -> _Line:
    """One row of the list at `uri`; what is not said is null or empty."""
    sequence, stated = (_windows(str(row.get(name) if row.get(name) is not None else "").strip()) for name in KINDS)
    recorded_at = None
    if stated:
        try:
            recorded_at = datetime.fromisoformat(stated)
        except ValueError:
            raise UserError(
                f"list {uri}: recorded_at of {storable(str(row['uri']))} must be {TOLD['recorded_at']}, got {stated!r}"
            ) from None
        recorded_at = recorded_at.replace(tzinfo=recorded_at.tzinfo or UTC).astimezone(UTC)
    named = row["uri"]
    return _Line(os.fsdecode(named) if isinstance(named, bytes) else str(named), sequence or None, recorded_at)


def _etag(details: dict[str, Any]) -> str | None:
    for key in ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified"):
        if details.get(key):
            return str(details[key]).strip('"')
    return None
