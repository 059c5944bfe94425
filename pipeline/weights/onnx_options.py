"""The options of registry entries for ONNX files: the input, and what the outputs mean, by their names.

docs/models.md explains them with examples. They are checked when the registry is read, before any work.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import UserError, nearest

Options = Mapping[str, Any]
NUMBER = (int, float)


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxInput:
    """The input of a network.

    name: of the input. None for the only one.
    size: height and width in px. None for a face detector that takes any size.
    layout: nchw or nhwc.
    colours: rgb or bgr.
    mean, std: of one colour, or of all three in their order. Values from 0 to 255 become (x - mean) / std.
    """

    name: str | None
    size: tuple[int, int] | None
    layout: str
    colours: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxValues:
    """Where an estimator's age or gender stands.

    output: name of the output.
    columns: first column, and the one after the last. None for all.
    form: years, probabilities or logits.
    scale, offset: years = value * scale + offset, for the form years.
    std: standard error of the age in years. None to take the spread of the probabilities.
    classes: first and last year of each column of probabilities. None for whole years from 0 on.
    female: number of the column of women. A single column of men has 1, because it is that of women it lacks.
    """

    output: str
    columns: tuple[int, int] | None
    form: str
    scale: float = 1.0
    offset: float = 0.0
    std: float | None = None
    classes: tuple[tuple[float, float], ...] | None = None
    female: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimatorOptions:
    """The options of kind onnx-estimator. window: see models.aligned.Window. age and gender: at least one is given."""

    input: OnnxInput
    window: tuple[float, float, float, float] | None
    age: OnnxValues | None
    gender: OnnxValues | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedderOptions:
    """The options of kinds onnx-face-embedder and onnx-body-embedder. output: None for the only one."""

    input: OnnxInput
    window: tuple[float, float, float, float] | None
    output: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorOptions:
    """The options of kind onnx-face-detector.

    boxes, scores, landmarks: names of the outputs, several if there is one for each stride. No landmarks: empty.
    box_form: xyxy, xywh, centre, or distances from the upper left corner of each cell, as SCRFD has them.
    unit: px of the input, or shares of its sides. Distances are in strides.
    score_form: probabilities or logits.
    score_column: of scores with several columns.
    strides: px, for distances.
    anchors: boxes in each cell, for distances.
    """

    input: OnnxInput
    boxes: tuple[str, ...]
    scores: tuple[str, ...]
    landmarks: tuple[str, ...]
    box_form: str
    unit: str
    score_form: str
    score_column: int
    strides: tuple[int, ...]
    anchors: int


def read_estimator(options: Options, where: str) -> EstimatorOptions:
    """Check the options of kind onnx-estimator. Raises UserError."""
    keys = _Keys(options, where, ("input", "window", "age", "gender"))
    age = _age(keys.below("age", _AGE)) if keys.options.get("age") is not None else None
    gender = _gender(keys.below("gender", _GENDER)) if keys.options.get("gender") is not None else None
    if age is None and gender is None:
        raise UserError(f"{where} must hold age or gender; for example gender: {{output: prob, form: logits}}")
    return EstimatorOptions(input=_input(keys), window=_window(keys), age=age, gender=gender)


def read_face_embedder(options: Options, where: str) -> EmbedderOptions:
    """Check the options of kind onnx-face-embedder. Raises UserError."""
    keys = _Keys(options, where, ("input", "window", "output"))
    return EmbedderOptions(input=_input(keys), window=_window(keys), output=keys.text("output", None))


def read_body_embedder(options: Options, where: str) -> EmbedderOptions:
    """Check the options of kind onnx-body-embedder. Raises UserError."""
    keys = _Keys(options, where, ("input", "output"))
    return EmbedderOptions(input=_input(keys), window=None, output=keys.text("output", None))


def read_face_detector(options: Options, where: str) -> DetectorOptions:
    """Check the options of kind onnx-face-detector. Raises UserError."""
    keys = _Keys(options, where, ("input", "boxes", "scores", "landmarks", "strides", "anchors"))
    boxes = keys.below("boxes", ("output", "form", "unit"))
    scores = keys.below("scores", ("output", "form", "column"))
    landmarks = (
        keys.below("landmarks", ("output",)).names("output") if keys.options.get("landmarks") is not None else ()
    )
    form = boxes.choice("form", ("xyxy", "xywh", "centre", "distances"), "xyxy")
    if form == "distances":
        boxes.refuse("unit", "distances are in strides")
    else:
        for name in ("strides", "anchors"):
            keys.refuse(name, "it belongs to boxes of the form distances")
    strides = keys.whole("strides", (), least=1)
    names = (boxes.names("output"), scores.names("output"), landmarks)
    if any(len(outputs) != max(1, len(strides)) for outputs in names if outputs):
        raise UserError(
            f"{where}: boxes, scores and landmarks must each name {max(1, len(strides))} outputs, one for each of "
            f"strides, got {', '.join(str(len(outputs)) for outputs in names)}; name them in the order of the strides"
        )
    if form == "distances" and not strides:
        raise UserError(f"{where}: strides is missing; distances need it, for example strides: [8, 16, 32]")
    return DetectorOptions(
        input=_input(keys, is_sized=False),
        boxes=names[0],
        scores=names[1],
        landmarks=landmarks,
        box_form=form,
        unit=boxes.choice("unit", ("px", "share"), "px"),
        score_form=scores.choice("form", ("probabilities", "logits"), "probabilities"),
        score_column=scores.whole_number("column", 0, least=0),
        strides=strides,
        anchors=keys.whole_number("anchors", 1, least=1),
    )


_AGE = ("output", "columns", "form", "scale", "offset", "std", "classes")
_GENDER = ("output", "columns", "form", "female")


def _age(keys: "_Keys") -> OnnxValues:
    form = keys.choice("form", ("years", "probabilities", "logits"), None)
    std = keys.number("std", None)
    if std is not None and std <= 0:
        raise UserError(f"{keys.where}: std must be above 0 years, got {std:g}; state the standard error of the age")
    if form == "years":
        keys.refuse("classes", "an age in years has none")
        if std is None:
            raise UserError(f"{keys.where}: std is missing; state the standard error of the age in years, as std: 7")
    else:
        for name in ("scale", "offset"):
            keys.refuse(name, "it belongs to an age in years; classes state the years of each column")
    classes = keys.options.get("classes")
    if classes is not None and not _are_classes(classes):
        raise UserError(
            f"{keys.where}: classes must be first and last years from 0 on, as [[0, 2], [4, 6]], got {classes!r}"
        )
    return OnnxValues(
        output=keys.text("output", None, is_needed=True),
        columns=_columns(keys),
        form=form,
        scale=keys.number("scale", 1.0),
        offset=keys.number("offset", 0.0),
        std=std,
        classes=None if classes is None else tuple((float(first), float(last)) for first, last in classes),
    )


def _gender(keys: "_Keys") -> OnnxValues:
    form = keys.choice("form", ("probabilities", "logits"), None)
    female = keys.whole_number("female", 0, least=0)
    if female > 1:
        raise UserError(f"{keys.where}: female must be the number of the column of women, 0 or 1, got {female}")
    output = keys.text("output", None, is_needed=True)
    return OnnxValues(output=output, columns=_columns(keys), form=form, female=female)


def _columns(keys: "_Keys") -> tuple[int, int] | None:
    if keys.options.get("columns") is None:
        return None
    columns = keys.whole("columns", (), least=0)
    if len(columns) != 2 or not columns[0] < columns[1]:
        raise UserError(
            f"{keys.where}: columns must be the first column and the one after the last, as [0, 2], got {list(columns)}"
        )
    return columns[0], columns[1]


def _are_classes(classes: Any) -> bool:
    return isinstance(classes, Sequence) and all(
        isinstance(pair, Sequence) and len(pair) == 2 and all(map(_is_number, pair)) and 0 <= pair[0] <= pair[1]
        for pair in classes
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, NUMBER) and not isinstance(value, bool) and math.isfinite(value)


def _input(keys: "_Keys", *, is_sized: bool = True) -> OnnxInput:
    inner = keys.below("input", ("name", "size", "layout", "colours", "mean", "std"))
    size = inner.whole("size", (), least=1)
    if (size or is_sized) and len(size) not in (1, 2):
        raise UserError(f"{inner.where}: size must be a side, or height and width in px, as [256, 128], got {size}")
    mean, std = inner.numbers("mean", (0.0,)), inner.numbers("std", (1.0,))
    for name, values in (("mean", mean), ("std", std)):
        if len(values) not in (1, 3) or (name == "std" and not all(values)):
            raise UserError(f"{inner.where}: {name} must be one number or three, and std not 0, got {list(values)}")
    return OnnxInput(
        name=inner.text("name", None),
        size=(size[0], size[-1]) if size else None,
        layout=inner.choice("layout", ("nchw", "nhwc"), "nchw"),
        colours=inner.choice("colours", ("rgb", "bgr"), "rgb"),
        mean=mean,
        std=std,
    )


def _window(keys: "_Keys") -> tuple[float, float, float, float] | None:
    if keys.options.get("window") is None:
        return None
    window = keys.numbers("window", ())
    if len(window) != 4 or not (window[0] < window[2] and window[1] < window[3]):
        raise UserError(
            f"{keys.where}: window must be left, top, right and bottom in shares of the aligned face, "
            f"as [0.2, 0.2, 0.8, 0.9], got {list(window)}"
        )
    return window[0], window[1], window[2], window[3]


class _Keys:
    """Reads the keys of one mapping. Raises UserError for unknown keys and for values of another type."""

    def __init__(self, options: Any, where: str, known: Sequence[str]) -> None:
        if not isinstance(options, Mapping):
            raise UserError(f"{where} must hold {', '.join(known)}, got {options!r}; docs/models.md has examples")
        among = f"there are {', '.join(known)}"
        for key in options:
            if key not in known:
                raise UserError(f"{where}: unknown key {key}{nearest(key, known, among)}")
        self.options, self.where = options, where

    def below(self, name: str, known: Sequence[str]) -> "_Keys":
        if name not in self.options:
            raise UserError(f"{self.where}: {name} is missing; it must hold {', '.join(known)}; see docs/models.md")
        return _Keys(self.options[name], f"{self.where}.{name}", known)

    def text(self, name: str, otherwise: Any, *, is_needed: bool = False) -> Any:
        value = self.options.get(name) or otherwise
        if (value is None and is_needed) or (value is not None and not isinstance(value, str)):
            raise UserError(f"{self.where}: {name} must be the name of an output or input, got {value!r}; name one")
        return value

    def names(self, name: str) -> tuple[str, ...]:
        value = self.options.get(name)
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, Sequence) or not names or not all(isinstance(each, str) for each in names):
            raise UserError(f"{self.where}: {name} must be the name of an output, or a list of names, got {value!r}")
        return tuple(names)

    def choice(self, name: str, among: Sequence[str], otherwise: str | None) -> str:
        value: Any = otherwise if self.options.get(name) is None else self.options[name]
        if value not in among:
            raise UserError(f"{self.where}: {name} must be one of {', '.join(among)}, got {value!r}; choose one")
        return value

    def refuse(self, name: str, why: str) -> None:
        """Raise UserError if a key is given that would have no effect."""
        if self.options.get(name) is not None:
            raise UserError(f"{self.where}: {name} has no effect here, because {why}; leave it out")

    def number(self, name: str, otherwise: Any) -> Any:
        value = self.options.get(name)
        if value is None:
            return otherwise
        if not _is_number(value):
            raise UserError(f"{self.where}: {name} must be a number, got {value!r}; write one")
        return value

    def numbers(self, name: str, otherwise: Sequence[float]) -> tuple[float, ...]:
        value = self.options.get(name)
        if value is None:
            return tuple(otherwise)
        values = [value] if isinstance(value, NUMBER) else value
        if not isinstance(values, Sequence) or not all(map(_is_number, values)):
            raise UserError(f"{self.where}: {name} must be a number or a list of numbers, got {value!r}; write numbers")
        return tuple(float(each) for each in values)

    def whole_number(self, name: str, otherwise: int, *, least: int) -> int:
        return self.whole(name, (self.number(name, otherwise),), least=least)[0]

    def whole(self, name: str, otherwise: Sequence[int], *, least: int) -> tuple[int, ...]:
        values = self.numbers(name, otherwise)
        if any(value != int(value) or value < least for value in values):
            raise UserError(
                f"{self.where}: {name} takes whole numbers from {least} on, got {self.options[name]!r}; correct it"
            )
        return tuple(int(value) for value in values)
