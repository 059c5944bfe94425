"""Detection of a GPU for torch by the driver's library, because importing torch takes seconds."""

import ctypes
import re
from importlib.util import find_spec
from pathlib import Path


def has_gpu() -> bool:
    """Return whether torch can use a GPU here, within CUDA_VISIBLE_DEVICES."""
    build = _build()
    if build["hip"]:
        import torch  # the library below knows no AMD cards

        return torch.cuda.is_available()
    return bool(build["cuda"]) and _count_gpus(int(build["cuda"].split(".")[0])) > 0


def _build() -> dict[str, str]:
    """Return the versions of CUDA and of HIP that torch was built for. Empty strings if it was built for neither."""
    spec = find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    text = Path(spec.origin).with_name("version.py").read_text()
    matches = {name: re.search(rf"^{name}\b[^=\n]*= *'([^']+)'", text, re.MULTILINE) for name in ("cuda", "hip")}
    return {name: match[1] if match else "" for name, match in matches.items()}


def _count_gpus(cuda: int) -> int:
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
