"""From what a user names to the files behind it, and from a file to the id of its content."""

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

import pyarrow.parquet as pq
import pyarrow.types as kinds
from fsspec.core import url_to_fs

from pipeline.errors import DataError, UserError, blame_machine
from pipeline.storage.absences import CHECK, no_list, nothing_matches, nothing_there, unknown_protocol
from pipeline.storage.store import FOUND_NOTHING, is_local, plain_cause

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

WHOLE_BYTES = 64 << 20
"""Contents up to this size are hashed whole."""
SAMPLE_BYTES = 1 << 20
NUM_SAMPLES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One input as named.

    name: its path below the folder, prefix or list that named it; its CSV is called after it. named_by: that root.
    etag: what changes when the bytes do, as far as the place can tell without reading them.
    missing: why it cannot be had; null for one that is there. sequence: the recording that it is a piece of. place: in
    the order in which pieces were named. recorded_at: when it begins, as a list says.
    """

    uri: str
    name: str
    named_by: str
    size_bytes: int | None = None
    etag: str | None = None
    missing: str | None = None
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
        if argument.startswith("@"):
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
    return uri.rpartition("/")[0] or "/"


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
    fs, path = url_to_fs(source.uri)
    digest = hashlib.sha256()
    try:
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
    if argument.startswith("@"):
        return f"@{_root(argument[1:])}"
    return _uri(*_filesystem(argument)).rstrip("/") or "/"


def _collect(found: _Collected, line: _Line, named_by: str, output: str, *, listed: bool) -> None:
    uri = line.uri
    fs, path = _filesystem(uri)
    if any(letter in path for letter in "*?[") and not fs.exists(path):
        matches = sorted(fs.glob(path))
        base = path[: min(path.index(letter) for letter in "*?[" if letter in path)].rpartition("/")[0]
        if not matches and not listed:
            raise nothing_matches(uri, base)
        if not matches:
            _miss(found, line, named_by, "nothing matches this pattern")
        for match in sorted(matches, key=_natural):
            _collect_below(found, fs, match, base, line, named_by, output, outright=False)
        return
    try:
        info = fs.info(path)
    except FOUND_NOTHING:
        if not listed:
            raise nothing_there(uri, fs, path) from None
        _miss(found, line, named_by, "there is no such file or folder")
        return
    except Exception as error:
        if not listed:
            raise UserError(f"{uri}: {plain_cause(error)}; {CHECK}") from error
        _miss(found, line, named_by, plain_cause(error))
        return
    base = path if info["type"] == "directory" else path.rpartition("/")[0]
    _collect_below(found, fs, path, base, line, named_by, output, outright=True)


def _collect_below(
    found: _Collected, fs: Any, path: str, base: str, line: _Line, named_by: str, output: str, *, outright: bool
) -> None:
    info = fs.info(path)
    files = {path: info} if info["type"] != "directory" else fs.find(path, detail=True)
    for file in sorted(files, key=_natural):
        details = files[file]
        uri = _uri(fs, file)
        if uri == output or uri.startswith(f"{output}/"):
            continue
        is_outright = outright and file == path
        if not is_outright and not is_known(file):
            found.num_other += 1
            continue
        name = file.removeprefix(base).lstrip("/") or Path(file).name
        found.add(
            Source(
                uri=uri,
                name=name,
                named_by=named_by,
                size_bytes=details.get("size"),
                etag=_etag(details),
                sequence=line.sequence,
                recorded_at=line.recorded_at,
            )
        )


def _miss(found: _Collected, line: _Line, named_by: str, why: str) -> None:
    full = line.uri if "://" in line.uri else os.path.abspath(line.uri)
    found.add(
        Source(
            uri=full,
            name=Path(line.uri).name,
            named_by=named_by,
            missing=why,
            sequence=line.sequence,
            recorded_at=line.recorded_at,
        )
    )


def _read_list(uri: str) -> Iterator[_Line]:
    fs, path = _filesystem(uri)
    try:
        content: bytes = fs.cat_file(path)
    except Exception as error:
        raise no_list(uri, error, plain_cause(error)) from error
    folder = path.rpartition("/")[0]
    for line in _lines(uri, content):
        if "://" in line.uri or line.uri.startswith(("/", "~")):
            yield line
        else:
            # A list lies beside what it names; one made with `ls` in a shell names it from there.
            beside = f"{folder}/{line.uri}"
            yield replace(line, uri=_uri(fs, beside)) if fs.exists(beside) or not Path(line.uri).exists() else line


def _lines(uri: str, content: bytes) -> list[_Line]:
    if uri.lower().endswith(".parquet"):
        table = pq.read_table(io.BytesIO(content))
        _check_columns(uri, table.column_names)
        for field_ in table.schema:
            if field_.name in KINDS and not any(of_kind(field_.type) for of_kind in KINDS[field_.name]):
                raise UserError(
                    f"list {uri}: column `{field_.name}` must hold {TOLD[field_.name]}, holds {field_.type}"
                )
        known = [name for name in ("uri", *KINDS) if name in table.column_names]
        return [_line(uri, row) for row in table.select(known).to_pylist() if row["uri"]]
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"list {uri}: must be UTF-8 text, CSV or Parquet; save it as one of these") from None
    if uri.lower().endswith(".csv"):
        reader = csv.DictReader(io.StringIO(text))
        _check_columns(uri, reader.fieldnames or ())
        return [_line(uri, row) for row in reader if row["uri"] and row["uri"].strip()]
    lines = [line.strip() for line in text.splitlines()]
    return [_Line(line) for line in lines if line and not line.startswith("#") and line != "uri"]


def _check_columns(uri: str, names: Sequence[str]) -> None:
    if "uri" not in names:
        raise UserError(f"list {uri}: needs a column `uri`, has {', '.join(names) or 'none'}; rename one")


def _line(uri: str, row: Mapping[str, Any]) -> _Line:
    """One row of the list at `uri`; what is not said is null or empty."""
    sequence, stated = (str(row.get(name) if row.get(name) is not None else "").strip() for name in KINDS)
    recorded_at = None
    if stated:
        try:
            recorded_at = datetime.fromisoformat(stated)
        except ValueError:
            raise UserError(
                f"list {uri}: recorded_at of {row['uri']} must be {TOLD['recorded_at']}, got {stated!r}"
            ) from None
        recorded_at = recorded_at.replace(tzinfo=recorded_at.tzinfo or UTC).astimezone(UTC)
    return _Line(str(row["uri"]).strip(), sequence or None, recorded_at)


def _filesystem(uri: str) -> tuple[Any, str]:
    try:
        return url_to_fs(uri if "://" in uri else os.path.abspath(Path(uri).expanduser()))
    except (ValueError, ImportError) as error:
        raise unknown_protocol(uri, error) from error


def _uri(fs: Any, path: str) -> str:
    return path if is_local(fs) else fs.unstrip_protocol(path)


def _etag(details: dict[str, Any]) -> str | None:
    for key in ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified"):
        if details.get(key):
            return str(details[key]).strip('"')
    return None
