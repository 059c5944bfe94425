"""Measure the models and `process` on a card: calls per second, analysed frames per second, use of the card.

python -m tests.bench.gpu_speed models OUT.json [--batches 8,32,8,16,4]
    Time calls of each network with pictures and crops of a run. `--batches` are those of detector, body, faces,
    estimates and restoration.
python -m tests.bench.gpu_speed passes OUT.json
    Split the batches of the kinds in networks.SAMPLES_A_PASS into passes of other sizes: which rows depend on their
    place, and the time of a batch.
python -m tests.bench.gpu_speed process OUT.json VIDEO [--videos 10] [--seconds 30] [--set KEY=VALUE …]
    Process copies of a crowded video, repeated to a length, on pools that fit 16 cores and a card.

It uses only calls that earlier versions have too: with PYTHONPATH at another checkout, it measures that one.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from tests.shared import SHARED

FPS = 8
"""Analysed frames per second of video."""
REPEATS = 5
MODELS = ("yolov8n", "yolo11m", "osnet-x0-25", "osnet-x1-0", "retinaface-r50", "facenet", "gfpgan")
POOLS = (
    "run.observe={workers: 10, max_workers: 10, cpus: 1, gpus: 0.07}",
    "run.enrich={workers: 3, max_workers: 3, cpus: 1, gpus: 0.1}",
)


def frames(video: Path, count: int) -> list[NDArray[np.uint8]]:
    with av.open(str(video)) as container:
        found = []
        for frame in container.decode(video=0):
            found.append(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8))
            if len(found) == count:
                break
    return found


def calls(
    name: str, batches: Sequence[int], made: Callable[[str], Path], pictures: Sequence[NDArray[np.uint8]]
) -> tuple[Callable[[], Any], int]:
    """Return a function that calls the network with one batch, and the number of samples in it."""
    from pipeline.models.body_embedder import BodyEmbedder
    from pipeline.models.face_embedder import FaceEmbedder
    from pipeline.models.loading import WHOLE, load_face_detector
    from pipeline.models.person_detector import PersonDetector

    on: dict[str, Any] = {"device": "cuda", "half": True}
    detector, body, faces, estimates, restored = batches
    if name.startswith("yolo"):
        path = SHARED / "weights" / "yolov8n.pt" if name == "yolov8n" else made(name)
        knobs = {"min_score": 0.1, "nms_iou": 0.7, "max_per_frame": 300}
        find = PersonDetector(path, image_size=640, batch=detector, **knobs, **on)
        some = [pictures[index % len(pictures)] for index in range(detector)]
        return lambda: find(some), detector
    if name.startswith("osnet"):
        path = SHARED / "weights" / "osnet_x0_25_msmt17.pt" if name == "osnet-x0-25" else made(name)
        embed = BodyEmbedder(path, batch=body, **on)
        crops = squares(pictures, body, (256, 128))
        return lambda: embed(crops), body
    if name.startswith("retinaface"):
        search = load_face_detector(name, {WHOLE: made(name)}, input_px=320, batch=faces, min_score=0.5, **on)
        crops = squares(pictures, faces, (200, 160))
        return lambda: search(list(crops)), faces
    if name == "facenet":
        know = FaceEmbedder(made(name), batch=estimates, **on)
        crops = squares(pictures, estimates, (256, 256))
        return lambda: know(crops), estimates
    from pipeline.models.face_restorer import FaceRestorer

    restore = FaceRestorer(made(name), batch=restored, **on)
    crops = squares(pictures, restored, (512, 512))
    return lambda: restore(crops), restored


def squares(pictures: Sequence[NDArray[np.uint8]], count: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    random = np.random.default_rng(0)
    found = []
    for index in range(count):
        picture = pictures[index % len(pictures)]
        top, left = random.integers(0, picture.shape[0] - 200), random.integers(0, picture.shape[1] - 120)
        found.append(cv2.resize(picture[top : top + 200, left : left + 120], size[::-1]))
    return np.stack(found).astype(np.uint8)


def measure_models(
    batches: Sequence[int], names: Sequence[str], checkpoints: Path, *, kernels: bool
) -> Iterator[dict[str, Any]]:
    import torch

    from tests.gpu.checkpoints import facenet, gfpgan, osnet, retinaface_r50, yolo

    writers = {
        "yolo11m": yolo("yolo11m.yaml"),
        "osnet-x1-0": osnet("osnet_x1_0"),
        "retinaface-r50": retinaface_r50,
        "facenet": facenet,
        "gfpgan": gfpgan,
    }

    def made(name: str) -> Path:
        if not (checkpoints / name).exists():
            writers[name](checkpoints / name)
        return checkpoints / name

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    torch.backends.cudnn.deterministic = True
    pictures = frames(SHARED / "clips" / "plaza.mp4", 48)
    for name in names:
        call, count = calls(name, batches, made, pictures)
        for _ in range(6):
            call()
        seconds = []
        for _ in range(REPEATS):
            start, times = time.perf_counter(), 0
            while times < 3 or time.perf_counter() - start < 0.25:
                call()
                times += 1
            seconds.append((time.perf_counter() - start) / times)
        row = {"model": name, "batch": count, "ms_per_call": round(1e3 * median(seconds), 2)}
        row |= {"samples_per_s": round(count / median(seconds)), "spread": round(max(seconds) / min(seconds), 3)}
        if kernels:  # the profiler slows down what runs after it
            row["kernel_ms_per_call"] = _kernel_ms(call)
        yield row
        torch.cuda.empty_cache()


def measure_passes(checkpoints: Path) -> Iterator[dict[str, Any]]:
    import torch

    from pipeline.models import networks
    from tests.gpu import cases

    def made(name: str) -> Path:
        if not (checkpoints / name).exists():
            cases.MADE[name](checkpoints / name)
        return checkpoints / name

    torch.backends.cudnn.deterministic = True
    torch.set_num_threads(1)
    table: Any = networks.SAMPLES_A_PASS
    for kind, standard in list(table.items()):
        most = 64 if kind == "retinaface-r50" else 4
        for size in (each for each in (1, 2, 4, 8, 16, 32, 64) if each <= most):
            table[kind] = size
            case = cases.CASES[kind](made, device="cuda", half=True)
            samples = np.repeat(case.samples(3)[:1], case.shape[0], axis=0)
            for _ in range(5):
                case.run(samples)
            outputs, seconds = case.run(samples), []
            for _ in range(REPEATS):
                start = time.perf_counter()
                outputs = case.run(samples)
                seconds.append(time.perf_counter() - start)
            moved = [
                place
                for place in range(len(samples))
                if any(each[place].tobytes() != each[0].tobytes() for each in outputs)
            ]
            row: dict[str, Any] = {"model": kind, "samples_a_pass": size, "places_that_differ": moved}
            row |= {"graphs": case.batches.num_graphs, "samples_per_s": round(len(samples) / median(seconds))}
            yield row
            del case, outputs
            torch.cuda.empty_cache()
        table[kind] = standard


def _kernel_ms(call: Callable[[], Any]) -> float | None:
    """Return the time that kernels and copies take in one call, from CUPTI."""
    from torch.profiler import ProfilerActivity, profile

    try:
        with profile(activities=[ProfilerActivity.CUDA]) as profiler:
            call()
        spans = sorted(
            (event.time_range.start, event.time_range.end)
            for event in profiler.events() or ()
            if str(event.device_type).endswith("CUDA")
        )
    except (RuntimeError, AssertionError) as error:
        print(f"no profile: {error}")
        return None
    busy, end = 0.0, 0.0
    for start, stop in spans:
        busy += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return round(busy / 1e3, 2) or None


def repeat(video: Path, target: Path, seconds: float, number: int) -> None:
    """Write the packets of `video` again and again until `seconds` are full, under a title of their own."""
    with av.open(str(target), "w") as output:
        output.metadata["title"] = f"copy {number}"
        with av.open(str(video)) as source:
            into = output.add_stream_from_template(source.streams.video[0])
        offset, dts, base = 0, -1, Fraction(1)
        while offset * base < seconds:
            length = 0
            with av.open(str(video)) as source:
                stream = source.streams.video[0]
                base = Fraction(stream.time_base or 1)
                for packet in source.demux(stream):
                    if packet.dts is None or packet.pts is None:
                        continue
                    if (packet.dts + offset) * base >= seconds:
                        return
                    length = max(length, packet.pts + (packet.duration or 0))
                    packet.pts, packet.dts = packet.pts + offset, max(packet.dts + offset, dts + 1)
                    dts = packet.dts
                    packet.stream = into
                    output.mux(packet)
            offset += length


class Card:
    """Samples the use of the card twice a second in a thread."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "Card":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(5)

    def _sample(self) -> None:
        import psutil

        try:
            import pynvml as nvml

            nvml.nvmlInit()
            card = nvml.nvmlDeviceGetHandleByIndex(0)
        except Exception as error:  # a machine without the library
            self.rows.append({"at": time.time(), "error": float("nan")})
            print(f"no use of the card: {error}")
            return
        earlier = self._gpm(nvml, card)
        psutil.cpu_percent()
        while not self._end.wait(0.5):
            rates = nvml.nvmlDeviceGetUtilizationRates(card)
            memory = nvml.nvmlDeviceGetMemoryInfo(card)
            row = {"at": time.time(), "gpu": float(rates.gpu), "memory_gb": int(memory.used) / 1e9}
            row["cpu"] = psutil.cpu_percent()
            later = self._gpm(nvml, card)
            if earlier is not None and later is not None:
                row |= self._between(nvml, earlier, later)
            earlier = later
            self.rows.append(row)

    @staticmethod
    def _gpm(nvml: Any, card: Any) -> Any:
        if os.environ.get("NO_GPM"):
            return None
        try:
            sample = nvml.nvmlGpmSampleAlloc()
            nvml.nvmlGpmSampleGet(card, sample)
        except Exception:  # cards before Hopper
            return None
        return sample

    @staticmethod
    def _between(nvml: Any, earlier: Any, later: Any) -> dict[str, float]:
        """Return the share of time that a multiprocessor is busy, in percent, from GPM."""
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


