"""A large archive is identified page by page, and its first page does not wait for the others."""

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import PassingError
from pipeline.planning import catalog, pages
from pipeline.planning.catalog import Content, Failure
from pipeline.planning.pages import Pages, Portion
from pipeline.storage.listing import OpenListing
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.sources import Listing, Source
from pipeline.storage.store import Store
from tests.patience import PATIENCE_S


class Archive:
    """Sources that are identified when `gate` is open. The first page needs no gate."""

    def __init__(self, folder: Path, names: Sequence[str], **of_each: Any) -> None:
        sources = [Source(uri=name, name=name, named_by="", etag="e", size_bytes=1, **of_each) for name in names]
        self.listing = OpenListing.of(Listing(tuple(sources), 0))
        self.index = OutputIndex(Store(str(folder)))
        self.gate = threading.Event()
        self.identified: list[str] = []
        self.probed: list[str] = []
        self.ids: dict[str, str | Failure] = {}
        self.error: Exception | None = None

    def identify(self, sources: Sequence[Source], index: None, advance: Callable[[], None]) -> dict[str, Any]:
        if self.identified:
            self.gate.wait(PATIENCE_S)
            if self.error:
                raise self.error
        for _ in sources:
            advance()
        self.identified += [source.uri for source in sources]
        return {source.uri: self.ids.get(source.uri, source.uri.upper()) for source in sources}

    def probe_all(self, contents: Sequence[Content], advance: Callable[[], None]) -> dict[str, Any]:
        self.probed += [content.video_id for content in contents]
        return {content.video_id: Failure("probe", "no real file") for content in contents}


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Archive]]:
    monkeypatch.setattr(pages, "PAGE", 2)
    made: list[Archive] = []

    def make(names: str, **of_each: Any) -> Archive:
        archive = Archive(tmp_path, list(names), **of_each)
        monkeypatch.setattr(catalog, "identify", archive.identify)
        monkeypatch.setattr(catalog, "probe_all", archive.probe_all)
        made.append(archive)
        return archive

    yield make
    for archive in made:
        archive.gate.set()


Make = Callable[..., Archive]


def names(portion: Portion) -> str:
    return "".join(portion.ids)


def test_the_first_page_does_not_wait_for_the_others(archive: Make) -> None:
    all_sources = archive("abcdefg")
    with Pages(all_sources.listing, all_sources.index) as read:
        portions = read.portions()
        first = next(portions)
        assert (names(first), first.num_left, first.probes) == ("ab", 5, {})
        all_sources.gate.set()
        rest = list(portions)
    assert "".join(map(names, rest)) == "cdefg"
    assert rest[-1].num_left == 0
    assert {video_id for portion in rest for video_id in portion.probes} == set("CDEFG")


def test_a_later_portion_holds_what_was_read_meanwhile(archive: Make) -> None:
    all_sources = archive("abcdefgh")
    with Pages(all_sources.listing, all_sources.index) as read:
        portions = read.portions()
        next(portions)
        all_sources.gate.set()
        read._thread.join(PATIENCE_S)
        assert names(next(portions)) == "cdefgh"


def test_a_later_portion_holds_at_least_as_much_as_all_before(archive: Make) -> None:
    all_sources = archive("abcdefghijklmn")
    with Pages(all_sources.listing, all_sources.index) as read:
        all_sources.gate.set()
        sizes = [len(portion.ids) for portion in read.portions()]
    assert sum(sizes) == 14
    assert all(size >= sum(sizes[:place]) for place, size in enumerate(sizes[:-1]))


def test_what_is_known_is_not_read_and_fills_no_page(archive: Make) -> None:
    all_sources = archive("abcdef")
    for uri in "abde":
        all_sources.index.sources[uri] = {"uri": uri, "video_id": uri.upper(), "etag": "e", "size_bytes": 1}
    with Pages(all_sources.listing, all_sources.index) as read:
        (only,) = read.portions()
    assert sorted(only.ids) == list("abcdef")
    assert all_sources.identified == ["c", "f"]


def test_only_new_contents_are_probed_ahead_and_each_once(archive: Make) -> None:
    all_sources = archive("abcdef")
    all_sources.ids = {"d": "C", "e": "DONE"}
    all_sources.index.videos["DONE"] = {}
    all_sources.gate.set()
    with Pages(all_sources.listing, all_sources.index) as read:
        assert sum(len(portion.ids) for portion in read.portions()) == 6
    assert all_sources.probed == ["C", "F"]


def test_files_of_sequences_are_one_portion(archive: Make) -> None:
    all_sources = archive("abcdef", sequence="camera")
    with Pages(all_sources.listing, all_sources.index) as read:
        (only,) = read.portions()
    assert names(only) == "abcdef"


def test_an_empty_listing_is_one_empty_portion(archive: Make) -> None:
    all_sources = archive("")
    with Pages(all_sources.listing, all_sources.index) as read:
        assert list(read.portions()) == [Portion({}, {})]


def test_an_error_of_a_later_page_reaches_the_run(archive: Make) -> None:
    all_sources = archive("abcd")
    all_sources.error = PassingError("20 videos in a row cannot be reached")
    with Pages(all_sources.listing, all_sources.index) as read:
        portions = read.portions()
        next(portions)
        all_sources.gate.set()
        with pytest.raises(PassingError, match="20 videos"):
            next(portions)


def test_a_run_that_ends_early_stops_the_reading(archive: Make) -> None:
    all_sources = archive("abcdef")
    with Pages(all_sources.listing, all_sources.index) as read:
        next(read.portions())
        read._is_closed.set()
        all_sources.gate.set()
    assert not read._thread.is_alive()
    assert all_sources.identified == ["a", "b"]
