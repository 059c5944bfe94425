"""Groups of commands that are imported when they are called: torch takes seconds, and `--help` should not."""

import ast
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


def group(package: str, names: Sequence[str], about: str) -> typer.Typer:
    """A Typer of the commands `names`, each the function of its name in the module of its name in `package`."""

    class Later(TyperGroup):
        def list_commands(self, ctx: Any) -> list[str]:
            return list(names)

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            """What is told of a command; resolve_command has the one to be run."""
            return TyperCommand(cmd_name, help=_docstring(package, cmd_name)) if cmd_name in names else None

        def resolve_command(self, ctx: Any, args: list[str]) -> Any:
            name, *rest = args
            return (name, _load(package, name), rest) if name in names else super().resolve_command(ctx, args)

    app = typer.Typer(cls=Later, help=about, no_args_is_help=True, pretty_exceptions_enable=False)
    app.callback()(_options)
    return app


def _load(package: str, name: str) -> Any:
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    alone.command(name)(getattr(import_module(f"{package}.{name}"), name))
    return typer.main.get_command(alone)


def _docstring(package: str, name: str) -> str:
    """Of the command's function, read without importing its module."""
    spec = find_spec(f"{package}.{name}")
    assert spec is not None
    assert spec.origin is not None
    functions = [node for node in ast.parse(Path(spec.origin).read_text()).body if isinstance(node, ast.FunctionDef)]
    return next(ast.get_docstring(node) or "" for node in functions if node.name == name)


def _options() -> None:
    """Nothing: a callback makes a group of what would be a single command."""
