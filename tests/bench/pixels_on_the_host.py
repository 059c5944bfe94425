"""CPU time of an analysed frame besides its networks: with pictures as RGB, and with planes that a card reads.

python -m tests.bench.pixels_on_the_host VIDEO [--people 50] [--seconds 3] [--repeats 5]

Models are stubs: people stand in fixed boxes, and what a card computes takes no time. All else is the code of a run:
decoding, pictures, the detector's input and crops where the CPU makes them, planes into the memory of the host,
candidates. Both ways take turns.
"""

import argparse
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from statistics import median
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.arrays import Detections, Picture, PlacedPlanes, Planes
from pipeline.boxes import Boxes
from pipeline.chunk.observe import SpanObserver, bytes_of_planes
from pipeline.config import Config, load
from pipeline.media.decode import SpanDecoder
from pipeline.media.probe import Probe
from pipeline.media.probing import probe
from pipeline.models.body_embedder import cut_bodies
from pipeline.models.person_detector import Fit
from pipeline.models.plane_memory import PlaneMemory

BATCH = 64


def people(count: int, width: int, height: int) -> Detections:
    """Return people of many sizes side by side in several rows."""
    places = np.arange(count)
    across = max(1, int(np.ceil(count / 3)))
    left = (places % across) * (width / across)
    top = (places // across) * (height / 4)
    wide = np.minimum(width / across * 0.9 + 30, 200)
    boxes = np.column_stack([left, top, left + wide, np.minimum(top + 2.4 * wide, height)])
    return Detections(np.round(boxes, 1).astype(np.float32), np.linspace(0.9, 0.5, count).round(3).astype(np.float32))


class Stubs:
    """A detector, an embedder and a card that compute nothing. num_pictures: pictures that were shown to them."""

    batch = BATCH

    def __init__(self, found: Detections, memory: PlaneMemory | None) -> None:
        self.num_pictures = 0
        self._found, self._memory = found, memory
        self._sample = np.empty((1, 1, 3), np.uint8)
        self._random = np.random.default_rng(0)
        self.embeds = True

    def __call__(self, pictures: Sequence[Any], *, alone: bool = False) -> Any:
        if not len(pictures):
            return []
        if isinstance(pictures, np.ndarray):
            return np.full((len(pictures), 512), 0.04, np.float32)
        self.num_pictures += len(pictures)
        height, width = pictures[0].shape[:2]
        fit = Fit.of(width, height, 640)
        self._sample = np.empty((fit.out_height, fit.out_width, 3), np.uint8)
        for picture in pictures:
            fit.paste(picture, self._sample)
        return [self._found] * len(pictures)

    def crops(self, picture: Picture, boxes: Boxes) -> NDArray[np.uint8]:
        return cut_bodies(picture, boxes, 256, 128)

    def holding(self, pictures: Sequence[Planes]) -> AbstractContextManager[Sequence[PlacedPlanes]]:
        assert self._memory is not None
        return self._memory.holding(pictures)

    def detect(self, pictures: Sequence[PlacedPlanes]) -> list[Detections]:
        self.num_pictures += len(pictures)
        return [self._found] * len(pictures)

    def embed(self, pictures: Sequence[PlacedPlanes], boxes: Sequence[Boxes]) -> NDArray[np.float32]:
        return np.full((sum(map(len, boxes)), 512), 0.04, np.float32)

    def sharpness(
        self, pictures: Sequence[PlacedPlanes], boxes: Sequence[NDArray[np.int64]]
    ) -> list[NDArray[np.float64]]:
        # As in a film, the best crops of several people come from several frames, which become RGB for them.
        return [self._random.uniform(50, 150, len(some)) for some in boxes]


def seconds_of(way: str, video: str, config: Config, probed: Probe, num_people: int, num_seconds: int) -> float:
    """Return the CPU milliseconds of an analysed frame."""
    memory = PlaneMemory(1, bytes_of_planes(6), torch.device("cpu")) if way == "planes" else None
    stubs: Any = Stubs(people(num_people, probed.width, probed.height), memory)
    observer = SpanObserver(config, stubs, stubs, None, None, 6, stubs if memory else None)
    span = {"probe": probed.to_json(), "borders": [0], "durable": [], "end_cell": num_seconds}
    began = time.process_time()
    for _ in observer.observe(span, lambda: video):
        pass
    return 1000 * (time.process_time() - began) / stubs.num_pictures


def decoding_ms(video: str, config: Config, probed: Probe, num_seconds: int) -> float:
    """Return the CPU milliseconds for each analysed frame of decoding, with thumbnails and the motion of the camera."""
    decoder = SpanDecoder(
        lambda: video,
        probed,
        0,
        num_seconds,
        fps=config.observe.fps,
        cell_seconds=config.chunk.cell_seconds,
        thumbnail_px=config.observe.thumbnail_px,
        threads=1,
        camera_motion=True,
        keep_planes=True,
    )
    began = time.process_time()
    count = sum(frame.analysed for frame in decoder)
    return 1000 * (time.process_time() - began) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video")
    parser.add_argument("--people", type=int, default=50)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    config = load(settings=["candidates.look=null"]).on_device("cpu")
    probed = probe(lambda: asked.video)
    shown: dict[str, list[float]] = {"decoding alone": [], "rgb": [], "planes": []}
    for _ in range(asked.repeats):
        shown["decoding alone"].append(decoding_ms(asked.video, config, probed, asked.seconds))
        for way in ("rgb", "planes"):
            some = seconds_of(way, asked.video, config, probed, asked.people, asked.seconds)
            shown[way].append(some)
    for way, values in shown.items():
        spread = f"{min(values):.2f} to {max(values):.2f}"
        print(f"{way}: {median(values):.2f} ms of CPU for each analysed frame ({spread})")


if __name__ == "__main__":
    main()
