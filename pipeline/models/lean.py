"""Import torch and torchvision without the parts that no model here needs. Import this module before anything that
imports them.

torchvision imports its collections of networks and of pictures, the export to ONNX, and torch's whole compiler for one
function that nothing here calls. With SymPy and Triton the compiler takes four seconds of CPU, more than everything
else that a worker loads. torch registers the shapes of operators for its compiler, and loads NVIDIA's bindings. Each
part is imported as soon as somebody imports it by name or asks for something in it, and the shapes are registered when
the compiler is imported.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from pipeline.models.gpu import has_driver

COMPILER = "torch._dynamo"
COMPILER_UTILS = "torch._dynamo.utils"
SHAPES = "torch._meta_registrations"
TO_ONNX = "torchvision.ops._register_onnx_ops"
LATER = (COMPILER_UTILS, "torchvision.datasets", "torchvision.models")
OF_CARDS = ("cuda.bindings", "pynvml")
"""Packages that torch imports where they are installed, for functions that need a card."""


def _is_compile_supported(device_type: str) -> bool:
    """Call the function of this name in COMPILER_UTILS, which torchvision takes from there at import."""
    return import_module(COMPILER_UTILS).is_compile_supported(device_type)


class _Later(ModuleType):
    """A module that is imported when an attribute is read."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


class _ShapesFirst:
    """Registers the shapes of operators before the compiler is imported. The compiler expects them, as torch registers
    them when it is imported as a whole."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name == COMPILER:
            sys.meta_path.remove(self)
            sys.modules.pop(SHAPES, None)
            import_module(SHAPES)
        return None


@contextmanager
def stand_ins(modules: Mapping[str, ModuleType | None]) -> Iterator[None]:
    """Let modules stand in for those of their names that nobody has imported yet. None: there is no such module."""
    placed = {name: module for name, module in modules.items() if name not in sys.modules}
    sys.modules.update(placed)  # pyright: ignore[reportArgumentType, reportCallIssue]
    try:
        yield
    finally:
        for name, module in placed.items():
            if name in sys.modules and sys.modules[name] is module:
                del sys.modules[name]


def later(name: str, **attributes: Any) -> ModuleType:
    """Return a module that is imported when another attribute than these is read."""
    module = _Later(name)
    vars(module).update(attributes)
    return module


def _import_torch() -> None:
    if "torch" in sys.modules:
        return
    with stand_ins({} if has_driver() else dict.fromkeys(OF_CARDS)):
        sys.modules[SHAPES] = ModuleType(SHAPES)  # stays until the compiler is imported, because its parts ask for it
        sys.meta_path.insert(0, _ShapesFirst())
        import_module("torch")


def _import_torchvision() -> None:
    modules = {name: later(name) for name in LATER}
    modules[COMPILER_UTILS] = later(COMPILER_UTILS, is_compile_supported=_is_compile_supported)
    modules[TO_ONNX] = later(TO_ONNX, _register_custom_op=lambda: None)
    with stand_ins(modules):
        import_module("torchvision")


_import_torch()
_import_torchvision()
