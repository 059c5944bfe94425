"""Detection of a GPU for torch by the driver's library, because importing torch takes seconds."""

import ctypes
import re
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

MULTIPROCESSORS, MAJOR, MINOR = 16, 75, 76
"""CU_DEVICE_ATTRIBUTE_… of cuda.h."""
NO_CARD = "none"


def has_gpu() -> bool:
    """Return whether torch can use a GPU here, within CUDA_VISIBLE_DEVICES."""
    return count_gpus() > 0


def count_gpus() -> int:
    """Return the number of GPUs that torch can use here, within CUDA_VISIBLE_DEVICES."""
    build = _build()
    if build["hip"]:
        import torch  # the library below knows no AMD cards

        return torch.cuda.device_count()
    return _count_cuda_gpus(int(build["cuda"].split(".")[0])) if build["cuda"] else 0


def card() -> str:
    """Return the class of the first GPU and the versions that choose its kernels, for example `sm_90 132 torch 2.11.0
    cudnn 9.19.0`.

    Two cards of one text give the same bits. Libraries choose kernels by the compute capability and the number of
    multiprocessors. NO_CARD if torch can use no GPU here.
    """
    if not has_gpu():
        return NO_CARD
    build = _build()
    if build["hip"]:
        import torch  # the driver's library knows no AMD cards

        there = torch.cuda.get_device_properties(0)
        return f"{there.gcnArchName} {there.multi_processor_count} torch {build['version']} hip {build['hip']}"
    driver, major, minor, count = ctypes.CDLL("libcuda.so.1"), ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    driver.cuInit(0)
    for value, attribute in ((major, MAJOR), (minor, MINOR), (count, MULTIPROCESSORS)):
        driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, 0)
    return f"sm_{major.value}{minor.value} {count.value} torch {build['version']} cudnn {_cudnn(build['cuda'])}"


def has_driver() -> bool:
    """Return whether NVIDIA's driver is installed here. There may be no GPU beside it."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def why_no_nvdec() -> str | None:
    """Return why the first GPU cannot decode videos here, or None if its driver says nothing against it."""
    if not has_gpu():
        return "there is no GPU"
    if _build()["hip"]:
        return "only NVIDIA's GPUs can"
    try:
        ctypes.CDLL("libnvcuvid.so.1")
    except OSError:
        return "the driver's libnvcuvid is missing; in a container, NVIDIA_DRIVER_CAPABILITIES must have video"
    return None


def enter_context() -> bool:
    """Make the context of the first GPU, which torch uses too, current in this thread. Return whether there is one."""
    context = _context()
    return context is not None and not ctypes.CDLL("libcuda.so.1").cuCtxSetCurrent(context)


@cache
def _context() -> ctypes.c_void_p | None:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device, context = ctypes.c_int(), ctypes.c_void_p()
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), 0):
        return None
    return None if driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device) else context


def _cudnn(cuda: str) -> str:
    """Return the version of cuDNN that torch uses."""
    try:
        return metadata.version(f"nvidia-cudnn-cu{cuda.split('.', maxsplit=1)[0]}")
    except metadata.PackageNotFoundError:
        import torch  # its own build has the library

        return str(torch.backends.cudnn.version())


def _build() -> dict[str, str]:
    """Return the version of torch, and those of CUDA and of HIP that it was built for. Empty strings for neither."""
    spec = find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    text = Path(spec.origin).with_name("version.py").read_text()
    names = {"version": "__version__", "cuda": "cuda", "hip": "hip"}
    matches = {key: re.search(rf"^{name}\b[^=\n]*= *'([^']+)'", text, re.MULTILINE) for key, name in names.items()}
    return {name: match[1] if match else "" for name, match in matches.items()}


def _count_cuda_gpus(cuda: int) -> int:
    """Return the number of GPUs that this process may use. 0 if the driver is missing or older than this version of
    CUDA."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    version, count = ctypes.c_int(), ctypes.c_int()
    if driver.cuInit(0) or driver.cuDriverGetVersion(ctypes.byref(version)) or version.value // 1000 < cuda:
        return 0
    return 0 if driver.cuDeviceGetCount(ctypes.byref(count)) else count.value
