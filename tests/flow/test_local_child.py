"""The process of the local engine that starts before the run knows its work."""

from pathlib import Path

import pytest

from pipeline.config import load
from pipeline.flow.local_child import is_foreseen


@pytest.mark.parametrize(
    ("settings", "output", "expected"),
    [
        ((), "new", True),
        ((), "empty", True),
        ((), "used", False),
        ((), "used/file", False),
        ((), "s3://bucket/new", False),
        (("run.engine=local",), "new", True),
        (("run.engine=ray",), "new", False),
        (("run.enrich.workers=2",), "new", False),
        (("run.address=10.0.0.1:6379",), "new", False),
    ],
)
def test_a_worker_is_foreseen_for_a_new_output_unless_ray_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: tuple[str, ...], output: str, expected: bool
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("used").mkdir()
    Path("used/file").touch()
    assert is_foreseen(load(settings=settings), output) is expected
