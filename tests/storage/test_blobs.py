from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.storage.blobs import fetch

BYTES = b"weights"


def test_no_network_fetch_reads_a_file_in_blocks_and_tells_the_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.storage.blobs.BLOCK_BYTES", 3)
    (tmp_path / "file").write_bytes(BYTES)
    assert list(fetch(str(tmp_path / "file"))) == [b"wei", b"ght", b"s"]
    causes: dict[str, Callable[[], object]] = {
        "No such file": lambda: list(fetch(str(tmp_path / "none"))),
        "Protocol not known": lambda: list(fetch("nosuch://place/file")),
    }
    for cause, attempt in causes.items():
        with pytest.raises(OSError, match=cause):
            attempt()
