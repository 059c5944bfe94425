"""Finding the files that a user names, and the id of the content of a file."""

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
from pipeline.storage.faults import FOUND_NOTHING, plain_cause
from pipeline.storage.places import FILE, MAGIC, local_path, place, uri_of
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
"""The columns of a list besides `uri`, and the types that each may have in Parquet."""
TOLD = {"sequence": "names or whole numbers", "recorded_at": "times, as 2024-05-01T10:00:00Z"}

NOTHING_THERE = "there is no such file or folder"
NOTHING_MATCHES = "nothing matches this pattern"

WHOLE_BYTES = 64 << 20
"""The largest content that is hashed completely."""
SAMPLE_BYTES = 1 << 20
NUM_SAMPLES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One input as named. All text is UTF-8.

    uri: the address of the file.
    name: the path below the folder, prefix or list that named the source. The name of its CSV comes from it.
    named_by: that folder, prefix or list.
    size_bytes: the size of the file. None if the place does not state it.
    etag: changes when the bytes change, as far as the place can tell without reading them. None if unknown.
    missing: the reason why the file cannot be read. None for a file that exists.
    is_unlisted: whether the source is a folder that cannot be listed.
    sequence: the recording that the file is a piece of. None if there is none.
    place: the position in the order in which the pieces were named.
    recorded_at: the start of the recording, as a list states it. None if not stated.
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
    """The result of a search for sources.

    sources: the sources in order, each uri once.
    num_other: the number of files below folders whose names are neither those of videos nor of pictures.
    roots: the arguments, each as an absolute path, a full URI, a pattern of these, or @ and the place of a list.
    """

    sources: tuple[Source, ...]
    num_other: int
    roots: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Line:
    """One input in a list.

    uri: the address or name in the list.
    sequence: the recording that the file is a piece of. None if not stated.
    recorded_at: the start of the recording, UTC. None if not stated.
    """

    uri: str
    sequence: str | None = None
    recorded_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A possible source.

    entry: the file or folder.
    uri: its address.
    outright: whether it was named itself, so that any name is accepted.
    """

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
        """Add a source. A file that is named twice is one source, in the sequence that either name states."""
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
    """Find the sources that `named` stands for: files, folders, globs, prefixes and `@LIST`s.

    sequence: 'folder' makes the videos of each folder one sequence with the folder's name, except those to which a
        list gives a sequence.
    advance: called once for each source.

    Nothing below `output` is ever a source. Raises UserError if something named on the command line does not exist.
    A missing file that only a list names becomes a Source with `missing`, so that one bad line does not stop the
    others.
    """
    if sequence not in (None, BY_FOLDER):
        raise UserError(f"--sequence {sequence}: there is one way, {BY_FOLDER}; names of sequences stand in a list")
    found = _Collected(advance)
    roots: list[str] = []
    for argument in named:
        if not argument.strip():
            raise UserError("a source is an empty text; name a file, folder, pattern or list (is a variable not set?)")
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
    """Return the uris of a sequence in order.

    known: the uris of the sequence in their earlier order.
    named: the uris in the order in which they are named now.

    A uri that is not named now keeps its place behind the uri that preceded it. The files of a folder's own sequence
    are sorted by name, and numbers in names count as numbers.
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
    """Return a source as part of the sequence of its folder. A picture is never part of a recording."""
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
    """Return whether the name of a file in a folder makes it a source."""
    return Path(path).suffix.lower() in KNOWN_SUFFIXES and not Path(path).name.startswith(".")


