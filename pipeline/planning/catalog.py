"""From a list of sources to videos: the contents there are, and the state of each."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum

from pipeline.errors import DataError
from pipeline.media.probe import Probe
from pipeline.media.probing import probe
from pipeline.storage.sources import Source, content_id
from pipeline.storage.state import State
from pipeline.storage.store import opener

THREADS = 8


class Standing(StrEnum):
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
class Fault:
    """A failure to read or decode a source.

    stage: the stage that failed.
    reason: text for the user.
    """

    stage: str
    reason: str


def identify(
    sources: Sequence[Source], state: State, advance: Callable[[], None] = lambda: None
) -> dict[str, str | Fault]:
    """Return, by uri, the content id of each source, or the reason why it has none. Call `advance` for each source."""

    def one(source: Source) -> str | Fault:
        try:
            if source.missing:
                return Fault("catalog", source.missing)
            return state.known_id(source) or content_id(source)
        except DataError as error:
            return Fault("catalog", str(error))

    with ThreadPoolExecutor(THREADS) as threads:
        ids: dict[str, str | Fault] = {}
        for source, found in zip(sources, threads.map(one, sources), strict=True):
            ids[source.uri] = found
            advance()
        return ids


def contents(ids: dict[str, str | Fault]) -> list[Content]:
    """Group sources by their content, in order of their first uri."""
    uris: dict[str, list[str]] = defaultdict(list)
    for uri in sorted(ids):
        if isinstance(found := ids[uri], str):
            uris[found].append(uri)
    return [Content(video_id=video_id, uris=tuple(names)) for video_id, names in uris.items()]


def standing(content: Content, state: State, config_id: str) -> Standing:
    row = state.videos.get(content.video_id)
    if row is None:
        return Standing.NEW
    if row["config_id"] != config_id:
        return Standing.CHANGED if row["status"] == "done" else Standing.NEW
    return Standing.DONE if row["status"] == "done" else Standing.QUARANTINED


def probe_all(wanted: Iterable[Content], advance: Callable[[], None] = lambda: None) -> dict[str, Probe | Fault]:
    """Return, by video_id, the probe of each container, or the reason why there is none. Call `advance` for each
    content."""

    def one(content: Content) -> Probe | Fault:
        try:
            return probe(opener(content.uri))
        except DataError as error:
            return Fault("catalog", str(error))

    wanted = list(wanted)
    with ThreadPoolExecutor(THREADS) as threads:
        probes: dict[str, Probe | Fault] = {}
        for content, probed in zip(wanted, threads.map(one, wanted), strict=True):
            probes[content.video_id] = probed
            advance()
        return probes
