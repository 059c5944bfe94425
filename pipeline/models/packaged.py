"""Models of installed packages, checked: what fails or does not fit its interface is named with the package.

Every model is tried on a grey picture when it is loaded, so that a package that never works ends a command before any
work. Later failures concern the picture at hand: DataError, which gives up one video.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.arrays import Detections, Estimates, Faces, Picture
from pipeline.boxes import Boxes
from pipeline.cores.age_dist import GROUPS
from pipeline.errors import CardError, DataError, MachineError, PassingError, UserError

FACE_PX, RESTORED_PX, TRIAL_PX = 224, 512, 256
GREY = 127
OURS = (CardError, DataError, MachineError, PassingError, UserError, MemoryError)
"""Errors that mean something to the caller already."""


def load_packaged(name: str, role: str, build: Callable[[], Any]) -> Any:
    """Load a model of a package and try it. Raises UserError if that fails.

    name: of its kind and package, for messages.
    role: of a configuration (weights.roles).
    """
    try:
        model = MODELS[role](name, _called(name, build))
        model.try_out()
    except DataError as error:
        raise UserError(f"{error}; mend the package, or name another model") from error.__cause__
    return model


def _called(name: str, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    try:
        return function(*arguments, **named)
    except OURS:
        raise
    except Exception as error:
        raise DataError(f"{name} failed: {_in_words(error)}") from error


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ").splitlines()[0]


class _Packaged:
    """A model of a package. Attributes that it has beside its calls are passed on, such as `batch`."""

    def __init__(self, name: str, model: Any) -> None:
        self._name, self._model = name, model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def _call(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        return _called(self._name, function, *arguments, **named)

    def _numbers(self, what: str, values: Any, shape: tuple[int | None, ...], kind: Any = np.float32) -> NDArray[Any]:
        """Return values as an array of numbers. Raises DataError if its shape differs. None: any length."""
        try:
            array = np.asarray(values, kind)
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
        if not isinstance(values, list) or len(values) != count or not all(isinstance(each, kind) for each in values):
            raise self._fault(f"{what} are no list of {count} {kind.__name__}")
        return values

    def _fault(self, text: str) -> DataError:
        return DataError(f"{self._name}: its {text}")


class PackagedEstimator(_Packaged):
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
        if np.isinf(ages).any() or (ages < 0).any():
            raise self._fault("ages are not all years from 0 on, or nan")
        if not (np.isfinite(stds) & (stds > 0))[np.isfinite(ages)].all():
            raise self._fault("age_stds are not all above 0 where there is an age")
        if ((probs < 0) | (probs > 1)).any():
            raise self._fault("female_probs are not all from 0 to 1, or nan")
        dists = estimates.age_dists
        if dists is not None:
            dists = self._numbers("age_dists", dists, (count, GROUPS))
        leans = estimates.age_leans
        if leans is not None:
            leans = self._numbers("age_leans", leans, (count,))
            if (np.abs(leans) > 1).any():
                raise self._fault("age_leans are not all from -1 to 1, or nan")
        return Estimates(ages, stds, probs, dists, leans)


class PackagedFaceEmbedder(_Packaged):
    """A FaceEmbedder. Vectors are brought to length one."""

    def __call__(self, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self._vectors(self._call(self._model, faces), len(faces))

    def try_out(self) -> None:
        self(np.stack([_grey(FACE_PX)] * 2))


class PackagedBodyEmbedder(_Packaged):
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


class PackagedFaceDetector(_Packaged):
    """A FaceDetector."""

    def __call__(self, crops: Sequence[Picture]) -> list[Faces]:
        return self._list("results", self._call(self._model, crops), Faces, len(crops))

    def try_out(self) -> None:
        self([_grey(TRIAL_PX)] * 2)


class PackagedPersonDetector(_Packaged):
    """A PersonDetector."""

    def __call__(self, pictures: Sequence[Picture], *, alone: bool = False) -> list[Detections]:
        return self._list("results", self._call(self._model, pictures, alone=alone), Detections, len(pictures))

    def try_out(self) -> None:
        self._call(getattr, self._model, "batch")
        self([_grey(TRIAL_PX)] * 2)


class PackagedFaceRestorer(_Packaged):
    """A FaceRestorer."""

    def __call__(self, faces: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return self._numbers("faces", self._call(self._model, faces), faces.shape, np.uint8)

    def try_out(self) -> None:
        self(np.stack([_grey(RESTORED_PX)] * 2))


MODELS: Mapping[str, Callable[[str, Any], Any]] = {
    "estimator": PackagedEstimator,
    "face_embedding": PackagedFaceEmbedder,
    "body": PackagedBodyEmbedder,
    "look": PackagedFaceDetector,
    "face_detector": PackagedFaceDetector,
    "detector": PackagedPersonDetector,
    "restorer": PackagedFaceRestorer,
}
"""By role of a configuration."""


def _grey(side_px: int) -> Picture:
    return np.full((side_px, side_px, 3), GREY, np.uint8)
