import subprocess
import sys

import pytest
import torch

from pipeline.models import gpu
from pipeline.models.gpu import has_gpu


def test_it_says_what_torch_says() -> None:
    assert has_gpu() == torch.cuda.is_available()


def test_torch_was_built_for_what_its_file_says() -> None:
    version = {"version": torch.__version__, "cuda": torch.version.cuda or "", "hip": torch.version.hip or ""}
    assert gpu._build() == version


def test_it_is_asked_without_torch() -> None:
    code = "import sys; from pipeline.models.gpu import has_gpu; has_gpu(); print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"


@pytest.mark.gpu
@pytest.mark.skipif(not has_gpu(), reason="needs a GPU that torch can use")
def test_cards_that_are_hidden_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from pipeline.models.gpu import has_gpu; print(has_gpu())"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "True\n"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"


class Driver:
    """A fake of NVIDIA's library, with one card."""

    def __init__(self, version: int, failing: str = "") -> None:
        self._version, self._failing = version, failing

    def __getattr__(self, name: str) -> object:
        def call(*arguments: object) -> int:
            if name == "cuDeviceGetAttribute":
                attributes = {gpu.MAJOR: 9, gpu.MINOR: 0, gpu.MULTIPROCESSORS: 132}
                arguments[0]._obj.value = attributes[arguments[1]]  # type: ignore[attr-defined,index]
            elif name != "cuInit":
                arguments[0]._obj.value = self._version if name == "cuDriverGetVersion" else 1  # type: ignore[attr-defined]
            return int(name == self._failing)

        return call


@pytest.mark.parametrize(
    ("driver", "expected"),
    [
        (Driver(13020), 1),
        (Driver(14000), 1),
        (Driver(12080), 0),
        *((Driver(13020, call), 0) for call in ("cuInit", "cuDriverGetVersion", "cuDeviceGetCount")),
    ],
)
def test_a_driver_that_fails_or_is_too_old_is_none(
    driver: Driver, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu.ctypes, "CDLL", lambda name: driver)
    assert gpu._count_cuda_gpus(13) == expected


def test_a_card_is_named_by_all_that_chooses_its_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu.ctypes, "CDLL", lambda name: Driver(13020))
    monkeypatch.setattr(gpu, "_build", lambda: {"version": "2.11.0+cu130", "cuda": "13.0", "hip": ""})
    monkeypatch.setattr(gpu.metadata, "version", {"nvidia-cudnn-cu13": "9.19.0.56"}.__getitem__)
    assert gpu.card() == "sm_90 132 torch 2.11.0+cu130 cudnn 9.19.0.56"


def test_without_a_card_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu.ctypes, "CDLL", lambda name: Driver(12080))
    assert gpu.card() == gpu.NO_CARD