def content_id(source: Source) -> str:
    """Return 20 hex digits that identify the content of `source`, whatever its name.

    Up to 64 MiB, all bytes count. Above, the size and 16 samples of 1 MiB at even distances count, which include the
    first and the last MiB. Two files that differ only between the samples get the same id. Raises DataError if the
    source cannot be read.
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
    """Return the one form of an argument that stands for all its spellings, from any current folder."""
    if is_list(argument):
        return f"@{_root(argument[1:])}"
    if (path := _typed_path(argument)) is not None:
        return uri_of(path)
    fs, path = place(argument)
    return fs.unstrip_protocol(path).rstrip("/")


def is_list(argument: str) -> bool:
    """Return whether an argument names a list. It may also be a file named @…, because the shell expands * to such
    files."""
    return argument.startswith("@") and (os.path.lexists(argument[1:]) or not os.path.lexists(argument))


def _typed_path(argument: str) -> str | None:
    """Return the path on this machine that a person means, or None for other places. File managers write
    file:///a%20b."""
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
    """Return the error for a source on the command line that cannot be read."""
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
    """Return the folder or prefix above the first wildcard."""
    magic = MAGIC.search(pattern)
    return pattern[: magic.start()].rpartition("/")[0] if magic else pattern


def _find(uri: str, output: str) -> tuple[list[_Candidate], str]:
    """Return the candidates that one argument or line stands for, and the folder or prefix that is cut from their
    names.

    Raises DataError if nothing exists there or it cannot be listed, and UserError for an unknown protocol.
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
    """Find objects in a store. A prefix may also be an object: if that is empty, it only marks a folder."""
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
            continue  # it marks a folder
        if uri != output and not uri.startswith(f"{output}/"):
            # Some libraries read the text after it as the version of another object.
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
    """Yield the possible forms of a name in a list: unchanged, without spaces around it, and with its bytes read as
    cp1252."""
    yield name
    yield name.strip()
    if storable(name) != name:
        yield _windows(name.strip())


def _existing(name: str, here: str) -> str | None:
    """Return the place of a name in a list if something exists there, or None.

    The file lies beside the list or in the current folder, because a list made with `ls` holds names relative to
    that.
    """
    if "://" in name:
        return name
    for each in (name,) if name.startswith("/") else (_beside(name, here), name):
        path = local_path(each)
        if os.path.lexists(path) if path is not None else _exists(each):
            return each if path is None else uri_of(path)
    return None


def _beside(name: str, here: str) -> str:
    """Return the place of a name in a list that lies in the folder or prefix `here`."""
    folder = local_path(here)
    return f"{here}/{name}" if folder is None else uri_of(os.path.abspath(os.path.join(folder, name)))


def _exists(uri: str) -> bool:
    fs, path = place(uri)
    return bool(fs.exists(path))


def _is_absolute(name: str) -> bool:
    return "://" in name or name.startswith(("/", "~"))


def _is_text_list(uri: str) -> bool:
    """Return whether a list holds only names, so that # begins a comment."""
    return not uri.lower().endswith((".csv", ".parquet"))


def _windows(text: str) -> str:
    """Return text with its stray bytes read as cp1252 (western Windows). Other text is unchanged."""
    if storable(text) == text:
        return text
    return text.encode("utf-8", "surrogateescape").decode("cp1252", "replace")


def _lines(uri: str, content: bytes) -> list[_Line]:
    if uri.lower().endswith(".parquet"):
        return _lines_of_parquet(uri, content)
    text = _decoded(uri, content)
    if _is_text_list(uri):
        # `find -print0` separates names with zero bytes, because some names contain a line end.
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
        table = pq.ParquetFile(io.BytesIO(content)).read(use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"list {uri}: cannot be read as Parquet: {plain_cause(error)}; write it again") from None
    _check_columns(uri, table.column_names)
    for field_ in table.schema:
        if field_.name in KINDS and not any(of_kind(field_.type) for of_kind in KINDS[field_.name]):
            raise UserError(f"list {uri}: column `{field_.name}` must hold {TOLD[field_.name]}, holds {field_.type}")
    known = [name for name in ("uri", *KINDS) if name in table.column_names]
    return [_line(uri, row) for row in table.select(known).to_pylist() if row["uri"]]


def _decoded(uri: str, content: bytes) -> str:
    """Return the text of a list. Bytes that are not UTF-8 are kept, as in file names that a shell lists."""
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
    """Return one row of the list at `uri`. A value that is not stated is null or empty."""
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
