"""Estimators, face detectors and embedders from ONNX files, by what their registry entry says of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from pipeline.arrays import Estimates, Faces, Picture
from pipeline.boxes import Boxes
from pipeline.cores.age_dist import grouped, over_years
from pipeline.errors import DataError, UserError
from pipeline.models.aligned import Window
from pipeline.models.attributes import STD_YEARS
from pipeline.models.body_embedder import cut_bodies
from pipeline.models.checked import SUM_MARGIN
from pipeline.models.estimator import NO_ESTIMATES, estimates_of
from pipeline.models.face_detector import NO_FACES, faces_of, fit
from pipeline.models.onnx import OnnxNetwork
from pipeline.weights.onnx_options import (
    EmbedderOptions,
    OnnxValues,
    Options,
    read_body_embedder,
    read_estimator,
    read_face_detector,
    read_face_embedder,
)

WHOLE = Window(left=0.0, top=0.0, right=1.0, bottom=1.0)
ENTRY = "options"
MARGIN = 1e-3
"""Probabilities below 0 or above 1 by no more than this are rounded."""


class OnnxEstimator:
    """An estimator of age, gender or both (kind onnx-estimator). What the network does not say is nan.

    spec: the options of its entry.
    """

    def __init__(self, path: Path, *, options: Options, batch: int, device: str, **_: object) -> None:
        self.spec = read_estimator(options, ENTRY)
        self._window = _window(self.spec.window)
        asked = [values for values in (self.spec.age, self.spec.gender) if values]
        self._network = _sized(path, self.spec.input, [values.output for values in asked], batch, device)
        outputs = self._network.check(lambda picture: self._outputs(self._network(picture[None])))
        for values, output in zip(asked, outputs, strict=True):
            _check_columns(path, values, output.shape[1], is_gender=values is self.spec.gender)

    def __call__(self, faces: NDArray[np.uint8]) -> Estimates:
        if not len(faces):
            return NO_ESTIMATES
        height, width = self._network.size
        outputs = iter(self._outputs(self._network(self._window.cut(faces, width, height))))
        nothing = np.full(len(faces), np.nan)
        ages, stds, dists = (nothing, nothing, None) if self.spec.age is None else _ages(next(outputs), self.spec.age)
        probs = nothing if self.spec.gender is None else _female_probs(next(outputs), self.spec.gender)
        return estimates_of(ages, stds, probs, dists)

    def _outputs(self, outputs: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Return the output of age, then that of gender, as far as they are asked for."""
        by_name = dict(zip(self._network.outputs, outputs, strict=True))
        return [by_name[values.output] for values in (self.spec.age, self.spec.gender) if values]


class OnnxEstimators:
    """An estimator of age and one of gender as one (kind onnx-estimators). options: by part."""

    def __init__(self, age: Path, gender: Path, *, options: Mapping[str, Options], **settings: Any) -> None:
        self._age = OnnxEstimator(age, options=options["age"], **settings)
        self._gender = OnnxEstimator(gender, options=options["gender"], **settings)
        for part, given in (("age", self._age.spec.age), ("gender", self._gender.spec.gender)):
            if given is None:
                raise UserError(
                    f"weights {age if part == 'age' else gender}: the entry of the part {part} has options that "
                    f"name no {part}; state its output there, or name another entry as this part"
                )

    def __call__(self, faces: NDArray[np.uint8]) -> Estimates:
        ages, genders = self._age(faces), self._gender(faces)
        return Estimates(ages.ages, ages.age_stds, genders.female_probs, ages.age_dists, ages.age_leans)


