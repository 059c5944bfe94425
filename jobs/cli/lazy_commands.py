"""Commands that are imported only when they are called. Ray and torch take seconds to import, and `--help` should
not.

Help is made from a module's outline: its commands with their options, read from its source without its imports.
"""

import ast
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import typer

from jobs.cli.help import PLAIN, Group, with_summary

LIGHT = {*sys.stdlib_module_names, "typer", "jobs.cli.options", "jobs.cli.help", "jobs.cli.lazy_commands"}
"""Modules that an outline imports."""
FOLLOWED = ("jobs", "pipeline.training", "pipeline.cores.covering", "pipeline.cores.retention")
"""Places from which an outline takes what their own outlines define: options that commands share, the defaults of
training, and choices of cores."""


def group(
    package: str,
    names: Sequence[str],
    about: str,
    *,
    epilog: str | None = None,
    options: Callable[..., None] | None = None,
) -> typer.Typer:
    """Return a Typer of the commands `names`.

    package: holds a module for each command. The module has an `app`, or else a function of the command's name.
    about: help of the group.
    epilog: text below its help.
    options: a callback with the options that can stand before a command.
    """

    class Later(Group):
        def list_commands(self, ctx: Any) -> list[str]:
            return list(names)

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            """Return the outline of a command, for help. `resolve_command` returns the command to run."""
            return with_summary(_named(outline(package, cmd_name), cmd_name)) if cmd_name in names else None

        def resolve_command(self, ctx: Any, args: list[str]) -> Any:
            name, *rest = args
            if name not in names:
                return super().resolve_command(ctx, args)
            if "--help" in (rest[: rest.index("--")] if "--" in rest else rest):
                return name, self.get_command(ctx, name), rest
            return name, _named(_app_of(vars(import_module(f"{package}.{name}")), name), name), rest

    app = typer.Typer(**{**PLAIN, "cls": Later}, help=about, epilog=epilog, no_args_is_help=True)
    app.callback()(options or _no_options)
    return app


def outline(package: str, name: str) -> typer.Typer:
    """Return the commands of a module, which can show help and do nothing. A package is imported, because it holds a
    group."""
    if _spec_of(f"{package}.{name}").submodule_search_locations is not None:
        return import_module(f"{package}.{name}").app
    return _app_of(_names(f"{package}.{name}"), name)


@cache
def _names(module: str) -> dict[str, Any]:
    """Return the names that the outline of a module defines: its constants, simple classes, and functions without
    their bodies. They describe the commands only: whoever runs one imports the module itself (group)."""
    origin = str(_spec_of(module).origin)
    names: dict[str, Any] = {"__name__": module}
    for node in ast.parse(Path(origin).read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module not in LIGHT:
            names |= _followed(node)
            continue
        if isinstance(node, ast.Import) and not LIGHT.issuperset(alias.name for alias in node.names):
            continue
        if not isinstance(node, ast.ImportFrom | ast.Import | ast.FunctionDef | ast.ClassDef | ast.Assign):
            continue
        if isinstance(node, ast.FunctionDef):
            docstring = ast.Expr(ast.Constant(ast.get_docstring(node) or ""))
            node.body = [docstring, ast.parse("raise NotImplementedError").body[0]]
        # A statement that depends on something not imported is left out. No option of a command does.
        with suppress(NameError, AttributeError):
            exec(compile(ast.fix_missing_locations(ast.Module([node], [])), origin, "exec"), names)
    return names


def _followed(node: ast.ImportFrom) -> dict[str, Any]:
    module = node.module or ""
    if not module.startswith(FOLLOWED):
        return {}
    if _spec_of(module).submodule_search_locations is not None:
        return {alias.asname or alias.name: SimpleNamespace(**_names(f"{module}.{alias.name}")) for alias in node.names}
    theirs = _names(module)
    return {alias.asname or alias.name: theirs[alias.name] for alias in node.names if alias.name in theirs}


def _spec_of(module: str) -> ModuleSpec:
    spec = find_spec(module)
    if spec is None:
        raise ModuleNotFoundError(module)
    return spec


def _app_of(module: dict[str, Any], name: str) -> typer.Typer:
    if "app" in module:
        return module["app"]
    alone = typer.Typer(**PLAIN)
    alone.command(name)(module[name])
    return alone


def _named(app: typer.Typer, name: str) -> Any:
    command = typer.main.get_command(app)
    command.name = name
    return command


def _no_options() -> None:
    """Do nothing. A callback makes a group of what would otherwise be a single command."""
