"""The end of a run that gets a signal to stop, without Ray."""

import signal

import pytest

from jobs.shared import processing
from pipeline.flow import cluster


def test_a_polite_kill_interrupts_a_job_in_the_background_too(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[bool] = []
    monkeypatch.setattr(cluster, "stop_ray", lambda: ended.append(True))
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as shells start a command before an &
    try:
        with pytest.raises(KeyboardInterrupt), processing._ending_cleanly():
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended == [True]
