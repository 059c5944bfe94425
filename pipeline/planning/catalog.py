"""From a list of sources to videos: the contents there are, and the state of each."""

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from pipeline.errors import ChangedError, DataError, PassingError
from pipeline.media.probe import Probe
from pipeline.planning.outage import OutageBreaker
from pipeline.planning.probe_pool import ProbeBugError, ProbePool
from pipeline.storage.content_ids import content_id
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.source_files import CHANGED, file_now
from pipeline.storage.sources import Source

THREADS = 8
SETTLED_S = 2.0
"""Seconds since its last change after which a file that cannot be read counts as finished."""
FILES_PER_CHILD = 16
"""Number of files for which another process that probes is started. Its start takes as long as some ten probes."""
Item = TypeVar("Item")
Result = TypeVar("Result")


class VideoStatus(StrEnum):
    """The state of a content in an output, against a configuration."""

    NEW = "new"
    CHANGED = "changed"  # done, but with another configuration or other weights
    DONE = "done"
    QUARANTINED = "quarantined"  # given up in an earlier run under the same configuration; older tables may be there
    FORGOTTEN = "forgotten"  # removed by `forget`, and never processed again


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
    may_pass: whether the file could not be reached for the moment, which says nothing about it.
    bug: the traceback of an error that nobody foresaw. None for other failures.
    """

    stage: str
    reason: str
    may_pass: bool = False
    bug: str | None = None


def identify(
    sources: Sequence[Source], index: OutputIndex | None, advance: Callable[[], None] = lambda: None
) -> dict[str, str | Failure]:
    """Return, by uri, the content id of each source, or the reason why it has none. Call `advance` for each source.

    index: knows the ids of unchanged sources. None reads all.
    Raises PassingError if so many sources in a row cannot be reached that their place must be asleep.
    """
    breaker = OutageBreaker()

    def identify_source(source: Source) -> str | Failure:
        if source.missing:
            return Failure("catalog", source.missing)
        return (index and index.known_id(source)) or _tried(lambda: content_id(source), "catalog", source.uri, breaker)

    ids = _map_in_threads(identify_source, sources, advance)
    return {source.uri: video_id for source, video_id in zip(sources, ids, strict=True)}


def contents(ids: Mapping[str, str | Failure], touched: Collection[str] | None = None) -> list[Content]:
    """Group sources by their content, in order of their first uri.

    ids: by uri, the content id of each source, or the reason why it has none.
    touched: uris; contents of other sources are left out. None for all.
    """
    uris: dict[str, list[str]] = defaultdict(list)
    for uri in sorted(ids):
        if isinstance(video_id := ids[uri], str):
            uris[video_id].append(uri)
    wanted = uris.keys() if touched is None else {ids[uri] for uri in touched}
    return [Content(video_id=video_id, uris=tuple(names)) for video_id, names in uris.items() if video_id in wanted]


def video_status(content: Content, index: OutputIndex, config_id: str) -> VideoStatus:
    """Return the state of a content in an output, against the configuration `config_id`."""
    if content.video_id in index.tombstones.videos:
        return VideoStatus.FORGOTTEN
    row = index.videos.get(content.video_id)
    if row is None:
        return VideoStatus.NEW
    failed = index.failed.get(content.video_id)
    if failed is not None and failed.config_id == config_id != row["config_id"]:
        return VideoStatus.QUARANTINED
    if row["config_id"] != config_id:
        return VideoStatus.CHANGED if row["status"] == "done" else VideoStatus.NEW
    return VideoStatus.DONE if row["status"] == "done" else VideoStatus.QUARANTINED


def probe_all(contents: Sequence[Content], advance: Callable[[], None] = lambda: None) -> dict[str, Probe | Failure]:
    """Return, by video_id, the probe of each container, or the reason why there is none. Call `advance` for each
    content.

    Raises PassingError as `identify` does.
    """
    breaker = OutageBreaker()

    def probe_content(content: Content) -> Probe | Failure:
        return _tried(lambda: _probed(content.uri, pool), "probe", content.video_id, breaker)

    num_children = min(THREADS, -(-len(contents) // FILES_PER_CHILD))
    with ProbePool() as pool:
        probes = _map_in_threads(probe_content, contents, advance, max(num_children, 1))
    return {content.video_id: probed for content, probed in zip(contents, probes, strict=True)}


def _probed(uri: str, pool: ProbePool) -> Probe:
    """Probe a container. Raises ChangedError if that fails while the file is being written.

    A recorder may write only once a second. So a file that was written a moment ago is looked at again a moment later.
    """
    before = file_now(uri)
    try:
        return pool.probe(uri)
    except ChangedError:
        raise
    except DataError:
        now = file_now(uri)
        if now == before and now is not None:
            age_s = time.time() - float(now.etag or 0)
            if 0 <= age_s < SETTLED_S:
                time.sleep(SETTLED_S - age_s)
                now = file_now(uri)
        if now != before:
            raise ChangedError(CHANGED) from None
        raise


def _tried(action: Callable[[], Result], stage: str, name: str, breaker: OutageBreaker) -> Result | Failure:
    """Return the result of `action` for the source or content `name`, or the reason why there is none."""
    try:
        result = action()
    except ChangedError as error:
        return Failure(stage, str(error), may_pass=True)
    except DataError as error:
        return Failure(stage, str(error), bug=error.args[1] if isinstance(error, ProbeBugError) else None)
    except PassingError as error:
        breaker.fail(name, str(error))
        return Failure(stage, str(error), may_pass=True)
    breaker.succeed()
    return result


def _map_in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], advance: Callable[[], None], num_threads: int = THREADS
) -> list[Result]:
    """Return the result of `function` for each item, in order. Call `advance` after each."""
    results = []
    with ThreadPoolExecutor(num_threads) as threads:
        for result in threads.map(function, items):
            results.append(result)
            advance()
    return results
