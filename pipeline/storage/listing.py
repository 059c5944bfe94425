"""Find the sources that a user names: files, folders, patterns, prefixes and lists."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.errors import DataError, UserError
from pipeline.storage.absences import CHECK, nothing_matches, nothing_there
from pipeline.storage.finding import NOTHING_MATCHES, NOTHING_THERE, Candidate, base_of, believe, find
from pipeline.storage.lists import Line, is_list, read_list
from pipeline.storage.places import place, typed_path, uri_of
from pipeline.storage.sequences import folder_of, natural_key
from pipeline.storage.sources import BY_FOLDER, PICTURE_SUFFIXES, Listing, Source, is_known
from pipeline.text import storable


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
    collected = _Collected(advance)
    roots: list[str] = []
    for argument in named:
        if not argument.strip():
            raise UserError("a source is an empty text; name a file, folder, pattern or list (is a variable not set?)")
        root = _root(argument)
        roots.append(root)
        if is_list(argument):
            for line in read_list(argument[1:]):
                _collect(collected, line, root, output, listed=True)
        else:
            _collect(collected, Line(argument), root, output, listed=False)
    sources = [
        _in_folder(source) if sequence == BY_FOLDER else source
        for source in sorted(collected.by_uri.values(), key=lambda source: source.uri)
    ]
    return Listing(tuple(sources), collected.num_other, tuple(roots))


@dataclass(slots=True)
class _Collected:
    """The sources that were found so far.

    advance: called each time a source is added, repetitions included.
    by_uri: uri -> source.
    num_other: the number of files whose names are neither those of videos nor of pictures.
    num_named: the number of sources added, with repetitions.
    """

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
            stated = {"sequence": source.sequence, "recorded_at": source.recorded_at}
            self.by_uri[source.uri] = replace(known, place=self.num_named, **stated)
        elif source.sequence not in (None, known.sequence):
            raise UserError(
                f"{source.uri} is named in two sequences, {known.sequence} and {source.sequence}; a file has one"
            )


def _collect(collected: _Collected, line: Line, named_by: str, output: str, *, listed: bool) -> None:
    """Add the sources that a line stands for. Raises UserError if they cannot be read and no list names them."""
    try:
        if line.size_bytes is not None and line.etag is not None and typed_path(line.uri) is None:
            candidates, base = believe(line.uri, line.size_bytes, line.etag, output)
        else:
            candidates, base = find(line.uri, output)
    except (DataError, UserError) as error:
        if not listed:
            raise _absence(line.uri, error) from None
        _add_missing(collected, line, named_by, str(error))
        return
    for candidate in sorted(candidates, key=lambda candidate: natural_key(candidate.entry.path)):
        _add(collected, candidate, base, line, named_by)


def _add(collected: _Collected, candidate: Candidate, base: str, line: Line, named_by: str) -> None:
    entry = candidate.entry
    if not (candidate.outright or entry.is_unlisted or is_known(entry.path)):
        collected.num_other += 1
        return
    name = entry.path.removeprefix(base).lstrip("/") or entry.path.rpartition("/")[2]
    collected.add(
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


def _add_missing(collected: _Collected, line: Line, named_by: str, why: str) -> None:
    path = typed_path(line.uri)
    collected.add(
        Source(
            uri=storable(line.uri) if path is None else uri_of(path),
            name=storable(Path(line.uri).name),
            named_by=named_by,
            missing=storable(why),
            sequence=line.sequence,
            recorded_at=line.recorded_at,
        )
    )


def _absence(uri: str, error: DataError | UserError) -> UserError:
    """Return the error for a source on the command line that cannot be read."""
    if isinstance(error, UserError):
        return error
    path = typed_path(uri)
    fs, path = place(uri) if path is None else place(uri_of(path))
    if str(error) == NOTHING_THERE:
        return nothing_there(uri, fs, path)
    if str(error) == NOTHING_MATCHES:
        return nothing_matches(uri, base_of(path))
    return UserError(f"{uri}: {error}; {CHECK}")


def _root(argument: str) -> str:
    """Return the same text for all spellings of an argument, typed in any current folder."""
    if is_list(argument):
        return f"@{_root(argument[1:])}"
    if (path := typed_path(argument)) is not None:
        return uri_of(path)
    fs, path = place(argument)
    return fs.unstrip_protocol(path).rstrip("/")


def _in_folder(source: Source) -> Source:
    """Return a source as part of the sequence of its folder. A picture is never part of a recording."""
    if source.sequence or source.missing or Path(source.uri).suffix.lower() in PICTURE_SUFFIXES:
        return source
    return replace(source, sequence=folder_of(source.uri))
