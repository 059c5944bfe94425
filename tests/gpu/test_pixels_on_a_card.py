"""What a card reads out of planes: the bits of a CPU, in every place, as a graph too; and the people that RGB shows."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from torch import Tensor

from pipeline.arrays import Planes
from pipeline.boxes import pairwise_iou
from pipeline.media.decode import SpanDecoder
from pipeline.media.probing import probe
from pipeline.models.batches import EAGER_BATCHES
from pipeline.models.body_embedder import BodyEmbedder
from pipeline.models.card_pixels import CardPixels
from pipeline.models.person_detector import PersonDetector
from pipeline.models.plane_kernels import CODINGS, coding_factors, cut, detail_sums, letterbox
from pipeline.models.plane_memory import PlaneMemory
from tests.gpu.cases import CROPS, PICTURES, WEIGHTS, person_detector
from tests.shared import SHARED, needs_shared

pytestmark = needs_shared
CARD = torch.device("cuda")
NAMES = ("plaza", "street-backlit", "talkshow")


@pytest.fixture(scope="module")
def pictures() -> list[Planes]:
    """Return four pictures each of a crowd and a street, and three of a talkshow."""
    some: list[Planes] = []
    for name in NAMES:
        path = str(SHARED / "clips" / f"{name}.mp4")
        probed = probe(lambda path=path: path)
        decoder = SpanDecoder(
            lambda path=path: path, probed, 0, 4, fps=1, cell_seconds=1, thumbnail_px=64, threads=1, keep_planes=True
        )
        planes = (frame.planes for frame in decoder)
        some += islice((each for each in planes if each is not None), 4)
    assert len(some) == 11
    return some


def random_parts(pictures: Sequence[Planes], count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the planes of all pictures, and `count` parts of them."""
    memory = np.zeros(sum(each.num_bytes for each in pictures), np.uint8)
    starts = np.cumsum([0, *(each.num_bytes for each in pictures)])[:-1]
    for picture, start in zip(pictures, starts, strict=True):
        picture.write(memory[start : start + picture.num_bytes])
    random, rows = np.random.default_rng(0), []
    for number in range(count):
        index = int(random.integers(len(pictures)))
        height, width = pictures[index].y.shape
        left, top = random.integers(0, width - 8), random.integers(0, height - 8)
        across, down = random.integers(0, width - left + 1), random.integers(0, height - top + 1)
        coding = number % len(CODINGS)
        rows.append([starts[index], coding, width, height, left, top, across, down])
    return memory, np.array(rows, np.int64)


KERNELS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "bodies": lambda memory, factors, parts: cut(memory, factors, parts, 256, 128),
    "pictures": lambda memory, factors, parts: letterbox(memory, factors, parts, (640, 360), (640, 384), (0, 12), 114),
    "detail": lambda memory, factors, parts: detail_sums(memory, factors, parts, 8),
}


@pytest.mark.parametrize("name", KERNELS)
def test_a_card_reads_the_bits_of_a_cpu_and_in_every_place(pictures: list[Planes], name: str) -> None:
    memory, parts = random_parts(pictures, 200)
    here, there = torch.device("cpu"), CARD
    outputs = []
    order = np.random.default_rng(1).permutation(len(parts))
    for device, some in ((here, parts), (there, parts), (there, parts[order])):
        with torch.inference_mode():
            output = KERNELS[name](
                torch.from_numpy(memory).to(device), coding_factors().to(device), torch.from_numpy(some).to(device)
            )
        outputs.append(output.cpu().numpy())
    assert_array_equal(outputs[1], outputs[0])
    assert_array_equal(outputs[2], outputs[0][order])


@pytest.fixture(scope="module")
def models() -> Iterator[tuple[PersonDetector, BodyEmbedder]]:
    on: dict[str, Any] = {"device": "cuda", "half": True}
    yield (
        person_detector(WEIGHTS / "yolov8n.pt", **on),
        BodyEmbedder(WEIGHTS / "osnet_x0_25_msmt17.pt", batch=CROPS, **on),
    )
    torch.cuda.empty_cache()


def reader(models: tuple[PersonDetector, BodyEmbedder], *, graphs: bool) -> CardPixels:
    made = CardPixels(PlaneMemory(2, 128 << 20, CARD), *models)
    for batches in (made._finding, made._embedding, made._measuring):
        batches.graphs = graphs
    return made


def read(here: CardPixels, pictures: Sequence[Planes]) -> tuple[list[Any], NDArray[np.float32], list[Any]]:
    with here.holding(pictures) as placed:
        people = here.detect(placed)
        boxes = [each.boxes for each in people]
        whole = [each.round().astype(np.int64) for each in boxes]
        found = [np.column_stack([each.boxes, each.scores]) for each in people]
        return found, here.embed(placed, boxes), here.sharpness(placed, whole)


def test_graphs_and_the_number_of_pictures_change_no_bit(
    models: tuple[PersonDetector, BodyEmbedder], pictures: list[Planes]
) -> None:
    """Portions of all sizes share the shapes of their batches, so a picture has the same people and vectors in each."""
    eager, graphs = (reader(models, graphs=graphs) for graphs in (False, True))
    for part in (pictures[:4], pictures[4:8], pictures[8:]):
        together = read(eager, part)
        alone = [read(eager, [picture]) for picture in part]
        for _ in range(EAGER_BATCHES):
            read(graphs, part)
        as_graph = read(graphs, part)
        assert all(map(np.array_equal, as_graph[0], together[0]))
        assert_array_equal(as_graph[1], together[1])
        assert all(map(np.array_equal, as_graph[2], together[2]))
        assert_array_equal(np.concatenate([vectors for _, vectors, _ in alone]), together[1])
        assert all(np.array_equal(one[0][0], two) for one, two in zip(alone, together[0], strict=True))
    assert [each.num_graphs > 0 for each in (graphs._finding, graphs._embedding, graphs._measuring)] == [True] * 3


def test_planes_show_the_people_of_rgb(models: tuple[PersonDetector, BodyEmbedder], pictures: list[Planes]) -> None:
    """97 of 100 sure people have a box with an IoU above .9, and the embeddings of the same box a cosine above .98."""
    detector, embedder = models
    here = reader(models, graphs=True)
    ious, cosines = [], []
    for part in (pictures[:4], pictures[4:8], pictures[8:]):
        with here.holding(part) as placed:
            on_planes = here.detect(placed)
            on_rgb = detector([picture.to_rgb() for picture in part])
            boxes = [each.boxes[each.scores >= 0.5] for each in on_rgb]
            vectors = here.embed(placed, boxes)
        crops = [embedder.crops(picture.to_rgb(), some) for picture, some in zip(part, boxes, strict=True)]
        cosines += (vectors * embedder(np.concatenate(crops))).sum(axis=1).tolist()
        for some, people in zip(boxes, on_planes, strict=True):
            ious += pairwise_iou(some, people.boxes).max(axis=1, initial=0).tolist()
    print(f"{len(ious)} people: IoU median {np.median(ious):.4f}, cosine at least {min(cosines):.4f}")
    assert len(ious) > 40
    assert np.mean(np.array(ious) > 0.9) > 0.97
    assert min(cosines) > 0.98
    assert detector.batch == PICTURES
