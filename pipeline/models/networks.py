"""Read and run every torch network: no code from checkpoints, no gradients, batches of one fixed shape."""

import json
import os
import pickle
import struct
from argparse import Namespace
from collections.abc import Mapping
from itertools import pairwise
from math import gcd
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy._core.multiarray import scalar
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pipeline.errors import UserError
from pipeline.models.batches import Batches, Forward, is_card

Network = TypeVar("Network", bound=nn.Module)

FACTS = "rollcall"
"""The metadata key of a safetensors file that holds what our loaders need."""

SAMPLES_A_PASS: Mapping[str, int] = {"retinaface-r50": 8, "gfpgan": 2}
"""Kind -> most samples in one forward pass on a card. The other kinds take the whole batch in one.

With 16 samples or more, RetinaFace-R50 gives the last sample other numbers than the same one in other places, and with
4 GFPGAN does. The kernel of a large batch may sum its last rows in another order. 1, 2, 4, 8 and 1, 2 were equal in
every place on one H200 (`python -m tests.bench.gpu_speed passes`). `make test-gpu` shows whether that is so on another
card."""

PLAIN_VALUES = [
    Namespace,
    *((scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *(np.dtype, type(np.dtype(np.float64)), type(np.dtype(np.float32)), type(np.dtype(np.int64))),
]
"""Classes of plain values beside the tensors of some checkpoints, such as arguments of a training and numpy's numbers.
They run no code of the file."""

UNREADABLE = (
    OSError,
    EOFError,
    RuntimeError,
    LookupError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
    safetensors.SafetensorError,
)
"""The exceptions that the libraries raise for files of other kinds. Torch's unpickler also fails on text."""
REPLACE = "get the file again, or check the kind of its registry entry"
"""What to do about a file that is no model of its kind."""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the tensors of a torch checkpoint or a safetensors file.

    The bytes identify the format, because the cache names files by their hash. Raises UserError, also for a file
    that would run code.
    """
    try:
        if is_safetensors(path):
            return safetensors.torch.load_file(path)
        with torch.serialization.safe_globals(PLAIN_VALUES):
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


def why_unreadable(error: Exception) -> str:
    """Return one of UNREADABLE in words."""
    if isinstance(error, (pickle.UnpicklingError, LookupError, struct.error)):  # torch's own advice is to allow code
        return "it is no checkpoint of this kind, or one that wants to run code"
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"weights {path} cannot be read ({why_unreadable(error)}); {REPLACE}")


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


def for_inference(network: Network, device: str | torch.device) -> Network:
    """Move `network` to `device` as `in_picture_layout` does, and fold each batch norm into the convolution before it.

    On one core OSNet x0.25 is a quarter faster with the norms folded, and RetinaFace MobileNet-0.25 twice as fast with
    both. Only for networks in which a norm that is registered right after a convolution takes that convolution's
    output, and nothing else does.
    """
    for parent in list(network.modules()):
        for (name, convolution), (norm_name, norm) in pairwise(list(parent.named_children())):
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, name, fuse_conv_bn_eval(convolution, norm))
                setattr(parent, norm_name, nn.Identity())
    return in_picture_layout(network, device)


def in_picture_layout(network: Network, device: str | torch.device) -> Network:
    """Move `network` to `device` in the layout of pictures, which is a quarter faster on a CPU, and let oneDNN compute
    all of its convolutions there."""
    if not is_card(torch.device(device)) and torch.backends.mkldnn.is_available():
        for parent in list(network.modules()):
            for name, layer in list(parent.named_children()):
                if type(layer) is nn.Conv2d and layer.kernel_size == (1, 1) and layer.padding == (0, 0):
                    setattr(parent, name, _Pointwise(layer))
    return network.to(torch.device(device), memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


class _Pointwise(nn.Module):
    """A convolution of single pixels by oneDNN. With one thread and less than 16 samples, torch copies the pixels and
    multiplies matrices instead, which made YOLOv8n a quarter slower."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self.in_channels, self.out_channels = layer.in_channels, layer.out_channels
        self._stride, self._groups = layer.stride, layer.groups

    def forward(self, samples: Tensor) -> Tensor:
        if samples.dtype is torch.float16:  # oneDNN has it for few CPUs
            return nn.functional.conv2d(samples, self.weight, self.bias, self._stride, groups=self._groups)
        return torch.mkldnn_convolution(samples, self.weight, self.bias, (0, 0), self._stride, (1, 1), self._groups)


def halve(network: Network, *heads: str) -> Network:
    """Make `network` compute in float16, with weights that are stored in float16.

    Under autocast, every forward pass would convert every weight anew. Norms keep float32 parameters, and compute in
    float32.

    heads: names of modules, or of lists of modules, that stay in float32, from their inputs on.
    """
    named = [network.get_submodule(name) for name in heads]
    kept = {inner for head in named for inner in head.modules()}
    for module in network.modules():
        if module not in kept and not isinstance(module, nn.modules.batchnorm._NormBase):
            for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
                if tensor.is_floating_point():
                    tensor.data = tensor.data.half()
    network.register_forward_pre_hook(lambda _, inputs: tuple(each.half() for each in inputs))
    for head in named:
        for module in head if isinstance(head, nn.ModuleList) else [head]:
            module.register_forward_pre_hook(lambda _, inputs: tuple(each.float() for each in inputs))
    return network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


class Runner:
    """A network that runs on batches of one fixed shape.

    The last batch is padded, so a sample's result does not depend on the number of samples. Another batch size would
    change its last bits.
    """

    def __init__(
        self, forward: Forward, *, batch: int, device: str, half: bool, samples_a_pass: int | None = None
    ) -> None:
        """forward: maps (N, …) on `device` to one or several tensors of N rows. half: use float16 autocast, for
        networks that `halve` does not fit. samples_a_pass: most samples N of a pass on a card, from SAMPLES_A_PASS.
        None for `batch`. All passes have the same N, because another N may give other bits."""
        self._forward = forward
        self._batch = batch
        self._device = torch.device(device)
        self._samples_a_pass = gcd(batch, samples_a_pass) if samples_a_pass and is_card(self._device) else batch
        self._half = half
        self.batches = Batches(self._run, device=device)

    def __call__(self, inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        """Run (N, …) inputs, N > 0, and return each output as (N, …), floats as float32."""
        outputs = []
        for start in range(0, len(inputs), self._batch):
            some = inputs[start : start + self._batch]

            def write(samples: NDArray[Any], first: int, some: NDArray[Any] = some) -> None:
                samples[:] = some[first : first + len(samples)]

            outputs.append(self.batches.run((self._batch, *inputs.shape[1:]), inputs.dtype, write, len(some)))
        return tuple(np.concatenate(parts) for parts in zip(*outputs, strict=True))

    def _run(self, inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        # A graph must not read weights from autocast's cache, which is emptied after the capture.
        with torch.autocast(self._device.type, torch.float16, enabled=self._half, cache_enabled=False):
            passes = [self._forward(some) for some in inputs.split(self._samples_a_pass)]
        if len(passes) == 1:
            return passes[0]
        outputs = [each if isinstance(each, tuple) else (each,) for each in passes]
        return tuple(torch.cat(parts) for parts in zip(*outputs, strict=True))
