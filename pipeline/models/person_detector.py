"""Find people with Ultralytics' detectors, in one forward pass over pictures of one size.

A sample's result does not depend on its place in a batch or on its neighbours: batches have one shape per picture
size and are padded. A .pt file is a pickle of a model. The caller has compared its hash with the registry.
"""

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import nms

from pipeline import boxes as geometry
from pipeline.arrays import Detections, Picture
from pipeline.errors import UserError
from pipeline.models.batches import Batches
from pipeline.models.networks import (
    REPLACE,
    UNREADABLE,
    fill,
    in_picture_layout,
    read_checkpoint,
    read_facts,
    why_unreadable,
    write_checkpoint,
)

STRIDE = 32
GREY = 114
"""The border that the networks were trained with."""
CLASS_OFFSET = np.float32(7680)
"""Ultralytics moves the boxes of class c by c times this many px before NMS. The sum rounds them, so it belongs to the
result."""


class PersonDetector:
    """Finds people with the network of an Ultralytics .pt file, or of a safetensors file of `write_network`.

    image_size: px. Long side of the network's input, a multiple of 32.
    batch: number of pictures in a forward pass.
    min_score: weaker detections are dropped.
    nms_iou: of two boxes that overlap more, the weaker is dropped. Networks that end without NMS need none.
    max_per_frame: most people in a picture.
    half: use float16 up to the head. The head stays float32, because a float16 coordinate beyond 512 px is a
        multiple of half a pixel.
    target: name of the class to find.

    Raises UserError if the file is not a detector of that class.
    """

    def __init__(
        self,
        path: Path,
        *,
        image_size: int,
        batch: int,
        min_score: float,
        nms_iou: float,
        max_per_frame: int,
        device: str,
        half: bool,
        target: str = "person",
    ) -> None:
        if image_size % STRIDE:
            raise ValueError(f"image_size must be a multiple of {STRIDE}, got {image_size}")
        self.batch = batch
        self._image_size = image_size
        self._min_score = min_score
        self._nms_iou = nms_iou
        self._max_per_frame = max_per_frame
        self._device = torch.device(device)
        self._dtype = torch.float16 if half else torch.float32
        self._network, names = _load(path)
        self._target, self._num_classes = _class_named(target, names, path), len(names)
        self._ends_without_nms = bool(getattr(self._network, "end2end", False))
        self.batches = Batches(self.candidates, device=device, keep=self.anchors, padding=GREY)
        in_picture_layout(self._network, self._device)
        if half:
            self._network.half()
            head = self._network.model[-1]
            head.float()
            head.register_forward_pre_hook(lambda _, inputs: ([level.float() for level in inputs[0]],))

    @property
    def network(self) -> Any:
        """Return Ultralytics' network, fused."""
        return self._network

    @property
    def target(self) -> int:
        """Return the index of the wanted class."""
        return self._target

    def __call__(self, pictures: Sequence[Picture], *, alone: bool = False) -> list[Detections]:
        """Return one Detections per picture, by falling score.

        alone: use batches of one, for a video that is a single picture.
        """
        by_place: dict[int, Detections] = {}
        for size in dict.fromkeys(picture.shape for picture in pictures):
            places = [place for place, picture in enumerate(pictures) if picture.shape == size]
            step = 1 if alone else self.batch
            for start in range(0, len(places), step):
                some = places[start : start + step]
                for place, detections in zip(some, self._find([pictures[i] for i in some], step), strict=True):
                    by_place[place] = detections
        return [by_place[place] for place in range(len(pictures))]

    def _find(self, pictures: Sequence[Picture], batch: int) -> list[Detections]:
        height, width = pictures[0].shape[:2]
        fit = self.fit(width, height)

        def write(samples: NDArray[np.uint8], first: int) -> None:
            for sample, picture in zip(samples, pictures[first : first + len(samples)], strict=True):
                fit.paste(picture, sample)

        shape = (batch, fit.out_height, fit.out_width, 3)
        (candidates,) = self.batches.run(shape, np.uint8, write, len(pictures))
        return [self.detections(each, fit) for each in candidates]

    def fit(self, width: int, height: int) -> "Fit":
        """Return the layout of pictures of one size in the network's input."""
        return Fit.of(width, height, self._image_size)

    def candidates(self, samples: Tensor) -> Tensor:
        """Return the candidates of (B, H, W, 3) uint8 samples: all of them, so that the shape is fixed and one copy
        brings them to the host. (B, N, 6) x1, y1, x2, y2, score, class of networks without NMS, and (B, 5, N) x, y,
        width, height, score of others."""
        prediction = self._network(samples.permute(0, 3, 1, 2).to(self._dtype) / 255)[0]
        return prediction if self._ends_without_nms else of_class(prediction, self._target, self._num_classes)

    def _suppressed(self, candidates: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (M, 5) boxes and scores of one sample."""
        least = np.float32(max(self._min_score - 0.0005, 0))  # the rounded score decides
        if self._ends_without_nms:
            keep = (candidates[:, 4] > least) & (candidates[:, 5] == self._target)
            return candidates[keep][: self._max_per_frame, :5]
        return suppress(
            candidates, least, self._nms_iou, self._max_per_frame, offset=CLASS_OFFSET * np.float32(self._target)
        )

    def anchors(self) -> Any:
        """Return the tensors that Ultralytics' head makes anew for each shape of its input."""
        head = self._network.model[-1]
        return head.anchors, head.strides

    def detections(self, candidates: NDArray[np.float32], fit: "Fit") -> Detections:
        """Return the people among one sample's row of `candidates`."""
        rows = self._suppressed(candidates)
        boxes = np.round(geometry.clip(fit.back(rows[:, :4]), fit.width, fit.height), 1).astype(np.float32)
        scores = np.round(rows[:, 4], 3).astype(np.float32)
        keep = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]) & (scores >= np.float32(self._min_score))
        boxes, scores = boxes[keep], scores[keep]
        order = np.lexsort((*boxes.T[::-1], -scores))
        return Detections(boxes[order], scores[order])


