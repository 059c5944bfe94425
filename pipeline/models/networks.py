"""Read and run every torch network: no code from checkpoints, no gradients, batches of one fixed shape."""

import json
import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.errors import UserError

Network = TypeVar("Network", bound=nn.Module)

FACTS = "rollcall"
"""The metadata key of a safetensors file that holds what our loaders need."""

UNREADABLE = (
    OSError,
    EOFError,
    RuntimeError,
    LookupError,
    ValueError,
    pickle.UnpicklingError,
    safetensors.SafetensorError,
)
"""The exceptions that the libraries raise for files of other kinds. Torch's unpickler also fails on text."""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the tensors of a torch checkpoint or a safetensors file.

    The bytes identify the format, because the cache names files by their hash. Raises UserError, also for a file
    that would run code.
    """
    try:
        if is_safetensors(path):
            return safetensors.torch.load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise _unreadable(path, error) from None


def read_facts(path: Path) -> dict[str, Any]:
    """Return the metadata of one of our safetensors files, or an empty mapping for other files. Raises UserError."""
    try:
        if not is_safetensors(path):
            return {}
        with safetensors.safe_open(path, framework="pt") as file:
            return json.loads((file.metadata() or {}).get(FACTS, "{}"))
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise _unreadable(path, error) from None


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], *, half: bool) -> None:
    """Write a safetensors file atomically. facts: JSON metadata for read_facts. half: use float16."""
    kept = {
        name: (tensor.half() if half and tensor.is_floating_point() else tensor).detach().cpu().contiguous()
        for name, tensor in tensors.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    # save_file would make a file that only its owner can read.
    draft.write_bytes(safetensors.torch.save(kept, {"format": "pt", FACTS: json.dumps(facts, sort_keys=True)}))
    draft.replace(path)


def is_safetensors(path: Path) -> bool:
    """Return whether a file looks like safetensors: its ninth byte is `{`. Archives and pickles begin otherwise."""
    with path.open("rb") as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b"{" and start[:2] != b"PK"


def _unreadable(path: Path, error: Exception) -> UserError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    if isinstance(error, pickle.UnpicklingError):  # torch's own advice is to allow code
        reason = "it is no checkpoint of torch, or one that wants to run code"
    return UserError(f"weights {path} cannot be read ({reason}); fetch them again with `rollcall weights pull`")


def fill(network: Network, state: Mapping[str, Any], path: Path) -> Network:
    """Load `state`, which came from `path`, and make `network` ready to run. Raises UserError if it does not fit."""
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        lines = [line.strip() for line in str(error).splitlines()]
        reason = lines[1] if len(lines) > 1 else lines[0]
        name = type(network).__name__
        raise UserError(
            f"weights {path} do not fit {name} ({reason[:160]}); check the kind and the file of this registry entry"
        ) from None
    return network.eval().requires_grad_(False)


class Runner:
    """A network that runs on batches of one fixed shape.

    The last batch is padded, so a sample's result does not depend on the number of samples. Another batch size would
    change its last bits.
    """

    def __init__(
        self, forward: Callable[[Tensor], Tensor | tuple[Tensor, ...]], *, batch: int, device: str, half: bool
    ) -> None:
        """forward: maps (batch, …) on `device` to one or several tensors of `batch` rows. half: use float16
        autocast."""
        self._forward = forward
        self._batch = batch
        self._device = torch.device(device)
        self._half = half

    def __call__(self, inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        """Run (N, …) inputs, N > 0, and return each output as (N, …), floats as float32."""
        batches = [self._run(inputs[start : start + self._batch]) for start in range(0, len(inputs), self._batch)]
        return tuple(np.concatenate(parts) for parts in zip(*batches, strict=True))

    def _run(self, inputs: NDArray[Any]) -> list[NDArray[Any]]:
        padded = np.zeros((self._batch, *inputs.shape[1:]), inputs.dtype)
        padded[: len(inputs)] = inputs
        with torch.inference_mode(), torch.autocast(self._device.type, torch.float16, enabled=self._half):
            outputs = self._forward(torch.from_numpy(padded).to(self._device))
        tensors = outputs if isinstance(outputs, tuple) else (outputs,)
        floats = (tensor.float() if tensor.is_floating_point() else tensor for tensor in tensors)
        return [tensor[: len(inputs)].cpu().numpy() for tensor in floats]
