"""List, identify and probe the sources of an archive. Jobs say how far they are if the archive is big."""

from collections.abc import Sequence

from jobs.cli import console
from pipeline.media.probe import Probe
from pipeline.planning import catalog
from pipeline.planning.catalog import Content, Failure
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


def probe_aloud(contents: Sequence[Content]) -> dict[str, Probe | Failure]:
    """Return the facts in the container of each content, or the reason why they cannot be read."""
    with console.counter(lambda done: f"reading headers: {done:,} of {len(contents):,}") as advance:
        return catalog.probe_all(contents, advance)
