"""Find the sources that a user names: files, folders, patterns, prefixes and lists."""

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from pipeline.errors import DataError, PassingError, UserError
from pipeline.storage.absences import CHECK, nothing_matches, nothing_there
from pipeline.storage.finding import NOTHING_MATCHES, NOTHING_THERE, Page, base_of, believe, find
from pipeline.storage.lists import Line, is_list, read_list
from pipeline.storage.places import place, typed_path, uri_of
from pipeline.storage.sequences import folder_of, natural_key
from pipeline.storage.sources import BY_FOLDER, PICTURE_SUFFIXES, Listing, Source, is_known
from pipeline.text import storable


class OpenListing:
    """A listing that may still grow while it is read. It is read once, in order.

    roots: as those of a Listing.
    is_complete: whether all sources are listed.
    has_sequences: whether some sources are in sequences. Then it is complete from the beginning.
    """

    def __init__(self, following: Iterator[Source], roots: tuple[str, ...], counts: "_Counts | None" = None) -> None:
        self._following: Iterator[Source] | None = following
        self._counts = counts or _Counts()
        self._sources: list[Source] = []
        self.roots = roots
        self.has_sequences = False

    @classmethod
    def of(cls, listing: Listing) -> "OpenListing":
        """Return a complete listing."""
        opened = cls(iter(()), listing.roots, _Counts(num_other=listing.num_other))
        opened._sources, opened._following = list(listing.sources), None
        opened.has_sequences = any(source.sequence for source in listing.sources)
        return opened

    @property
    def is_complete(self) -> bool:
        return self._following is None

    @property
    def num_listed(self) -> int:
        """Number of sources that are listed so far. A source that two arguments name counts twice until the listing is
        complete."""
        return len(self._sources) if self.is_complete else max(len(self._sources), self._counts.num_named)

    def __iter__(self) -> Iterator[Source]:
        if self._following is None:
            yield from self._sources
            return
        for source in self._following:
            self._sources.append(source)
            yield source
        self._following = None

    def so_far(self) -> Listing:
        """Return the part that has been read, or the whole listing if it is complete."""
        return Listing(tuple(self._sources), self._counts.num_other, self.roots)


def list_sources(
    named: Sequence[str], output: str, sequence: str | None = None, advance: Callable[[], None] = lambda: None
) -> Listing:
    """Find all sources that `named` stands for, as `open_listing` does."""
    listing = open_listing(named, output, sequence, advance)
    for _ in listing:
        pass
    return listing.so_far()


def open_listing(
    named: Sequence[str], output: str, sequence: str | None = None, advance: Callable[[], None] = lambda: None
) -> OpenListing:
    """Find the sources that `named` stands for: files, folders, globs, prefixes and `@LIST`s.

    sequence: 'folder' makes the videos of each folder one sequence with the folder's name, except those to which a
        list gives a sequence.
    advance: called once for each source.

    The first page of each prefix in an object store is listed now, and the others when they are read. If there are
    sequences, everything is listed now, because the order of their files depends on all names.

    Nothing below `output` is ever a source. Raises UserError if something named on the command line does not exist,
    and PassingError if a place cannot be reached for the moment. Reading the listing raises the same. A missing file
    that only a list names becomes a Source with `missing`, so that one bad line does not stop the others.
    """
    if sequence not in (None, BY_FOLDER):
        raise UserError(f"--sequence {sequence}: there is one way, {BY_FOLDER}; names of sequences stand in a list")
    counts = _Counts(advance)
    parts: list[_Part] = []
    roots: list[str] = []
    for argument in named:
        if not argument.strip():
            raise UserError("a source is an empty text; name a file, folder, pattern or list (is a variable not set?)")
        root = _root(argument)
        roots.append(root)
        lines = read_list(argument[1:]) if is_list(argument) else [Line(argument)]
        parts += [_part(line, root, output, counts, listed=is_list(argument)) for line in lines]
    has_sequences = sequence == BY_FOLDER or any(part.line.sequence is not None for part in parts)
    if has_sequences or all(part.is_whole for part in parts):
        sources = _collected(parts, counts)
        if sequence == BY_FOLDER:
            sources = [_in_folder(source) for source in sources]
        return OpenListing.of(Listing(tuple(sources), counts.num_other, tuple(roots)))
    return OpenListing(_merged(parts), tuple(roots), counts)