def of_class(prediction: Tensor, target: int, num_classes: int) -> Tensor:
    """Return (B, 5, N) boxes and scores of the class `target` from (B, 4 + num_classes + …, N) boxes and scores.

    The score is 0 where another class is likelier. Of equal ones, the first class counts.
    """
    scores = prediction[:, 4 : 4 + num_classes]
    wanted = scores[:, target]
    is_best = torch.ones_like(wanted, dtype=torch.bool)
    if target > 0:
        is_best &= wanted > scores[:, :target].amax(1)
    if target + 1 < num_classes:
        is_best &= wanted >= scores[:, target + 1 :].amax(1)
    return torch.cat([prediction[:, :4], (wanted * is_best)[:, None]], 1)


def suppress(
    candidates: NDArray[np.float32], least: np.float32, iou: float, most: int, *, offset: np.float32
) -> NDArray[np.float32]:
    """Return (M, 5) x1, y1, x2, y2, score, M <= `most`, by falling score, from the (5, N) x, y, width, height, score of
    one sample. Equal scores stay in their order.

    least: candidates up to this score are dropped.
    iou: of two boxes that overlap more, the weaker is dropped.
    offset: px. It is added to the boxes for the comparison.
    """
    (places,) = np.nonzero(candidates[4] > least)
    places = places[np.argsort(-candidates[4, places], kind="stable")]
    centres, halves = candidates[:2, places].T, candidates[2:4, places].T / 2
    rows = np.hstack([centres - halves, centres + halves, candidates[4:, places].T]).astype(np.float32, copy=False)
    kept = nms(torch.from_numpy(rows[:, :4] + offset), torch.from_numpy(rows[:, 4].copy()), iou)
    return rows[kept.numpy()[:most]]


