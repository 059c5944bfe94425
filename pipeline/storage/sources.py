"""From what a user names to the files behind it, and from a file to the id of its content."""

import csv
import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from fsspec.core import url_to_fs

from pipeline.errors import DataError, UserError
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
    }
)
KNOWN_SUFFIXES = VIDEO_SUFFIXES | PICTURE_SUFFIXES

WHOLE_BYTES = 64 << 20
"""Contents up to this size are hashed whole."""
SAMPLE_BYTES = 1 << 20
NUM_SAMPLES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One input as named.

    name: its path below the folder, prefix or list that named it; its CSV is called after it. named_by: that root.
    etag: what changes when the bytes do, as far as the place can tell without reading them.
    missing: why it cannot be had; null for one that is there.
    """

    uri: str
    name: str
    named_by: str
    size_bytes: int | None = None
    etag: str | None = None
    missing: str | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """sources: in order, each uri once. num_other: files below folders that by name are neither video nor picture.

    roots: what was named, each as an absolute path, a full URI, a pattern of these, or @ and a list's place.
    """

    sources: tuple[Source, ...]
    num_other: int
    roots: tuple[str, ...] = ()


@dataclass(slots=True)
class _Collected:
    by_uri: dict[str, Source] = field(default_factory=dict)
    num_other: int = 0


def list_sources(named: Sequence[str], output: str) -> Listing:
    """Find what `named` stands for: files, folders, globs, prefixes, `@LIST`s. Nothing below `output` is ever a source.

    Raises UserError where something named outright does not exist. A file that only a list names and that is missing is
    a Source with `missing`: one rotten line does not stop the others.
    """
    found = _Collected()
    roots: list[str] = []
    for argument in named:
        root = _root(argument)
        roots.append(root)
        if argument.startswith("@"):
            for uri in _read_list(argument[1:]):
                _collect(found, uri, root, output, listed=True)
        else:
            _collect(found, argument, root, output, listed=False)
    sources = tuple(sorted(found.by_uri.values(), key=lambda source: source.uri))
    return Listing(sources, found.num_other, tuple(roots))


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
        raise DataError(f"cannot be read: {plain_cause(error)}") from error
    return digest.hexdigest()[:20]


def _root(argument: str) -> str:
    """An argument by one name, wherever it is typed and however it is spelt."""
    if argument.startswith("@"):
        return f"@{_root(argument[1:])}"
    return _uri(*_filesystem(argument)).rstrip("/") or "/"


def _collect(found: _Collected, uri: str, named_by: str, output: str, *, listed: bool) -> None:
    fs, path = _filesystem(uri)
    if any(letter in path for letter in "*?[") and not fs.exists(path):
        matches = sorted(fs.glob(path))
        if not matches:
            _miss(found, uri, named_by, "nothing matches this pattern", listed=listed)
        base = path[: min(path.index(letter) for letter in "*?[" if letter in path)].rpartition("/")[0]
        for match in matches:
            _collect_below(found, fs, match, base, named_by, output, outright=False)
        return
    try:
        info = fs.info(path)
    except FOUND_NOTHING:
        _miss(found, uri, named_by, "there is no such file or folder", listed=listed)
        return
    except Exception as error:
        if listed:
            _miss(found, uri, named_by, plain_cause(error), listed=True)
            return
        raise UserError(f"{uri}: {plain_cause(error)}; check the name, your permissions and credentials") from error
    base = path if info["type"] == "directory" else path.rpartition("/")[0]
    _collect_below(found, fs, path, base, named_by, output, outright=True)


def _collect_below(
    found: _Collected, fs: Any, path: str, base: str, named_by: str, output: str, *, outright: bool
) -> None:
    info = fs.info(path)
    files = {path: info} if info["type"] != "directory" else fs.find(path, detail=True)
    for file, details in sorted(files.items()):
        uri = _uri(fs, file)
        if uri == output or uri.startswith(f"{output}/"):
            continue
        is_outright = outright and file == path
        if not is_outright and not is_known(file):
            found.num_other += 1
            continue
        name = file.removeprefix(base).lstrip("/") or Path(file).name
        found.by_uri.setdefault(
            uri, Source(uri=uri, name=name, named_by=named_by, size_bytes=details.get("size"), etag=_etag(details))
        )


def _miss(found: _Collected, uri: str, named_by: str, why: str, *, listed: bool) -> None:
    if not listed:
        raise UserError(f"{uri}: {why}")
    full = uri if "://" in uri else os.path.abspath(uri)
    found.by_uri.setdefault(full, Source(uri=full, name=Path(uri).name, named_by=named_by, missing=why))


def _read_list(uri: str) -> Iterator[str]:
    fs, path = _filesystem(uri)
    try:
        content: bytes = fs.cat_file(path)
    except Exception as error:
        raise UserError(f"list {uri}: {plain_cause(error)}") from error
    folder = path.rpartition("/")[0]
    for line in _lines(uri, content):
        if "://" in line or line.startswith(("/", "~")):
            yield line
        else:
            # A list lies beside what it names; one made with `ls` in a shell names it from there.
            beside = f"{folder}/{line}"
            yield _uri(fs, beside) if fs.exists(beside) or not Path(line).exists() else line


def _lines(uri: str, content: bytes) -> list[str]:
    if uri.lower().endswith(".parquet"):
        table = pq.read_table(io.BytesIO(content))
        if "uri" not in table.column_names:
            raise UserError(f"list {uri}: needs a column `uri`, has {', '.join(table.column_names)}")
        return [str(value) for value in table["uri"].to_pylist() if value]
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"list {uri}: must be UTF-8 text, CSV or Parquet") from None
    if uri.lower().endswith(".csv"):
        reader = csv.DictReader(io.StringIO(text))
        if "uri" not in (reader.fieldnames or ()):
            raise UserError(f"list {uri}: needs a column `uri`, has {', '.join(reader.fieldnames or ())}")
        return [row["uri"].strip() for row in reader if row["uri"] and row["uri"].strip()]
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("#") and line != "uri"]


def _filesystem(uri: str) -> tuple[Any, str]:
    try:
        return url_to_fs(uri if "://" in uri else os.path.abspath(Path(uri).expanduser()))
    except (ValueError, ImportError) as error:
        raise UserError(f"{uri}: {plain_cause(error)}") from error


def _uri(fs: Any, path: str) -> str:
    return path if is_local(fs) else fs.unstrip_protocol(path)


def _etag(details: dict[str, Any]) -> str | None:
    for key in ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified"):
        if details.get(key):
            return str(details[key]).strip('"')
    return None
