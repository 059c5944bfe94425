"""Import torchvision without the modules that no model here needs. Import this module before anything that imports
torchvision.

torchvision imports its collections of networks and of pictures, and torch's whole compiler for one function that
nothing here calls. With SymPy and Triton the compiler takes four seconds of CPU, more than everything else that a
worker loads. Such a module is imported as soon as somebody imports it by name, or asks for something in it.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

COMPILER = "torch._dynamo.utils"
LATER = (COMPILER, "torchvision.datasets", "torchvision.models")


def _is_compile_supported(device_type: str) -> bool:
    """Call the function of this name in COMPILER, which torchvision takes from there at import."""
    return import_module(COMPILER).is_compile_supported(device_type)


class _Later(ModuleType):
    """A module that is imported when an attribute is read."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


def _import_torchvision() -> None:
    stand_ins = {name: _Later(name) for name in LATER if name not in sys.modules}
    if COMPILER in stand_ins:
        setattr(stand_ins[COMPILER], _is_compile_supported.__name__.lstrip("_"), _is_compile_supported)
    sys.modules.update(stand_ins)
    try:
        import_module("torchvision")
    finally:
        for name, stand_in in stand_ins.items():
            if sys.modules.get(name) is stand_in:
                del sys.modules[name]


_import_torchvision()
