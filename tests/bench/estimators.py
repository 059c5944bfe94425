"""Measure the time of every kind of estimator: CPU milliseconds for a face, on one thread.

    python -m tests.bench.estimators [--faces 16] [--repeats 3]

Networks whose weights are not beside the repository get random ones, in the layout of the official file. The time
counts the CPU, not the clock, because other work may use the machine. The best of the repeats counts.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from pipeline.config import load
from pipeline.interfaces import AttributeEstimator
from pipeline.models.aligned import Window
from pipeline.models.attributes import Calibration
from pipeline.models.classics import NAMES, ClassicFile, build_classic
from pipeline.models.estimator import Heads
from pipeline.models.face_embedder import View
from pipeline.models.heads import HeadsFile
from pipeline.models.loading import Loader, load_estimator
from pipeline.models.mivolo import V2_PREFIX, build_mivolo
from pipeline.models.networks import write_checkpoint
from pipeline.storage.blobs import fetch
from pipeline.weights import Registry
from tests.shared import SHARED

RANDOM, TRAINED = "random", "trained"
SIDE_PX = 224


def estimators(folder: Path, batch: int) -> Iterator[tuple[str, str, Callable[[], AttributeEstimator]]]:
    """Yield the name of each estimator, what its weights are, and a function that loads it."""
    from facenet_pytorch import InceptionResnetV1

    def of_kind(kind: str, **files: Path) -> Callable[[], AttributeEstimator]:
        return lambda: load_estimator(kind, files, batch=batch, device="cpu", half=False)

    def starter() -> AttributeEstimator:
        config = load(settings=["compute.device=cpu", f"estimate.batch={batch}"], profile="starter")
        estimator = Loader(config, Registry.of(config, fetch)).estimator()
        assert estimator is not None
        return estimator

    weights = SHARED / "weights"
    yield "starter-attributes", TRAINED, starter
    for name in ("wiki", "imdb"):
        files = {"age": weights / f"ssrnet_{name}.h5", "gender": weights / f"ssrnet_{name}_gender_models.h5"}
        yield f"ssrnet-{name}", TRAINED, of_kind("ssrnet", **files)
    facenet = folder / "facenet.pt"
    torch.save(InceptionResnetV1(classify=False).state_dict(), facenet)
    heads = {"embedder": facenet, "heads": weights / "bosch-data-huber.h5"}
    yield "bosch-heads", "FaceNet random, heads trained", of_kind("heads", **heads)
    dense = folder / "dense.safetensors"
    view = View(Window(left=0.0, top=0.0, right=1.0, bottom=1.0), 127.5)
    file = HeadsFile(dimensions=128, view=view, embedder="", calibration=Calibration.neutral())
    file.write(dense, Heads(128))
    mobile = {"embedder": weights / "MobileFaceNet_Xiaoccer_068.ckpt", "heads": dense}
    yield "heads on MobileFaceNet", "MobileFaceNet trained, heads random", of_kind("heads", **mobile)
    for name in NAMES:
        if name != "ssrnet":  # as fast as the trained ones above
            path = folder / name
            classic = ClassicFile(name=name, crops=10, calibration=Calibration.neutral())
            classic.write(path, build_classic(name))
            yield name, RANDOM, of_kind("network", path=path)
    for name, side_px in (("mivolo-imdb", 224), ("mivolo-v2", 384)):
        path = folder / f"{name}.safetensors"
        tensors = build_mivolo(side_px).state_dict()
        write_checkpoint(path, {V2_PREFIX + key: tensor for key, tensor in tensors.items()}, {}, half=False)
        yield name, RANDOM, of_kind("mivolo", path=path)


def cpu_ms(estimator: AttributeEstimator, num_faces: int, repeats: int) -> float:
    """Return the CPU milliseconds for a face."""
    faces = np.random.default_rng(0).integers(0, 256, (num_faces, SIDE_PX, SIDE_PX, 3), np.uint8)
    estimator(faces)
    times_s: list[float] = []
    for _ in range(repeats):
        started = time.process_time()
        estimator(faces)
        times_s.append(time.process_time() - started)
    return 1000 * min(times_s) / num_faces


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, default=16, help="faces in a batch")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for name, weights, build in estimators(Path(folder), arguments.faces):
            ms = cpu_ms(build(), arguments.faces, arguments.repeats)
            print(f"{name}\t{weights}\t{ms:.1f} ms a face", flush=True)


if __name__ == "__main__":
    main()