class OnnxFaceEmbedder:
    """An embedder of aligned faces (kind onnx-face-embedder)."""

    def __init__(self, path: Path, *, options: Options, batch: int, device: str, **_: object) -> None:
        spec = read_face_embedder(options, ENTRY)
        self._window = _window(spec.window)
        self._network, self.dimensions = _embedder(path, spec, batch, device)

    def __call__(self, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
        if not len(faces):
            return np.zeros((0, self.dimensions), np.float32)
        height, width = self._network.size
        return self._network(self._window.cut(faces, width, height))[0]


class OnnxBodyEmbedder:
    """An embedder of bodies (kind onnx-body-embedder)."""

    def __init__(self, path: Path, *, options: Options, batch: int, device: str, **_: object) -> None:
        self._network, self.dimensions = _embedder(path, read_body_embedder(options, ENTRY), batch, device)
        self.batch = self._network.batch

    def crops(self, picture: Picture, boxes: Boxes) -> NDArray[np.uint8]:
        return cut_bodies(picture, boxes, *self._network.size)

    def __call__(self, crops: NDArray[np.uint8], *, alone: bool = False) -> NDArray[np.float32]:
        """Return (N, D) vectors of any length. The batch has one shape, so `alone` changes nothing."""
        if not len(crops):
            return np.zeros((0, self.dimensions), np.float32)
        return self._network(crops)[0]


class OnnxFaceDetector:
    """A face detector whose boxes are decoded in the file, or are distances from cells, as SCRFD's (kind
    onnx-face-detector). One crop per call."""

    def __init__(
        self, path: Path, *, options: Options, input_px: int, min_score: float, device: str, **_: object
    ) -> None:
        self._spec = read_face_detector(options, ENTRY)
        size = self._spec.input.size or (input_px, input_px)
        if size[0] != size[1]:
            raise UserError(f"weights {path}: the input of a face detector must be square, got {size[0]}x{size[1]} px")
        self._side_px, self._min_score, self._path = size[0], min_score, path
        outputs = (*self._spec.boxes, *self._spec.scores, *self._spec.landmarks)
        self._network = OnnxNetwork(path, self._spec.input, outputs, size=size, batch=1, device=device)
        self._network.check(lambda picture: self._decode(self._network.alone(picture)))

    def __call__(self, crops: Sequence[Picture]) -> list[Faces]:
        return [self._find(crop) for crop in crops]

    def _find(self, crop: Picture) -> Faces:
        canvas, scale = fit(crop, self._side_px)
        boxes, scores, landmarks = self._decode(self._network.alone(canvas))
        likely = np.round(scores, 3) >= np.float32(self._min_score)
        if not likely.any():
            return NO_FACES
        return faces_of((boxes[likely], scores[likely], landmarks[likely]), scale, self._min_score)

    def _decode(
        self, outputs: Sequence[NDArray[np.float32]]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Return boxes (A, 4) xyxy, scores (A,) and landmarks (A, 5, 2) in px of the input."""
        spec = self._spec
        by_name = dict(zip(self._network.outputs, outputs, strict=True))
        rows = [self._rows(by_name[name], 4, name) for name in spec.boxes]
        counts = [len(each) for each in rows]
        scores = np.concatenate(
            [self._scores(by_name[name], count, name) for name, count in zip(spec.scores, counts, strict=True)]
        )
        points = [self._rows(by_name[name], 10, name) for name in spec.landmarks]
        points = points or [np.full((count, 10), np.nan, np.float32) for count in counts]
        if spec.box_form == "distances":
            boxes, landmarks = self._from_distances(rows, points)
        else:
            scale = self._side_px if spec.unit == "share" else 1
            boxes, landmarks = _corners(rows[0] * scale, spec.box_form), points[0] * scale
        if len(landmarks) != len(boxes):
            raise UserError(
                f"weights {self._path} give {len(boxes)} boxes and {len(landmarks)} rows of landmarks; "
                "correct the outputs of this registry entry"
            )
        return boxes.astype(np.float32), scores, landmarks.reshape(-1, 5, 2).astype(np.float32)

    def _from_distances(
        self, rows: Sequence[NDArray[np.float32]], points: Sequence[NDArray[np.float32]]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        boxes, landmarks = [], []
        for stride, far, moved in zip(self._spec.strides, rows, points, strict=True):
            cells = -(-self._side_px // stride)
            grid = np.stack(np.meshgrid(np.arange(cells), np.arange(cells)), axis=-1).reshape(-1, 2) * stride
            places = np.repeat(grid, self._spec.anchors, axis=0).astype(np.float32)
            if len(places) != len(far) or len(moved) != len(far):
                raise UserError(
                    f"weights {self._path} give {len(far)} boxes at stride {stride}, and there are {len(places)} "
                    f"places in {self._side_px} px; correct strides and anchors of this registry entry"
                )
            boxes.append(np.hstack([places - far[:, :2] * stride, places + far[:, 2:] * stride]))
            landmarks.append(np.tile(places, 5) + moved * stride)
        return np.concatenate(boxes), np.concatenate(landmarks)

    def _scores(self, output: NDArray[np.float32], count: int, name: str) -> NDArray[np.float32]:
        columns = output.size // max(count, 1)
        if output.size != columns * count or (count and self._spec.score_column >= columns):
            raise UserError(
                f"weights {self._path} give {output.size} scores in {name} for {count} boxes; correct the outputs and "
                "the column of this registry entry"
            )
        values = output.reshape(count, columns if count else 1)
        if self._spec.score_form == "logits":
            values = softmax(values, axis=1) if columns > 1 else expit(values)
        else:
            _refuse_others(values, name)
        return values[:, self._spec.score_column].astype(np.float32)

    def _rows(self, output: NDArray[np.float32], columns: int, name: str) -> NDArray[np.float32]:
        if output.size % columns or (output.size and output.shape[-1] % columns):
            raise UserError(
                f"weights {self._path} give {'x'.join(map(str, output.shape))} numbers in {name}, and {columns} belong "
                "to each box; correct the outputs of this registry entry"
            )
        return output.reshape(-1, columns)


def _sized(path: Path, spec: Any, outputs: Sequence[str], batch: int, device: str) -> OnnxNetwork:
    return OnnxNetwork(path, spec, outputs, size=spec.size, batch=batch, device=device)


def _embedder(path: Path, spec: EmbedderOptions, batch: int, device: str) -> tuple[OnnxNetwork, int]:
    """Return the network and the number of its dimensions."""
    network = _sized(path, spec.input, [spec.output] if spec.output else [], batch, device)
    (vectors,) = network.check(lambda picture: network(picture[None]))
    if vectors.shape[1] < 2:
        raise UserError(f"weights {path} give one number for a picture and no vector; name another output")
    return network, vectors.shape[1]


def _window(window: tuple[float, float, float, float] | None) -> Window:
    return WHOLE if window is None else Window(*window)


def _check_columns(path: Path, values: OnnxValues, columns: int, *, is_gender: bool) -> None:
    """Raise UserError if an output does not have the columns that its form needs."""
    start, end = values.columns or (0, columns)
    chosen = end - start
    if end > columns:
        raise UserError(
            f"weights {path} give {columns} columns in {values.output}, and the entry uses columns {start} to {end}; "
            "correct columns"
        )
    if values.form == "years" and chosen != 1:
        raise UserError(f"weights {path}: an age in years must be one column of {values.output}, got {chosen}")
    if values.classes is not None and len(values.classes) != chosen:
        raise UserError(
            f"weights {path} give {chosen} columns in {values.output}, and the entry has {len(values.classes)} "
            "classes; state one class per column"
        )
    if not is_gender and values.form != "years" and chosen < 2:
        raise UserError(
            f"weights {path}: an age as {values.form} needs a column for each class, got one column of "
            f"{values.output}; the form may be years"
        )
    if is_gender and chosen not in (1, 2):
        raise UserError(f"weights {path}: a gender must be one or two columns of {values.output}, got {chosen}")


def _chosen(output: NDArray[np.float32], values: OnnxValues) -> NDArray[np.float64]:
    start, end = values.columns or (0, output.shape[1])
    return output[:, start:end].astype(np.float64)


def _probabilities(output: NDArray[np.float32], values: OnnxValues) -> NDArray[np.float64]:
    """Return (N, K) probabilities of K > 1 columns, which sum to 1."""
    chosen = _chosen(output, values)
    if values.form == "logits":
        return softmax(chosen, axis=1)
    _refuse_others(chosen, values.output)
    chosen = chosen.clip(0)
    sums = chosen.sum(axis=1, keepdims=True)
    if (np.abs(sums - 1) > SUM_MARGIN).any():
        raise DataError(
            f"the probabilities in {values.output} sum to {sums[np.abs(sums - 1).argmax(), 0]:.3g} and not to 1; the "
            "form may be logits, or columns may be missing"
        )
    return chosen / sums


def _refuse_others(numbers: NDArray[np.floating], output: str) -> None:
    """Raise DataError if some numbers are no probabilities."""
    others = numbers[(numbers < -MARGIN) | (numbers > 1 + MARGIN)]
    if len(others):
        raise DataError(f"{output} has {others[0]:.3g}, which is no probability; the form may be logits")


def _ages(
    output: NDArray[np.float32], values: OnnxValues
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64] | None]:
    """Return (N,) ages, their standard errors, and (N, 12) distributions, None for an age in years."""
    if values.form == "years":
        ages = _chosen(output, values)[:, 0] * values.scale + values.offset
        return ages, np.full(len(ages), values.std), None
    shares = _probabilities(output, values)
    classes = values.classes or tuple((float(year), float(year)) for year in range(shares.shape[1]))
    years = over_years(shares, classes)
    middles = np.array([(first + last) / 2 for first, last in classes])
    ages = shares @ middles
    spreads = np.sqrt(np.maximum(years @ np.arange(years.shape[1]) ** 2 - (years @ np.arange(years.shape[1])) ** 2, 0))
    stds = np.full(len(ages), values.std) if values.std is not None else np.clip(spreads, *STD_YEARS)
    return ages, stds, grouped(years, ages, stds)


def _female_probs(output: NDArray[np.float32], values: OnnxValues) -> NDArray[np.float64]:
    chosen = _chosen(output, values)
    if chosen.shape[1] > 1:
        return _probabilities(output, values)[:, values.female]
    if values.form == "logits":
        probs = expit(chosen[:, 0])
    else:
        _refuse_others(chosen, values.output)
        probs = chosen[:, 0].clip(0, 1)
    return probs if values.female == 0 else 1 - probs


def _corners(boxes: NDArray[np.float32], form: str) -> NDArray[np.float32]:
    """Return (N, 4) boxes as xyxy."""
    if form == "xyxy":
        return boxes
    start, sizes = boxes[:, :2], boxes[:, 2:]
    start = start - sizes / 2 if form == "centre" else start
    return np.hstack([start, start + sizes])
