"""Test and measure on a machine with a card, in one command that ends in time: tests/gpu/README.md says how to read it.

python -m tests.gpu.check OUT [--most SECONDS] [--only tests|bench] [--ways WAY,…] [OPTION …]
    WAY: of WAYS, for example rgb,nvdec
    OPTION: options of `rollcall bench gpu`, for example --videos 10 --seconds 30 --sizes 720p --set KEY=VALUE
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.gpu.random_models import FILE
from tests.shared import SHARED

GROUPS: Mapping[str, Sequence[str]] = {
    "pixels": ("tests/gpu/test_pixels_on_a_card.py",),
    "decoder": ("tests/gpu/test_nvdec_on_a_card.py",),
    "networks": ("tests/gpu/test_networks_on_a_card.py", "tests/models/test_gpu.py"),
    "agreement": ("tests/gpu/test_agreement_with_the_cpu.py",),
    "runs": ("tests/gpu/test_runs_on_a_card.py",),
}
"""Groups of tests that run side by side. Those of whole runs take longest."""


@dataclass(frozen=True, slots=True)
class Way:
    """A way of processing that is measured.

    knobs: those that it changes.
    is_random: it has the production networks with random values.
    bench: name of the bench.
    options: of the bench. None: those of the command line.
    """

    knobs: Sequence[str] = ()
    is_random: bool = False
    bench: str = "gpu"
    options: Sequence[str] | None = None


PLANES, NVDEC = "compute.pixels=planes", "observe.decoder=auto"
FEW = "observe.detector.max_per_frame=5"
RESTORED = ("restore.mode=auto", "observe.detector.weights=random-yolo11x", FEW)
"""A random detector finds as many people as it may."""
SEEING = ("restore.mode=always", "observe.detector.weights=yolov8n", "faces.detector=retinaface-mobile0.25")
"""Small detectors that are not random, so that there are faces for the networks behind them."""
ONE_CLIP = ("--clip", str(SHARED / "clips" / "talkshow.mp4"), "--repeats", "1")
WAYS: Mapping[str, Way] = {
    "rgb": Way(),
    "planes": Way((PLANES,)),
    "nvdec": Way((NVDEC,)),
    "nvdec-planes": Way((NVDEC, PLANES)),
    "nvdec-many": Way((NVDEC, PLANES, "run.observe={workers: 8, max_workers: 8, cpus: 1.5, gpus: 0.1, spans: 3}")),
    "alone": Way(
        (
            "run.observe={workers: 10, max_workers: 10, cpus: 1, gpus: 0.07, spans: 1}",
            "run.enrich={workers: 3, max_workers: 3, cpus: 1, gpus: 0.1}",
        )
    ),
    "pool": Way(("run.enrich.workers=0",)),
    "production": Way(RESTORED, is_random=True),
    "limit": Way(RESTORED, is_random=True, bench="limit", options=ONE_CLIP),
    "limit-faces": Way(SEEING, is_random=True, bench="limit", options=ONE_CLIP),
}
"""Ways of processing videos. All but those of `bench limit` have the same videos."""
USUAL = ("rgb", "planes", "nvdec", "nvdec-planes")
"""Ways for which one command has the time."""
WEIGHTS = "tests/conf/shared-weights.yaml"
LEAST_S = 20
"""A part for which less time is left does not begin."""
SHOWN = (
    "analysed frames per s",
    "decoded frames per s",
    "multiprocessors busy, %",
    "decoder busy, %",
    "cores busy, %",
    "memory, GB",
)


@dataclass
class Check:
    """Runs commands, one after the other or side by side, until the time is over.

    out: folder for logs.
    most_s: seconds for all.
    lines: what has been found so far.
    """

    out: Path
    most_s: float
    lines: list[str] = field(default_factory=list)
    _began: float = field(default_factory=time.monotonic)

    def left_s(self) -> float:
        return self.most_s - (time.monotonic() - self._began)

    def run(self, name: str, words: Sequence[str], most_s: float) -> str:
        """Run a command, and return what it printed. Its log is OUT/NAME.log."""
        log = self.out / f"{name}.log"
        if most_s < LEAST_S:
            self.say(f"{name}: no time left")
            return ""
        with log.open("w") as printed:
            run = subprocess.Popen([sys.executable, "-m", *words], stdout=printed, stderr=subprocess.STDOUT)
            try:
                status = str(run.wait(most_s))
            except subprocess.TimeoutExpired:
                run.terminate()
                try:
                    run.wait(8)
                except subprocess.TimeoutExpired:
                    run.kill()
                    run.wait()
                status = f"interrupted after {most_s:.0f} s"
        self.say(f"{name}: status {status}")
        return log.read_text(errors="replace")

    def say(self, line: str) -> None:
        line = f"[{time.monotonic() - self._began:.0f} s] {line}"
        self.lines.append(line)
        print(line, flush=True)


def run_tests(check: Check, most_s: float) -> None:
    """Run the groups of tests side by side, and say how each ended."""

    def test(group: str) -> tuple[str, str]:
        words = ["pytest", "-m", "gpu", "-p", "no:cacheprovider", "--tb=short", "-vv", "-s", *GROUPS[group]]
        return group, check.run(f"tests-{group}", words, most_s)

    with ThreadPoolExecutor(len(GROUPS)) as threads:
        for group, text in threads.map(test, GROUPS):
            marks = ("FAILED", "ERROR", "E  ", " passed", " failed", "no CUDA graph", "cosine", "IoU", "skipped")
            worth = [line for line in text.splitlines() if any(mark in line for mark in marks)]
            check.lines += [f"    {group}: {line.strip()[:240]}" for line in worth[-25:]]


def run_benches(check: Check, ways: Sequence[str], options: Sequence[str]) -> None:
    """Measure `process` in several ways, and say what each reached. options: of `rollcall bench gpu`."""
    for number, way in enumerate(ways):
        share_s = check.left_s() / (len(ways) - number)
        target = check.out / f"bench-{way}.json"
        chosen, models = WAYS[way], check.out / "models"
        words = [word for setting in chosen.knobs for word in ("--set", setting)]
        if chosen.is_random:
            if not (models / FILE).exists():
                check.run("models", ["tests.gpu.random_models", str(models)], share_s)
            words += ["--config", WEIGHTS, "--config", str(models / FILE)]
        most = ["--most", f"{max(1, share_s - 15):.0f}"] if chosen.bench == "gpu" else []
        words = ["jobs.bench", chosen.bench, *most, *words, *(options if chosen.options is None else chosen.options)]
        check.run(f"bench-{way}", [*words, "--json", str(target)], check.left_s() / (len(ways) - number))
        if target.is_file():
            check.lines += [f"    {way}: {line}" for line in figures(json.loads(target.read_text()))]


def figures(report: Mapping[str, Any]) -> list[str]:
    """Return a line for each row of a report, with the medians that count, or with all if none of them is there."""
    lines = []
    for row in report["rows"]:
        shown = [name for name in SHOWN if name in row["figures"]] or list(row["figures"])
        medians = (f"{name} {row['figures'][name]['median']:.4g}" for name in shown)
        lines.append(f"{row['way']}: {', '.join(medians)}")
    return lines


def main(words: Sequence[str] | None = None, begin: Callable[[Path, float], Check] = Check) -> int:
    """Run what the command line asks for, and return 0 whatever it showed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--most", type=float, default=560, help="s; everything ends within it")
    parser.add_argument("--only", choices=["tests", "bench"])
    parser.add_argument("--ways", default=",".join(USUAL), help=f"of {', '.join(WAYS)}")
    asked, options = parser.parse_known_args(words)
    asked.out.mkdir(parents=True, exist_ok=True)
    check = begin(asked.out, asked.most)
    if asked.only != "bench":
        run_tests(check, check.left_s() * (1 if asked.only else 0.45))
    if asked.only != "tests":
        run_benches(check, [way for way in asked.ways.split(",") if way], options)
    (asked.out / "summary.txt").write_text("\n".join(check.lines) + "\n")
    print("\n".join(line for line in check.lines if line.startswith("    ")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
