import subprocess
import sys
from collections.abc import Callable, Iterator

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
            elif name not in ("cuInit", "cuCtxSetCurrent"):
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


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Return a function that gives this machine a driver and libraries of it that are missing."""
    gpu._context.cache_clear()

    def give(driver: Driver, *, missing: str = "", hip: str = "") -> None:
        def library(name: str) -> Driver:
            if name == missing:
                raise OSError(f"{name}: cannot open shared object file")
            return driver

        monkeypatch.setattr(gpu.ctypes, "CDLL", library)
        monkeypatch.setattr(gpu, "_build", lambda: {"version": "2.11.0", "cuda": "" if hip else "13.0", "hip": hip})
        monkeypatch.setattr(gpu, "count_gpus", lambda: 1)

    yield give
    gpu._context.cache_clear()


def test_a_driver_without_its_part_for_video_is_named_with_the_remedy(machine: Callable[..., None]) -> None:
    machine(Driver(13020))
    assert gpu.why_no_nvdec() is None
    machine(Driver(13020), missing="libnvcuvid.so.1")
    assert "NVIDIA_DRIVER_CAPABILITIES must have video" in (gpu.why_no_nvdec() or "")
    machine(Driver(13020), hip="6.4")
    assert gpu.why_no_nvdec() == "only NVIDIA's GPUs can"


@pytest.mark.parametrize("failing", ["", "cuInit", "cuDeviceGet", "cuDevicePrimaryCtxRetain", "cuCtxSetCurrent"])
def test_a_context_that_cannot_be_entered_is_none(machine: Callable[..., None], failing: str) -> None:
    machine(Driver(13020, failing))
    assert gpu.enter_context() == (not failing)


def test_without_a_driver_there_is_no_context(machine: Callable[..., None]) -> None:
    machine(Driver(13020), missing="libcuda.so.1")
    assert not gpu.enter_context()
