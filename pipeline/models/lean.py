"""Import torchvision without torch's compiler. Import this module before anything that imports torchvision.

torchvision imports the whole compiler for one function that nothing here calls. With SymPy and Triton that takes
four seconds of CPU, more than everything else that a worker loads.
"""

import sys
from importlib import import_module
from types import ModuleType

COMPILER = "torch._dynamo.utils"


def _is_compile_supported(device_type: str) -> bool:
    """Call the function of this name in COMPILER, which is imported only then."""
    return import_module(COMPILER).is_compile_supported(device_type)


def _import_torchvision() -> None:
    if COMPILER in sys.modules:
        import_module("torchvision")
        return
    stand_in = ModuleType(COMPILER)
    stand_in.__dict__["is_compile_supported"] = _is_compile_supported
    sys.modules[COMPILER] = stand_in
    try:
        import_module("torchvision")
    finally:
        del sys.modules[COMPILER]


_import_torchvision()