def while_busy(rows: Sequence[dict[str, float]]) -> Sequence[dict[str, float]]:
    """Return the samples from the first to the last at which the multiprocessors were busy for 1 % of the time.

    Loading models and writing tables are not among them. Chunks become durable long after their frames are analysed,
    so they do not tell when the work began.
    """
    key = "sm" if any("sm" in row for row in rows) else "gpu"
    places = [place for place, row in enumerate(rows) if row.get(key, 0) >= 1]
    return rows[places[0] : places[-1] + 1] if places else []


def measure_process(
    video: Path, num_videos: int, seconds: float, settings: Sequence[str], most_s: float
) -> dict[str, Any]:
    from tests.golden.by_hand import SHARED_WEIGHTS

    with tempfile.TemporaryDirectory() as folder, Card() as card:
        sources, output = Path(folder, "in"), Path(folder, "out")
        sources.mkdir()
        for number in range(num_videos):
            repeat(video, sources / f"{number}.mp4", seconds, number)
        options = [word for setting in (*POOLS, *settings) for word in ("--set", setting)]
        command = [sys.executable, "-m", "jobs.process", str(sources), "--output", str(output)]
        command += ["--config", str(SHARED_WEIGHTS), *options]
        start = time.time()
        with Path(folder, "said").open("w") as said:
            run = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, text=True)
        durable: list[tuple[float, int]] = []
        while run.poll() is None:
            time.sleep(0.2)
            if time.time() - start > most_s:
                run.send_signal(signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    run.wait(8)
                run.kill()
                break
            count = sum(1 for path in output.rglob("*.parquet") if "_work" in path.parts)
            if not durable or count > durable[-1][1]:
                durable.append((round(time.time() - start, 1), count))
        end = time.time()
        if run.returncode:
            print(Path(folder, "said").read_text()[-4000:])
        first = next((at for at, count in durable if count), float("nan"))
        analysed, people, spent = _totals(output)
    busy = while_busy(card.rows)
    busy_s = busy[-1]["at"] - busy[0]["at"] if busy else float("nan")
    shares = {
        key: round(sum(row[key] for row in busy if key in row) / max(1, sum(key in row for row in busy)), 1)
        for key in ("gpu", "sm", "occupancy", "cpu", "memory_gb")
    }
    return {
        "status": run.returncode,
        "videos": num_videos,
        "seconds_each": seconds,
        "settings": [*POOLS, *settings],
        "analysed_frames": analysed,
        "people_per_analysed_frame": round(people / max(1, analysed), 1),
        "wall_s": round(end - start, 1),
        "first_chunk_s": first,
        "analysed_per_s": round(analysed / (end - start), 1),
        "first_work_s": round(busy[0]["at"] - start, 1) if busy else float("nan"),
        "busy_s": round(busy_s, 1),
        "analysed_per_s_while_busy": round(analysed / busy_s, 1) if busy_s > 0 else float("nan"),
        "mean_percent_while_busy": shares,
        "worker_seconds": spent,
        "durable_objects_by_second": durable[:60],
        "card": card.rows,
    }


def _totals(output: Path) -> tuple[int, int, dict[str, float]]:
    """Return the analysed frames, the people in them, and the seconds of workers."""
    import pandas as pd

    try:
        videos = pd.read_parquet(output / "videos")
        people = len(pd.read_parquet(output / "detections", columns=["interpolated"]).query("not interpolated"))
        analysed = round(float(videos["duration_s"].sum()) * FPS)
        spent = pd.read_parquet(output / "runs")[["seconds", "gpu_seconds"]].sum()
    except (OSError, KeyError, ValueError) as error:
        print(f"no totals: {error!r}")
        return 0, 0, {}
    return analysed, people, {key: round(float(value), 1) for key, value in zip(spent.index, spent, strict=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["models", "passes", "process"])
    parser.add_argument("out", type=Path)
    parser.add_argument("video", type=Path, nargs="?", default=SHARED / "clips" / "plaza.mp4")
    parser.add_argument("--batches", default="64,256,64,16,4")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--checkpoints", type=Path, default=Path(tempfile.gettempdir()) / "rollcall-checkpoints")
    parser.add_argument("--kernels", action="store_true", help="also the time that the card is busy in a call")
    parser.add_argument("--videos", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--most", type=float, default=3600, help="s; a run that takes longer is interrupted")
    parser.add_argument("--set", action="append", default=[])
    asked = parser.parse_args()
    asked.checkpoints.mkdir(parents=True, exist_ok=True)
    if asked.what in ("models", "passes"):
        rows = []
        batches, names = list(map(int, asked.batches.split(","))), asked.models.split(",")
        for row in (
            measure_models(batches, names, asked.checkpoints, kernels=asked.kernels)
            if asked.what == "models"
            else measure_passes(asked.checkpoints)
        ):
            rows.append(row)
            print(json.dumps(row), flush=True)
            asked.out.write_text(json.dumps(rows, indent=1))
    else:
        found = measure_process(asked.video, asked.videos, asked.seconds, asked.set, asked.most)
        asked.out.write_text(json.dumps(found, indent=1))
        print(json.dumps({key: value for key, value in found.items() if key != "card"}, indent=1))


if __name__ == "__main__":
    main()
