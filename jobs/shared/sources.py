"""List, identify and probe the sources of an archive. Jobs say how far they are if the archive is big."""

from collections.abc import Iterator, Sequence

from jobs.cli import console
from pipeline.media.probe import Probe
from pipeline.planning import catalog
from pipeline.planning.catalog import Content, Failure
from pipeline.planning.pages import Pages, Portion
from pipeline.storage.listing import list_sources
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.sources import Listing


def list_aloud(named: Sequence[str], output: str, sequence: str | None) -> Listing:
    """Return the sources that `named` stands for. The parameters are those of `list_sources`."""
    with console.counter(lambda done: f"{console.count(done, 'file')} found") as advance:
        return list_sources(named, output, sequence, advance)


def identify_aloud(listing: Listing, index: OutputIndex) -> dict[str, str | Failure]:
    """Return the content id of every source, or the reason why it has none."""
    with console.counter(lambda done: f"hashing: {done:,} of {len(listing.sources):,}") as advance:
        return catalog.identify(listing.sources, index, advance)


def portions_aloud(pages: Pages, listing: Listing) -> Iterator[Portion]:
    """Yield the portions of a run. The work on the first one begins before the others are read."""
    num_all = len(listing.sources)
    with console.counter(lambda done: f"hashing: {done:,} of {num_all:,}") as advance:
        portions = pages.portions(advance)
        portion = next(portions)
    if portion.num_left:
        console.say(f"beginning with {len(portion.ids):,} of {num_all:,} sources; the others are read meanwhile")
    yield portion
    for portion in portions:
        console.say(f"going on with {len(portion.ids):,} more sources, {portion.num_left:,} left")
        yield portion


def probe_aloud(contents: Sequence[Content]) -> dict[str, Probe | Failure]:
    """Return the facts in the container of each content, or the reason why they cannot be read."""
    with console.counter(lambda done: f"reading headers: {done:,} of {len(contents):,}") as advance:
        return catalog.probe_all(contents, advance)
