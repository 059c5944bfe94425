"""What `plan` tells of time, without a video."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from jobs.plan import Line, _show_totals
from pipeline.config import load
from pipeline.storage import state as books
from pipeline.storage.state import State
from pipeline.storage.store import Store
from tests.builders import Film, Walker, publish


def test_a_relink_is_no_measure_of_how_long_a_video_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish(Film(2.0, [Walker(0, 2, x=20)]), [], str(tmp_path))
    store = Store(str(tmp_path))
    spent = {"gpu_seconds": 0.0, "chunks_reused": 0, "attempts": 1}
    for name, seconds, num_chunks in (("first", 120.0, 1), ("relinked", 0.1, 0)):
        row = books.run_row(name, "v", datetime.now(UTC), seconds=seconds, num_chunks=num_chunks, **spent)
        books.write_run(store, name, [row])
    config = load().on_device("cpu")
    _show_totals([Line("/in/w.mp4", "new", "", chunks=1, seconds=4.0)], config, State.load(store), store)
    assert "estimate from 1 earlier videos: 4 min 00 s of work" in capsys.readouterr().out
