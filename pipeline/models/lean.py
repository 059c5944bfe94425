"""torchvision without torch's compiler. Import this before whatever imports torchvision.

One function of torchvision that nothing here calls asks the compiler a question, and torchvision imports all of it for
that: with SymPy and Triton four seconds of CPU, more than all else that a worker loads.
"""

import sys
from importlib import import_module
from types import ModuleType

COMPILER = "torch._dynamo.utils"


def _is_compile_supported(device_type: str) -> bool:
    """The function of its name in COMPILER, which is imported when it is called."""
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