@dataclass(slots=True)
class _Counts:
    """The numbers of files that were listed so far.

    advance: called for each source, repetitions included.
    num_other: the number of files whose names are neither those of videos nor of pictures.
    num_named: the number of sources, with repetitions.
    """

    advance: Callable[[], None] = lambda: None
    num_other: int = 0
    num_named: int = 0


@dataclass(frozen=True, slots=True)
class _Part:
    """The sources that one argument or one line of a list stands for.

    line: the line, or the argument as one.
    first: the sources of the first page.
    is_whole: whether there is no other page.
    rest: the sources of the other pages, in order of their uris.
    """

    line: Line
    first: list[Source]
    is_whole: bool
    rest: Iterator[Source]


def _part(line: Line, named_by: str, output: str, counts: _Counts, *, listed: bool) -> _Part:
    """List the first page of a part. Raises UserError if it cannot be read and no list names it."""
    try:
        if line.size_bytes is not None and line.etag is not None and typed_path(line.uri) is None:
            pages, base = believe(line.uri, line.size_bytes, line.etag, output)
        else:
            pages, base = find(line.uri, output)
        page = next(pages)
    except (DataError, UserError, PassingError) as error:
        if not listed:
            raise (error if isinstance(error, PassingError) else _absence(line.uri, error)) from None
        counts.num_named += 1
        counts.advance()
        return _Part(line, [_missing(line, named_by, str(error))], True, iter(()))
    first = _sources(page, base, line, named_by, counts)
    return _Part(line, first, page.is_last, _rest(pages, base, line, named_by, counts))


def _rest(pages: Iterator[Page], base: str, line: Line, named_by: str, counts: _Counts) -> Iterator[Source]:
    try:
        for page in pages:
            yield from sorted(_sources(page, base, line, named_by, counts), key=_uri)
    except DataError as error:
        raise _absence(line.uri, error) from None


def _sources(page: Page, base: str, line: Line, named_by: str, counts: _Counts) -> list[Source]:
    sources = []
    for candidate in sorted(page.candidates, key=lambda candidate: natural_key(candidate.entry.path)):
        entry = candidate.entry
        if not (candidate.outright or entry.is_unlisted or is_known(entry.path)):
            counts.num_other += 1
            continue
        counts.num_named += 1
        counts.advance()
        name = entry.path.removeprefix(base).lstrip("/") or entry.path.rpartition("/")[2]
        source = Source(
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
        sources.append(source)
    return sources


def _missing(line: Line, named_by: str, why: str) -> Source:
    """Return the source for a line of a list that cannot be read."""
    path = typed_path(line.uri)
    return Source(
        uri=storable(line.uri) if path is None else uri_of(path),
        name=storable(Path(line.uri).name),
        named_by=named_by,
        missing=storable(why),
        sequence=line.sequence,
        recorded_at=line.recorded_at,
    )


def _merged(parts: Sequence[_Part]) -> Iterator[Source]:
    """Yield the sources of all parts in order of their uris, each uri once. Nothing is in a sequence."""
    streams = [chain(sorted(part.first, key=_uri), part.rest) for part in parts]
    last = ""
    for source in heapq.merge(*streams, key=_uri):
        if source.uri != last:  # of equal ones, the first part comes first
            yield source
        last = source.uri


def _uri(source: Source) -> str:
    return source.uri


def _collected(parts: Sequence[_Part], counts: _Counts) -> list[Source]:
    """Return the sources of all parts in order of their uris. A file that is named twice is one source, in the sequence
    that either name states."""
    by_uri: dict[str, Source] = {}
    num_named = 0
    for part in parts:
        sources = [*part.first, *part.rest]
        for source in sources if part.is_whole else sorted(sources, key=lambda source: natural_key(source.uri)):
            num_named += 1
            known = by_uri.get(source.uri)
            if known is None:
                by_uri[source.uri] = replace(source, place=num_named)
            elif known.sequence is None:
                stated = {"sequence": source.sequence, "recorded_at": source.recorded_at}
                by_uri[source.uri] = replace(known, place=num_named, **stated)
            elif source.sequence not in (None, known.sequence):
                raise UserError(
                    f"{source.uri} is named in two sequences, {known.sequence} and {source.sequence}; a file has one"
                )
    return sorted(by_uri.values(), key=_uri)


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