class Fit:
    """The layout of pictures of one size in the network's input: scaled, and centred between grey borders.

    inner, outer: (width, height) in px of the scaled picture and of the input.
    corner: left and upper border of the scaled picture, px.
    """

    def __init__(self, width: int, height: int, inner: tuple[int, int], outer: tuple[int, int]) -> None:
        self.width, self.height = width, height
        self.inner, self.outer = inner, outer
        self._inner_width, self._inner_height = inner
        self.out_width, self.out_height = outer
        self._left = (self.out_width - self._inner_width) // 2
        self._top = (self.out_height - self._inner_height) // 2
        self.corner = self._left, self._top

    @classmethod
    def of(cls, width: int, height: int, image_size: int) -> "Fit":
        """Fit (height, width) pictures to a long side of `image_size`. The short side is padded to a multiple of 32."""
        scale = image_size / max(width, height)
        inner = max(1, round(width * scale)), max(1, round(height * scale))
        return cls(width, height, inner, (-(-inner[0] // STRIDE) * STRIDE, -(-inner[1] // STRIDE) * STRIDE))

    def paste(self, picture: Picture, sample: NDArray[np.uint8]) -> None:
        """Scale `picture` and write it with its borders into `sample`, (out_height, out_width, 3)."""
        inner = picture
        if (self._inner_width, self._inner_height) != (self.width, self.height):
            inner = cv2.resize(picture, (self._inner_width, self._inner_height), interpolation=cv2.INTER_LINEAR)
        bottom, right = self._top + self._inner_height, self._left + self._inner_width
        sample[: self._top] = sample[bottom:] = GREY
        sample[self._top : bottom, : self._left] = sample[self._top : bottom, right:] = GREY
        sample[self._top : bottom, self._left : right] = inner

    def back(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Convert (N, 4) boxes from the sample to the picture."""
        x, y = self.width / self._inner_width, self.height / self._inner_height
        offset = np.array([self._left, self._top] * 2, np.float32)
        return (boxes - offset) * np.array([x, y, x, y], np.float32)


def library() -> Any:
    """Return Ultralytics' module of models. It must not be imported before this call."""
    # Ultralytics reads these variables at import. They keep it from phoning home, installing packages and writing into
    # the home folder, and restrict checkpoints to known classes.
    os.environ["YOLO_OFFLINE"] = "true"
    os.environ["YOLO_AUTOINSTALL"] = "false"
    os.environ["YOLO_VERBOSE"] = "false"
    os.environ.setdefault("YOLO_CONFIG_DIR", os.path.join(tempfile.gettempdir(), f"rollcall-ultralytics-{os.getuid()}"))
    Path(os.environ["YOLO_CONFIG_DIR"]).mkdir(parents=True, exist_ok=True)
    from ultralytics.nn import tasks

    # A checkpoint may only hold known classes. load_checkpoint has no argument for that.
    setattr(tasks, "SAFE_LOAD", True)  # noqa: B010
    return tasks


def new_model(architecture: str, num_classes: int) -> Any:
    """Return an untrained DetectionModel of Ultralytics' YAML `architecture`. Raises FileNotFoundError."""
    tasks = library()
    layers = tasks.yaml_model_load(architecture)
    return tasks.DetectionModel(
        {**layers, "nc": num_classes}, verbose=False
    )  # with `nc=` it would print that it overrides the number of classes


def write_network(network: Any, architecture: str, path: Path, facts: Mapping[str, Any]) -> None:
    """Write an Ultralytics DetectionModel as safetensors in float16.

    architecture: its YAML within Ultralytics.
    facts: JSON metadata, stored beside what the loader needs.
    """
    names = {str(index): name for index, name in network.names.items()}
    write_checkpoint(path, network.state_dict(), {**facts, "architecture": architecture, "names": names}, half=True)


def _load(path: Path) -> tuple[Any, dict[int, str]]:
    facts = read_facts(path)
    return _load_written(path, facts) if facts else _load_checkpoint(path)


def _load_written(path: Path, facts: Mapping[str, Any]) -> tuple[Any, dict[int, str]]:
    try:
        names = {int(index): str(name) for index, name in facts["names"].items()}
        network: Any = new_model(facts["architecture"], len(names))
    except (KeyError, ValueError, AttributeError, TypeError, FileNotFoundError) as error:
        raise UserError(
            f"weights {path} are no detector that `rollcall train detector` wrote ({error!r}); {REPLACE}"
        ) from None
    return fill(network, read_checkpoint(path), path).fuse(verbose=False).eval(), names


def _load_checkpoint(path: Path) -> tuple[Any, dict[int, str]]:
    tasks = library()
    with tempfile.TemporaryDirectory() as folder:
        named = (
            Path(folder) / "weights.pt"
        )  # the suffix decides how the library reads it, and the cache names files by their hash
        named.symlink_to(Path(path).resolve())
        try:
            network, _ = tasks.load_checkpoint(str(named))
        except (*UNREADABLE, TypeError, AttributeError, ImportError) as error:
            why = why_unreadable(error)
            raise UserError(f"weights {path} are no detector of Ultralytics ({why}); {REPLACE}") from None
    if network.task != "detect":
        raise UserError(
            f"weights {path} are a model for the task {network.task!r}; observe.detector.weights must be for 'detect'"
        )
    fused: Any = network
    return fused.fuse(verbose=False).eval(), fused.names


def _class_named(target: str, names: dict[int, str], path: Path) -> int:
    for index, name in names.items():
        if name == target:
            return index
    known = ", ".join(list(names.values())[:5])
    raise UserError(f"weights {path} do not know the class {target}, only {known}, …; name another detector")
