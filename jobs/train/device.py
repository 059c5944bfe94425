"""The device on which a network is trained, and the options that suit a training to a machine."""

from enum import StrEnum
from typing import Annotated

import typer

from pipeline.errors import UserError
from pipeline.models.gpu import has_gpu


class Device(StrEnum):
    """The devices that can be asked for."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


TrainingDevice = Annotated[
    Device, typer.Option("--device", help="Where to train; auto takes a GPU where there is one.")
]


Minutes = Annotated[
    float | None,
    typer.Option(
        min=0.01, help="Most minutes to train. The schedule fits into them, or into --epochs if that is less."
    ),
]
Workers = Annotated[
    int, typer.Option(min=0, help="Processes that prepare pictures, beside the training. A GPU needs several.")
]


def decided(device: Device) -> str:
    """Return cpu or cuda. Raises UserError if a GPU is asked for and there is none."""
    if device == Device.CUDA and not has_gpu():
        raise UserError("--device cuda: torch finds no NVIDIA GPU here; leave --device out, or name cpu")
    if device == Device.AUTO:
        return "cuda" if has_gpu() else "cpu"
    return device.value
