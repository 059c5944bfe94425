"""Identify the sources of a large archive page by page, so that the work begins with the first page.

A run works on a portion of the archive while a thread lists, identifies and probes what follows. A portion is a range
of the listing, which is sorted. So the first source of a content is the same as if all sources were identified at once.
"""

import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import Self

from pipeline.media.probe import Probe
from pipeline.planning import catalog
from pipeline.planning.catalog import Failure
from pipeline.storage.listing import OpenListing
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.sources import Source

PAGE = 256
"""Number of sources in a page that must be read to be identified. Those that are known come with them for nothing."""

Page = list[tuple[Source, str | None]]
"""Sources, each with its content id if that is known."""


@dataclass(frozen=True, slots=True)
class Portion:
    """A part of the sources of a run.

    ids: by uri, the content id of each source, or the reason why it has none.
    probes: by video_id, the containers that are probed already.
    num_left: number of sources that follow in other portions. None if some follow, and not all of them are listed yet.
    sources: those to enter into the output with this portion, in order. A listing that is complete from the beginning
        comes with the first portion, so that the output states all that is still to be done.
    """

    ids: dict[str, str | Failure]
    probes: dict[str, Probe | Failure]
    num_left: int | None = 0
    sources: tuple[Source, ...] = ()

    @property
    def is_last(self) -> bool:
        """Whether no other portion follows."""
        return self.num_left == 0

    def __add__(self, more: "Portion") -> "Portion":
        """Return this portion together with the one that follows it."""
        return Portion(self.ids | more.ids, self.probes | more.probes, more.num_left, (*self.sources, *more.sources))


class Pages:
    """The portions of a listing. The first one is the first page. Each of the others holds all that was read while the
    run worked on the one before, and at least as many sources as all before it, since each portion starts new pools.

    A listing with sequences is one portion, because the tables of their files depend on each other. It is complete.
    """

    def __init__(self, listing: OpenListing, index: OutputIndex) -> None:
        self._index, self._listing = index, listing
        self._pages = _pages(listing, index, sys.maxsize if listing.has_sequences else PAGE)
        self._is_whole = listing.is_complete
        if self._is_whole:  # what is known is looked up now, before the run enters the sources into the index
            self._pages = iter(list(self._pages))
        self._num_read = 0
        self._ready: SimpleQueue[Portion | Exception] = SimpleQueue()
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._read_rest, daemon=True)
        self._seen: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._is_closed.set()
        if self._thread.is_alive():
            self._thread.join()

    def portions(self, advance: Callable[[], None] = lambda: None) -> Iterator[Portion]:
        """Yield the portions, at least one. Call `advance` for each source of the first one, of which no container is
        probed. The caller enters the sources of a portion into the index before it asks for the next one.

        Raises PassingError as `catalog.identify` does, and the errors of reading the listing.
        """
        portion = self._identified(next(self._pages, []), advance)
        if self._is_whole:
            portion = replace(portion, sources=self._listing.so_far().sources)
        if not portion.is_last:
            self._thread.start()
        num_before = len(portion.ids)
        yield portion
        while not portion.is_last:
            portion = self._next()
            while not portion.is_last and (len(portion.ids) < num_before or not self._ready.empty()):
                portion += self._next()
            num_before += len(portion.ids)
            yield portion

    def _next(self) -> Portion:
        read = self._ready.get()
        if isinstance(read, Exception):
            raise read
        return read

    def _read_rest(self) -> None:
        try:
            for page in self._pages:
                identified = self._identified(page, self._check_open)
                unseen = [content for content in catalog.contents(identified.ids) if self._is_new(content.video_id)]
                probes = catalog.probe_all(unseen, self._check_open)
                self._ready.put(replace(identified, probes=probes))
        except Exception as error:
            self._ready.put(error)

    def _identified(self, page: Page, advance: Callable[[], None]) -> Portion:
        known = {source.uri: video_id for source, video_id in page if video_id is not None}
        unknown = [source for source, video_id in page if video_id is None]
        # The index is not asked again: the run may be entering the sources into it just now.
        ids = known | catalog.identify(unknown, None, advance)
        self._num_read += len(page)
        num_left = self._listing.num_listed - self._num_read if self._listing.is_complete else None
        return Portion(ids, {}, num_left, () if self._is_whole else tuple(source for source, _ in page))

    def _is_new(self, video_id: str) -> bool:
        """Return whether a content is new, and was not in the pages before."""
        is_new = video_id not in self._seen and video_id not in self._index.videos
        self._seen.add(video_id)
        return is_new

    def _check_open(self) -> None:
        if self._is_closed.is_set():
            raise InterruptedError("the run has ended")


def _pages(sources: Iterable[Source], index: OutputIndex, page: int) -> Iterator[Page]:
    """Cut a listing into pages of `page` unknown sources each, and look up the content ids of the others. A page waits
    for the listing until one more unknown source is listed, or the listing is complete."""
    cut: Page = []
    num_unknown = 0
    for source in sources:
        video_id = None if source.missing else index.known_id(source)
        num_unknown += video_id is None
        if num_unknown > page:
            yield cut
            cut, num_unknown = [], 1
        cut.append((source, video_id))
    if cut:
        yield cut
