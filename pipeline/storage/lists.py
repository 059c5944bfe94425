"""Read the lists of sources that `@LIST` names: text, CSV or Parquet."""

import codecs
import csv
import io
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as kinds

from pipeline.errors import UserError
from pipeline.storage.absences import no_list
from pipeline.storage.faults import plain_cause
from pipeline.storage.places import local_path, place, typed_path, uri_of
from pipeline.text import storable

LISTED_FROM = 20
"""The number of names below one prefix from which a list of the prefix is cheaper than a request for each name."""
TEXTS = (kinds.is_string, kinds.is_large_string, kinds.is_dictionary, kinds.is_null)
KINDS = {
    "sequence": (*TEXTS, kinds.is_integer),
    "recorded_at": (*TEXTS, kinds.is_timestamp),
    "size": (*TEXTS, kinds.is_integer),
    "etag": TEXTS,
}
"""The columns of a list besides `uri`, and the types that each may have in Parquet."""
FORMS = {
    "sequence": "names or whole numbers",
    "recorded_at": "times, as 2024-05-01T10:00:00Z",
    "size": "whole numbers of bytes",
    "etag": "texts",
}
"""The values of these columns, in the words of a message."""


@dataclass(frozen=True, slots=True)
class Line:
    """One input in a list.

    uri: the address or name in the list.
    sequence: the recording that the file is a piece of. None if not stated.
    recorded_at: the start of the recording, UTC. None if not stated.
    size_bytes: the size of the object. None if not stated.
    etag: its ETag. None if not stated.
    """

    uri: str
    sequence: str | None = None
    recorded_at: datetime | None = None
    size_bytes: int | None = None
    etag: str | None = None

    @property
    def is_object(self) -> bool:
        """Return whether the list states everything about an object, so that no request is needed."""
        return self.size_bytes is not None and self.etag is not None


def is_list(argument: str) -> bool:
    """Return whether an argument `@NAME` stands for the list NAME. It stands for the file `@NAME` if only that
    exists, because a shell may have expanded `*` to it."""
    return argument.startswith("@") and (os.path.lexists(argument[1:]) or not os.path.lexists(argument))


def read_list(uri: str) -> Iterator[Line]:
    """Yield the inputs in the list at `uri`. Raises UserError if the list cannot be read.

    An object whose size and ETag the list states is not asked for.
    """
    try:
        fs, path = place(uri) if (typed := typed_path(uri)) is None else place(uri_of(typed))
        content: bytes = fs.cat_file(path)
    except Exception as error:
        raise no_list(uri, error, plain_cause(error)) from error
    folder = path.rpartition("/")[0]
    here = uri_of(folder or "/") if local_path(uri) is not None else fs.unstrip_protocol(folder)
    lines = _lines(uri, content)
    listed = _list_folders([line.uri.strip() for line in lines if not line.is_object], here)
    try:
        for line in lines:
            name = line.uri.strip()
            place_of_line = name if _is_absolute(name) else _beside(name, here)
            if line.is_object and local_path(place_of_line) is None:
                yield replace(line, uri=place_of_line)
                continue
            known = next(filter(None, (_existing(name, here) for name in _spellings(line.uri))), None)
            if known or not (_is_text_list(uri) and line.uri.lstrip().startswith("#")):
                yield replace(line, uri=known or place_of_line)
    finally:
        for fs in listed:
            fs.invalidate_cache()


def _list_folders(names: Sequence[str], here: str) -> list[Any]:
    """List each prefix that many names in a list share, so that fsspec needs no request for each of them.

    Return the file systems, which keep the answers until `invalidate_cache`.
    """
    listed = []
    uris = [name if "://" in name else f"{here}/{name}" for name in names if not name.startswith(("/", "~"))]
    folders = Counter(uri.rpartition("/")[0] for uri in uris if local_path(uri) is None)
    for folder, count in folders.items():
        if count >= LISTED_FROM:
            with suppress(Exception):  # the requests for the single names will report it
                fs, path = place(folder)
                fs.ls(path, detail=True, refresh=True)
                listed.append(fs)
    return listed


def _spellings(name: str) -> Iterator[str]:
    """Yield the forms that a name in a list may have: unchanged, without spaces around it, and with its bytes read
    as cp1252."""
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
    for uri in (name,) if name.startswith("/") else (_beside(name, here), name):
        path = local_path(uri)
        if os.path.lexists(path) if path is not None else _exists(uri):
            return uri if path is None else uri_of(path)
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


def _lines(uri: str, content: bytes) -> list[Line]:
    if uri.lower().endswith(".parquet"):
        return _lines_of_parquet(uri, content)
    text = _decoded(uri, content)
    if _is_text_list(uri):
        # `find -print0` separates names with zero bytes, because some names contain a line end.
        lines = text.split("\0") if "\0" in text else [line.removesuffix("\r") for line in text.split("\n")]
        return [Line(line) for line in lines if line.strip() and line.strip() != "uri"]
    for delimiter in ",;\t":
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
        try:
            if "uri" in (reader.fieldnames or ()):
                return [_line(uri, row) for row in reader if row["uri"] and row["uri"].strip()]
        except csv.Error as error:
            raise UserError(f"list {uri}: line {reader.line_num} is no CSV: {error}; correct it") from None
    _check_columns(uri, next(csv.reader(io.StringIO(text, newline="")), ()))
    return []


def _lines_of_parquet(uri: str, content: bytes) -> list[Line]:
    try:
        table = pq.ParquetFile(io.BytesIO(content)).read(use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"list {uri}: cannot be read as Parquet: {plain_cause(error)}; write it again") from None
    _check_columns(uri, table.column_names)
    for column in table.schema:
        if column.name in KINDS and not any(of_kind(column.type) for of_kind in KINDS[column.name]):
            raise UserError(f"list {uri}: column `{column.name}` must hold {FORMS[column.name]}, holds {column.type}")
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


def _line(uri: str, row: Mapping[str, Any]) -> Line:
    """Return one row of the list at `uri`. A value that is not stated is null or empty."""
    sequence, stated, size, etag = (
        _windows(str(row.get(name) if row.get(name) is not None else "").strip()) for name in KINDS
    )
    if size and not size.isdecimal():
        raise UserError(f"list {uri}: size of {storable(str(row['uri']))} must be {FORMS['size']}, got {size!r}")
    recorded_at = None
    if stated:
        try:
            recorded_at = datetime.fromisoformat(stated)
        except ValueError:
            raise UserError(
                f"list {uri}: recorded_at of {storable(str(row['uri']))} must be {FORMS['recorded_at']}, got {stated!r}"
            ) from None
        recorded_at = recorded_at.replace(tzinfo=recorded_at.tzinfo or UTC).astimezone(UTC)
    named = row["uri"]
    return Line(
        os.fsdecode(named) if isinstance(named, bytes) else str(named),
        sequence or None,
        recorded_at,
        int(size) if size else None,
        etag.strip('"') or None,
    )
