"""Measure the models on a card: calls per second. `rollcall bench gpu` measures `process`.

python -m tests.bench.gpu_speed models OUT.json [--batches 8,32,8,16,4]
    Time calls of each network with pictures and crops of a run. `--batches` are those of detector, body, faces,
    estimates and restoration.
python -m tests.bench.gpu_speed passes OUT.json
    Split the batches of the kinds in networks.SAMPLES_A_PASS into passes of other sizes: which rows depend on their
    place, and the time of a batch.

It uses only calls that earlier versions have too: with PYTHONPATH at another checkout, it measures that one.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from tests.shared import SHARED

REPEATS = 5
MODELS = ("yolov8n", "yolo11m", "osnet-x0-25", "osnet-x1-0", "retinaface-r50", "facenet", "gfpgan")


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["models", "passes"])
    parser.add_argument("out", type=Path)
    parser.add_argument("--batches", default="64,256,64,16,4")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--checkpoints", type=Path, default=Path(tempfile.gettempdir()) / "rollcall-checkpoints")
    parser.add_argument("--kernels", action="store_true", help="also the time that the card is busy in a call")
    asked = parser.parse_args()
    asked.checkpoints.mkdir(parents=True, exist_ok=True)
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


if __name__ == "__main__":
    main()
