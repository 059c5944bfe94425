"""Models that others bring, as a package or an ONNX file, checked: errors name the model that fails or does not fit.

Every model is tried on a grey picture when it is loaded, so that one that never works ends a command before any work.
Later failures concern the picture at hand: DataError, which gives up one video.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.arrays import Detections, Estimates, Faces, Picture
from pipeline.boxes import Boxes
from pipeline.cores.age_dist import GROUPS
from pipeline.cores.vote import OLDEST_YEARS
from pipeline.errors import CardError, DataError, MachineError, PassingError, UserError

FACE_PX, RESTORED_PX, TRIAL_PX = 224, 512, 256
GREY = 127
OURS = (CardError, MachineError, PassingError, UserError, MemoryError)
"""Errors that mean something to the caller already."""
NO_AGES = (-20.0, OLDEST_YEARS + 20.0)
"""Years that no estimator can mean. Those that add up to years overshoot a little for babies and for the oldest; an age
further away shows that the output means something else, or is scaled otherwise."""
SUM_MARGIN = 0.1
"""Largest distance of a sum of probabilities from 1. Networks in few bits round."""


def load_checked(name: str, role: str, build: Callable[[], Any], remedy: str) -> Any:
    """Load a model and try it. Raises UserError if that fails.

    name: of the model, for messages.
    role: of a configuration (weights.roles).
    remedy: what to do about a model that does not fit.
    """
    try:
        model = MODELS[role](name, _called(name, build))
        model.try_out()
    except DataError as error:
        raise UserError(f"{error}; {remedy}") from error.__cause__
    return model


def _called(name: str, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    try:
        return function(*arguments, **named)
    except OURS:
        raise
    except DataError as error:
        raise DataError(f"{name}: {error}") from error.__cause__
    except Exception as error:
        raise DataError(f"{name} failed: {_in_words(error)}") from error


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ").splitlines()[0]


class _Checked:
    """A model. Attributes that it has beside its calls are passed on, such as `batch`."""

    def __init__(self, name: str, model: Any) -> None:
        self._name, self._model = name, model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def _call(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        return _called(self._name, function, *arguments, **named)

    def _numbers(self, what: str, values: Any, shape: tuple[int | None, ...], kind: Any = np.float32) -> NDArray[Any]:
        """Return values as an array of numbers. Raises DataError if its shape differs. None: any length.

        Pixels must be uint8 already: a picture in 0..1 would become black.
        """
        try:
            array = np.asarray(values)
            if kind is np.uint8 and array.dtype != kind:
                raise self._fault(f"{what} are {array.dtype} and not uint8")
            array = array.astype(kind, copy=False)
        except (TypeError, ValueError) as error:
            raise self._fault(f"{what} are no numbers ({_in_words(error)})") from None
        fits = len(array.shape) == len(shape) and all(
            side in (None, length) for side, length in zip(shape, array.shape, strict=True)
        )
        if not fits:
            wanted = "x".join("N" if side is None else str(side) for side in shape)
            raise self._fault(f"{what} have the shape {'x'.join(map(str, array.shape))} and not {wanted}")
        return array

    def _vectors(self, values: Any, count: int) -> NDArray[np.float32]:
        vectors = self._numbers("vectors", values, (count, None))
        if not np.isfinite(vectors).all():
            raise self._fault("vectors have numbers that are not finite")
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return (vectors / np.where(norms > 0, norms, 1)).astype(np.float32)

    def _list(self, what: str, values: Any, kind: type, count: int) -> list[Any]:
        """Return detections or faces, a list of `kind`. Raises DataError if one is no box or has no score in 0..1."""
        if not isinstance(values, list) or len(values) != count or not all(isinstance(each, kind) for each in values):
            raise self._fault(f"{what} are no list of {count} {kind.__name__}")
        for each in values:
            boxes, scores = self._numbers("boxes", each.boxes, (None, 4)), self._numbers("scores", each.scores, (None,))
            if not np.isfinite(boxes).all():
                raise self._fault("boxes have numbers that are not finite")
            if not ((scores >= 0) & (scores <= 1)).all():
                raise self._fault("scores are not all from 0 to 1")
        return values

    def _fault(self, text: str) -> DataError:
        return DataError(f"{self._name}: its {text}")


class CheckedEstimator(_Checked):
    """An AttributeEstimator, and a FaceAndBodyEstimator if the model reads bodies."""

    @property
    def reads_bodies(self) -> bool:
        return bool(getattr(self._model, "reads_bodies", False))

    def __call__(self, faces: NDArray[np.uint8]) -> Estimates:
        return self._checked(self._call(self._model, faces), len(faces))

    def judge(self, faces: Sequence[Picture | None], bodies: Sequence[Picture | None]) -> Estimates:
        return self._checked(self._call(self._model.judge, faces, bodies), len(faces))

    def try_out(self) -> None:
        face = _grey(FACE_PX)
        self(np.stack([face, face]))
        if self.reads_bodies:
            self.judge([face, None], [None, face])

    def _checked(self, estimates: Any, count: int) -> Estimates:
        if not isinstance(estimates, Estimates):
            raise self._fault(f"estimates are {type(estimates).__name__} and not Estimates")
        ages = self._numbers("ages", estimates.ages, (count,))
        stds = self._numbers("age_stds", estimates.age_stds, (count,))
        probs = self._numbers("female_probs", estimates.female_probs, (count,))
        impossible = ages[(ages < NO_AGES[0]) | (ages > NO_AGES[1])]
        if len(impossible):
            raise self._fault(
                f"ages go to {impossible[0]:g} years, and only {NO_AGES[0]:g} to {NO_AGES[1]:g} can be ages"
            )
        if not (np.isfinite(stds) & (stds > 0))[np.isfinite(ages)].all():
            raise self._fault("age_stds are not all above 0 where there is an age")
        if ((probs < 0) | (probs > 1)).any():
            raise self._fault("female_probs are not all from 0 to 1, or nan")
        dists = estimates.age_dists
        if dists is not None:
            dists = self._numbers("age_dists", dists, (count, GROUPS))
            sums = dists.sum(axis=1)
            if (dists < 0).any() or (np.abs(sums - 1) > SUM_MARGIN).any():
                raise self._fault("age_dists are not all probabilities that sum to 1, or nan")
        leans = estimates.age_leans
        if leans is not None:
            leans = self._numbers("age_leans", leans, (count,))
            if (np.abs(leans) > 1).any():
                raise self._fault("age_leans are not all from -1 to 1, or nan")
        return Estimates(ages.clip(0, OLDEST_YEARS), stds, probs, dists, leans)


class CheckedFaceEmbedder(_Checked):
    """A FaceEmbedder. Vectors are brought to length one."""

    def __call__(self, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self._vectors(self._call(self._model, faces), len(faces))

    def try_out(self) -> None:
        self(np.stack([_grey(FACE_PX)] * 2))


class CheckedBodyEmbedder(_Checked):
    """A BodyEmbedder. Vectors are brought to length one."""

    def crops(self, picture: Picture, boxes: Boxes) -> NDArray[np.uint8]:
        crops = self._call(self._model.crops, picture, boxes)
        return self._numbers("crops", crops, (len(boxes), None, None, 3), np.uint8)

    def __call__(self, crops: NDArray[np.uint8], *, alone: bool = False) -> NDArray[np.float32]:
        return self._vectors(self._call(self._model, crops, alone=alone), len(crops))

    def try_out(self) -> None:
        self._call(getattr, self._model, "batch")
        boxes = np.array([[10, 10, 100, 200], [20, 10, 90, 200]], np.float32)
        self(self.crops(_grey(TRIAL_PX), boxes))


class CheckedFaceDetector(_Checked):
    """A FaceDetector."""

    def __call__(self, crops: Sequence[Picture]) -> list[Faces]:
        return self._list("results", self._call(self._model, crops), Faces, len(crops))

    def try_out(self) -> None:
        self([_grey(TRIAL_PX)] * 2)


class CheckedPersonDetector(_Checked):
    """A PersonDetector."""

    def __call__(self, pictures: Sequence[Picture], *, alone: bool = False) -> list[Detections]:
        return self._list("results", self._call(self._model, pictures, alone=alone), Detections, len(pictures))

    def try_out(self) -> None:
        self._call(getattr, self._model, "batch")
        self([_grey(TRIAL_PX)] * 2)


class CheckedFaceRestorer(_Checked):
    """A FaceRestorer."""

    def __call__(self, faces: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return self._numbers("faces", self._call(self._model, faces), faces.shape, np.uint8)

    def try_out(self) -> None:
        self(np.stack([_grey(RESTORED_PX)] * 2))


MODELS: Mapping[str, Callable[[str, Any], Any]] = {
    "estimator": CheckedEstimator,
    "face_embedding": CheckedFaceEmbedder,
    "body": CheckedBodyEmbedder,
    "look": CheckedFaceDetector,
    "face_detector": CheckedFaceDetector,
    "detector": CheckedPersonDetector,
    "restorer": CheckedFaceRestorer,
}
"""By role of a configuration."""


def _grey(side_px: int) -> Picture:
    return np.full((side_px, side_px, 3), GREY, np.uint8)
