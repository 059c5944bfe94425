"""`process` on a card: its rates, and the share of time in which the card's engines are busy."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from jobs.benchmarks.side_by_side import SECONDS, Measures
from pipeline.errors import MachineError
from pipeline.storage.store import Store
from pipeline.storage.tables import read

SAMPLE_S = 0.5
SHARES = {
    "gpu": "some kernel runs, %",
    "sm": "multiprocessors busy, %",
    "occupancy": "their occupancy, %",
    "decoder": "decoder busy, %",
    "cpu": "cores busy, %",
    "memory_gb": "memory, GB",
}
"""Figures of a sample, and how a report calls their means."""
LAST_WORDS_S = 8


class CardSampler:
    """Samples the use of the first card twice a second in a thread, while the block lives.

    rows: the samples: `at` in Unix seconds, and figures of SHARES, as far as the card has them.
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "CardSampler":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(5)

    def _sample(self) -> None:
        try:
            import pynvml as nvml  # pyright: ignore[reportMissingModuleSource]

            nvml.nvmlInit()
            card = nvml.nvmlDeviceGetHandleByIndex(0)
        except Exception:  # a machine without the driver's library
            return
        earlier = _gpm_sample(nvml, card)
        psutil.cpu_percent()
        while not self._end.wait(SAMPLE_S):
            row = {"at": time.time(), "cpu": psutil.cpu_percent()}
            row["gpu"] = float(nvml.nvmlDeviceGetUtilizationRates(card).gpu)
            row["memory_gb"] = int(nvml.nvmlDeviceGetMemoryInfo(card).used) / 1e9
            with contextlib.suppress(Exception):
                row["decoder"] = float(nvml.nvmlDeviceGetDecoderUtilization(card)[0])
            later = _gpm_sample(nvml, card)
            if earlier is not None and later is not None:
                row |= _between(nvml, earlier, later)
            earlier = later
            self.rows.append(row)


def while_busy(rows: Sequence[dict[str, float]]) -> Sequence[dict[str, float]]:
    """Return the samples from the first to the last at which the multiprocessors were busy for 1 % of the time.

    Loading models and writing tables are not among them. Chunks become durable long after their frames are analysed,
    so they do not tell when the work began.
    """
    key = "sm" if any("sm" in row for row in rows) else "gpu"
    places = [place for place, row in enumerate(rows) if row.get(key, 0) >= 1]
    return rows[places[0] : places[-1] + 1] if places else []


def measure_process(sources: Path, output: Path, words: Sequence[str], most_s: float) -> Measures:
    """Process the videos in a folder, and return the rates and the use of the card.

    words: further words of the command line.
    most_s: s after which the run is interrupted.

    Raises MachineError if the run fails or takes longer.
    """
    started_at, said = time.time(), output.with_suffix(".txt")
    command = [sys.executable, "-m", "jobs.process", str(sources), "--output", str(output), *words]
    with said.open("w") as printed, CardSampler() as card:
        run = subprocess.Popen(command, stdout=printed, stderr=subprocess.STDOUT)
        try:
            run.wait(most_s)
        except subprocess.TimeoutExpired:
            run.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                run.wait(LAST_WORDS_S)
            run.kill()
            run.wait()
    seconds = time.time() - started_at
    if run.returncode:
        last = (said.read_text().splitlines() or ["no message"])[-1]
        raise MachineError(f"`process` ended with status {run.returncode} after {seconds:.0f} s: {last}")
    return _rates(Store(str(output)), seconds, started_at, card.rows)


def _rates(store: Store, seconds: float, started_at: float, samples: Sequence[dict[str, float]]) -> Measures:
    videos = read(store, "videos").to_pylist()
    people = read(store, "detections", ["interpolated"])["interpolated"].to_pylist().count(False)
    video_s = sum(row["duration_s"] or 0.0 for row in videos)
    num_decoded, num_analysed = (sum(row[name] or 0 for row in videos) for name in ("num_frames", "num_analysed"))
    busy = while_busy(samples)
    busy_s = busy[-1]["at"] - busy[0]["at"] + SAMPLE_S if busy else seconds
    shares = {key: [row[key] for row in busy if key in row] for key in SHARES}
    return {
        "people per analysed frame": people / max(1, num_analysed),
        SECONDS: seconds,
        "seconds until the card works": busy[0]["at"] - started_at if busy else float("nan"),
        "seconds while it works": busy_s,
        "decoded frames per s": num_decoded / busy_s,
        "analysed frames per s": num_analysed / busy_s,
        "video-hours per GPU-hour": video_s / busy_s,
        "video-hours per GPU-hour, start-up included": video_s / seconds,
        **{SHARES[key]: sum(values) / len(values) for key, values in shares.items() if values},
    }


def _gpm_sample(nvml: Any, card: Any) -> Any:
    """Return a sample of the card's counters, or None for cards before Hopper."""
    if os.environ.get("NO_GPM"):
        return None
    try:
        sample = nvml.nvmlGpmSampleAlloc()
        nvml.nvmlGpmSampleGet(card, sample)
    except Exception:
        return None
    return sample


def _between(nvml: Any, earlier: Any, later: Any) -> dict[str, float]:
    """Return the share of time in which a multiprocessor is busy, and its occupancy, in percent."""
    try:
        wanted = nvml.c_nvmlGpmMetricsGet_t()
        wanted.version = nvml.NVML_GPM_METRICS_GET_VERSION
        wanted.numMetrics = 2
        wanted.sample1, wanted.sample2 = earlier, later
        wanted.metrics[0].metricId = nvml.NVML_GPM_METRIC_SM_UTIL
        wanted.metrics[1].metricId = nvml.NVML_GPM_METRIC_SM_OCCUPANCY
        nvml.nvmlGpmMetricsGet(wanted)
        return {"sm": float(wanted.metrics[0].value), "occupancy": float(wanted.metrics[1].value)}
    except Exception:
        return {}
    finally:
        nvml.nvmlGpmSampleFree(earlier)
