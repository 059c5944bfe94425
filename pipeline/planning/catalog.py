"""From a list of sources to videos: the contents there are, and the state of each."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum

from pipeline.errors import DataError
from pipeline.media.probe import Probe
from pipeline.media.probing import probe
from pipeline.storage.content_ids import content_id
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.sources import Source
from pipeline.storage.store import opener

THREADS = 8


class VideoStatus(StrEnum):
    """The state of a content in an output, against a configuration."""

    NEW = "new"
    CHANGED = "changed"  # done, but with another configuration or other weights
    DONE = "done"
    QUARANTINED = "quarantined"  # given up in an earlier run under the same configuration


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """All sources that hold the same bytes.

    video_id: id of the content.
    uris: the sources, sorted, at least one.
    """

    video_id: str
    uris: tuple[str, ...]

    @property
    def uri(self) -> str:
        """The source that is read."""
        return self.uris[0]


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure to read or decode a source.

    stage: the stage that failed.
    reason: text for the user.
    """

    stage: str
    reason: str


def identify(
    sources: Sequence[Source], index: OutputIndex, advance: Callable[[], None] = lambda: None
) -> dict[str, str | Failure]:
    """Return, by uri, the content id of each source, or the reason why it has none. Call `advance` for each source."""

    def one(source: Source) -> str | Failure:
        try:
            if source.missing:
                return Failure("catalog", source.missing)
            return index.known_id(source) or content_id(source)
        except DataError as error:
            return Failure("catalog", str(error))

    with ThreadPoolExecutor(THREADS) as threads:
        ids: dict[str, str | Failure] = {}
        for source, found in zip(sources, threads.map(one, sources), strict=True):
            ids[source.uri] = found
            advance()
        return ids


def contents(ids: dict[str, str | Failure]) -> list[Content]:
    """Group sources by their content, in order of their first uri."""
    uris: dict[str, list[str]] = defaultdict(list)
    for uri in sorted(ids):
        if isinstance(found := ids[uri], str):
            uris[found].append(uri)
    return [Content(video_id=video_id, uris=tuple(names)) for video_id, names in uris.items()]


def video_status(content: Content, index: OutputIndex, config_id: str) -> VideoStatus:
    row = index.videos.get(content.video_id)
    if row is None:
        return VideoStatus.NEW
    if row["config_id"] != config_id:
        return VideoStatus.CHANGED if row["status"] == "done" else VideoStatus.NEW
    return VideoStatus.DONE if row["status"] == "done" else VideoStatus.QUARANTINED


def probe_all(wanted: Iterable[Content], advance: Callable[[], None] = lambda: None) -> dict[str, Probe | Failure]:
    """Return, by video_id, the probe of each container, or the reason why there is none. Call `advance` for each
    content."""

    def one(content: Content) -> Probe | Failure:
        try:
            return probe(opener(content.uri))
        except DataError as error:
            return Failure("catalog", str(error))

    wanted = list(wanted)
    with ThreadPoolExecutor(THREADS) as threads:
        probes: dict[str, Probe | Failure] = {}
        for content, probed in zip(wanted, threads.map(one, wanted), strict=True):
            probes[content.video_id] = probed
            advance()
        return probes
