"""The three steps over a whole archive print their progress if the archive is big."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from jobs.cli import console
from jobs.shared.sources import identify_aloud, list_aloud, probe_aloud
from pipeline.media.pictures import encode_jpeg
from pipeline.planning import catalog
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.store import Store


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of lines that the blocks would print at their ends if they took long."""
    lines: list[str] = []

    @contextmanager
    def patiently(text: Callable[[int], str]) -> Iterator[Callable[[], None]]:
        done: list[None] = []
        yield lambda: done.append(None)
        lines.append(text(len(done)))

    monkeypatch.setattr(console, "counter", patiently)
    return lines


def test_files_hashes_and_headers_are_counted(printed: list[str], tmp_path: Path) -> None:
    for number in range(3):
        path = tmp_path / "archive" / f"day {number}" / "a.jpg"
        path.parent.mkdir(parents=True)
        path.write_bytes(encode_jpeg(np.full((32, 32, 3), number * 50, np.uint8), 90))
    listing = list_aloud([str(tmp_path / "archive")], str(tmp_path / "out"), None)
    ids = identify_aloud(listing, OutputIndex(Store(str(tmp_path / "out"))))
    probes = probe_aloud(catalog.contents(ids))
    assert len(probes) == len(ids) == len(listing.sources) == 3
    assert printed == ["3 files found", "hashing: 3 of 3", "reading headers: 3 of 3"]


def test_a_sequence_by_folder_is_passed_on(tmp_path: Path) -> None:
    (tmp_path / "camera").mkdir()
    (tmp_path / "camera/a.mp4").write_bytes(b"x")
    (source,) = list_aloud([str(tmp_path)], "/nowhere", "folder").sources
    assert source.sequence == str(tmp_path / "camera")
