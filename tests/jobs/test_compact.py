"""The commands about snapshots say what they did, and where the files are."""

from pathlib import Path

import pandas as pd
import pytest

from jobs.compact import LEFT_OUT, compact
from jobs.tables import tables
from pipeline.errors import LeaseError, UserError
from pipeline.storage.claims import probe, register_of
from pipeline.storage.lease import take
from pipeline.storage.store import Store
from tests.small_outputs import publish_steps, write_output


def test_a_snapshot_is_made_shown_and_made_again_only_after_a_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = write_output(Store(str(tmp_path)), ["v", "w"])
    compact(str(tmp_path))
    assert "2 videos, 2 of them new or changed, 6 rows in 12 files -> " in capsys.readouterr().out
    compact(str(tmp_path))
    assert "nothing has changed since the snapshot of " in capsys.readouterr().out
    for _ in publish_steps(store, "x", 1):
        pass
    compact(str(tmp_path))
    said = capsys.readouterr().out
    assert "3 videos, 1 of them new or changed, 9 rows in 12 files -> " in said
    assert "earlier snapshots stay for 2 days" in said
    tables(str(tmp_path))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["persons", "3", "1", "0.0"] in lines
    tables(str(tmp_path), "persons")
    (file,) = capsys.readouterr().out.splitlines()
    assert pd.read_parquet(file).video_id.tolist() == ["v", "w", "x"]


def test_what_is_missing_is_told_with_the_remedy(tmp_path: Path) -> None:
    write_output(Store(str(tmp_path)), ["v"])
    with pytest.raises(UserError, match="has no snapshot; run `rollcall compact"):
        tables(str(tmp_path))
    compact(str(tmp_path))
    with pytest.raises(UserError, match="did you mean persons"):
        tables(str(tmp_path), "person")


def test_a_damaged_video_is_named_and_the_status_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_output(Store(str(tmp_path)), ["v", "w"])
    (tmp_path / "faces/w.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(SystemExit) as end:
        compact(str(tmp_path))
    assert end.value.code == LEFT_OUT
    assert "left out: video w: what is stored of it cannot be read" in capsys.readouterr().out


def test_an_output_that_another_run_holds_is_left_alone(tmp_path: Path) -> None:
    store = write_output(Store(str(tmp_path)), ["v"])
    lease = take(register_of(store, probe(store)), "process", "run")
    with pytest.raises(LeaseError, match="is held by"):
        compact(str(tmp_path))
    assert not (tmp_path / "compact").exists()
    lease.end()
    compact(str(tmp_path))
    assert (tmp_path / "compact/current.json").exists()
