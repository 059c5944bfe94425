"""List, identify and probe the sources of an archive. Jobs say how far they are if the archive is big."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

from jobs.cli import console
from jobs.shared.process_messages import say_sources
from pipeline.media.probe import Probe
from pipeline.planning import catalog
from pipeline.planning.catalog import Content, Failure
from pipeline.planning.pages import Pages, Portion
from pipeline.storage.listing import OpenListing, list_sources, open_listing
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.sources import Listing


def list_aloud(named: Sequence[str], output: str, sequence: str | None) -> Listing:
    """Return the sources that `named` stands for. The parameters are those of `list_sources`."""
    with _counting_files() as advance:
        return list_sources(named, output, sequence, advance)


def open_aloud(named: Sequence[str], output: str, sequence: str | None) -> OpenListing:
    """Return the listing of what `named` stands for, which may go on. The parameters are those of `open_listing`."""
    with _counting_files() as advance:
        return open_listing(named, output, sequence, advance)


def _counting_files() -> AbstractContextManager[Callable[[], None]]:
    return console.counter(lambda done: f"{console.count(done, 'file')} found")


def identify_aloud(listing: Listing, index: OutputIndex) -> dict[str, str | Failure]:
    """Return the content id of every source, or the reason why it has none."""
    with console.counter(lambda done: f"hashing: {done:,} of {len(listing.sources):,}") as advance:
        return catalog.identify(listing.sources, index, advance)


def portions_aloud(pages: Pages, listing: OpenListing) -> Iterator[Portion]:
    """Yield the portions of a run. The work on the first one begins before the others are listed and read."""
    is_whole = listing.is_complete
    of_all = f" of {listing.num_listed:,}" if is_whole else ""
    with console.counter(lambda done: f"hashing: {done:,}{of_all}") as advance:
        portions = pages.portions(advance)
        portion = next(portions)
    if not portion.is_last:
        others = "read" if is_whole else "listed and read"
        console.say(f"beginning with {len(portion.ids):,}{of_all} sources; the others are {others} meanwhile")
    while True:
        if portion.is_last and not is_whole:
            say_sources(listing)
        yield portion
        if portion.is_last:
            return
        portion = next(portions)
        left = "more are being listed" if portion.num_left is None else f"{portion.num_left:,} left"
        console.say(f"going on with {len(portion.ids):,} more sources, {left}")


def probe_aloud(contents: Sequence[Content]) -> dict[str, Probe | Failure]:
    """Return the facts in the container of each content, or the reason why they cannot be read."""
    with console.counter(lambda done: f"reading headers: {done:,} of {len(contents):,}") as advance:
        return catalog.probe_all(contents, advance)
