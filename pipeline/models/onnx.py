"""Run a network from an ONNX file with ONNX Runtime, as its registry entry describes it (weights.onnx_options).

Batches have one fixed shape, padded, so that the result for a picture does not depend on their number. A file whose
batch is fixed runs with that batch. With the package onnxruntime-gpu, networks run on the card; else on the CPU.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from pipeline.errors import DataError, UserError, nearest
from pipeline.models.networks import REPLACE
from pipeline.weights.onnx_options import OnnxInput

ON_CARD = "CUDAExecutionProvider"
ON_CPU = "CPUExecutionProvider"
TYPES: Mapping[str, Any] = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}
ERRORS_ONLY = 3
Outputs = TypeVar("Outputs")


class OnnxNetwork:
    """A network of one picture input.

    outputs: names of the outputs that are read. Empty for the only one.
    batch: pictures in a batch, unless the file fixes it.
    size: height and width in px.

    Raises UserError if the file is no such network.
    """

    def __init__(
        self, path: Path, spec: OnnxInput, outputs: Sequence[str], *, size: tuple[int, int], batch: int, device: str
    ) -> None:
        self.path, self.size, self._spec = path, size, spec
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
        options.log_severity_level = ERRORS_ONLY
        options.use_deterministic_compute = True
        on_card = device == "cuda" and ON_CARD in onnxruntime.get_available_providers()
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=[ON_CARD, ON_CPU] if on_card else [ON_CPU]
            )
        except Exception as error:  # its exceptions have no class of their own in common
            raise UserError(
                f"weights {path} are no network that ONNX Runtime can read ({_first_line(error)}); {REPLACE}"
            ) from None
        self._input, shape = self._find_input()
        self.batch = shape[0] if isinstance(shape[0], int) else batch
        self.outputs = self._find_outputs(outputs)
        self._mean, self._std = (np.array(values, np.float32) for values in (spec.mean, spec.std))

    def __call__(self, pictures: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Return the outputs for (N, H, W, 3) uint8 RGB pictures, N > 0, with a row for each picture.

        Raises DataError if a number is not finite.
        """
        parts = []
        for start in range(0, len(pictures), self.batch):
            some = pictures[start : start + self.batch]
            padded = np.zeros((self.batch, *pictures.shape[1:]), np.uint8)
            padded[: len(some)] = some
            parts.append([self._rows(output, len(some)) for output in self._run(padded)])
        return [np.concatenate(rows) for rows in zip(*parts, strict=True)]

    def alone(self, picture: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Return the outputs for one (H, W, 3) uint8 RGB picture, with all their axes."""
        padded = np.zeros((self.batch, *picture.shape), np.uint8)
        padded[0] = picture
        return self._run(padded)

    def check(self, run: Callable[[NDArray[np.uint8]], Outputs]) -> Outputs:
        """Return what `run` makes of one grey picture, (H, W, 3). Raises UserError if the network cannot run."""
        try:
            return run(np.full((*self.size, 3), 127, np.uint8))
        except DataError as error:
            raise UserError(f"{error}; check mean and std of this registry entry, or the file") from None

    def _run(self, pictures: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        turned = pictures[..., ::-1] if self._spec.colours == "bgr" else pictures
        samples = (turned.astype(np.float32) - self._mean) / self._std
        samples = samples.transpose(0, 3, 1, 2) if self._spec.layout == "nchw" else samples
        try:
            outputs = self._session.run(
                self.outputs, {self._input.name: np.ascontiguousarray(samples, TYPES[self._input.type])}
            )
        except Exception as error:
            raise UserError(
                f"weights {self.path} cannot run on pictures of {self.size[0]}x{self.size[1]} px "
                f"({_first_line(error)}); check the input of this registry entry"
            ) from None
        return [self._numbers(name, output) for name, output in zip(self.outputs, outputs, strict=True)]

    def _numbers(self, name: str, output: Any) -> NDArray[np.float32]:
        """Return an output as numbers. Raises DataError if one is not finite."""
        try:
            array = np.asarray(output, np.float32)
        except (TypeError, ValueError):
            raise UserError(
                f"weights {self.path} give {type(output).__name__} in the output {name}, and not numbers in one array; "
                "name another output, or export the network without what follows it"
            ) from None
        if not np.isfinite(array).all():
            raise DataError(f"weights {self.path} give numbers that are not finite in the output {name}")
        return array

    def _rows(self, output: NDArray[np.float32], count: int) -> NDArray[np.float32]:
        if output.ndim < 1 or len(output) != self.batch:
            raise UserError(
                f"weights {self.path} give {len(output) if output.ndim else 'a single number'} rows for {self.batch} "
                "pictures; export the network with one row per picture"
            )
        return output.reshape(self.batch, -1)[:count]

    def _find_input(self) -> tuple[Any, Sequence[Any]]:
        inputs = {each.name: each for each in self._session.get_inputs()}
        name = self._spec.name or next(iter(inputs))
        if name not in inputs or len(inputs) > 1:
            raise UserError(
                f"weights {self.path} have the inputs {', '.join(inputs)}, and the entry uses {name} alone; "
                "a network must have one input, and input.name must be its name"
            )
        found = inputs[name]
        height, width = self.size
        wanted = [3, height, width] if self._spec.layout == "nchw" else [height, width, 3]
        fits = len(found.shape) == 4 and all(
            not isinstance(side, int) or side == other for side, other in zip(found.shape[1:], wanted, strict=True)
        )
        if not fits or found.type not in TYPES:
            shape = "x".join(str(side) for side in found.shape)
            raise UserError(
                f"weights {self.path} take {found.type} of {shape}, and the entry gives {self._spec.layout} of "
                f"{'x'.join(map(str, wanted))}; correct size and layout of its input"
            )
        if TYPES[found.type] is np.uint8 and (any(self._spec.mean) or set(self._spec.std) != {1.0}):
            raise UserError(
                f"weights {self.path} take whole numbers from 0 to 255, so that mean and std cannot be applied; leave "
                "them out of the input of this registry entry"
            )
        return found, found.shape

    def _find_outputs(self, names: Sequence[str]) -> list[str]:
        known = [each.name for each in self._session.get_outputs()]
        if not names and len(known) > 1:
            raise UserError(f"weights {self.path} have the outputs {', '.join(known)}; name the wanted one as output")
        for name in names:
            if name not in known:
                among = f"there are {', '.join(known)}"
                raise UserError(f"weights {self.path} have no output {name}{nearest(name, known, among)}")
        return list(dict.fromkeys(names)) or known


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
