"""The driver of a run does not need more for each chunk of a larger archive, by simulated videos."""

from pathlib import Path

import pytest

from tests.bench.large_archive import measure


@pytest.mark.slow
def test_the_memory_of_the_driver_grows_by_less_than_two_kilobytes_a_chunk(tmp_path: Path) -> None:
    run, resume = measure(tmp_path, "local", videos=300, chunks=10, stop_at=0.5)
    assert run["chunks"] + resume["chunks"] == 3_000  # no chunk is made twice
    for row in (run, resume):
        assert row["growth_kb"] < 2, row


@pytest.mark.slow
@pytest.mark.ray
def test_ray_resumes_an_interrupted_run_of_a_simulated_archive(tmp_path: Path) -> None:
    run, resume = measure(tmp_path, "ray", videos=110, chunks=10, stop_at=0.5)
    assert (
        1_100 <= run["chunks"] + resume["chunks"] <= 1_150
    )  # chunks that were on their way at the interruption count twice
