"""The page docs/commands.md, made from the options of every command:
`python -m jobs.cli.commands_page > docs/commands.md`."""

import inspect
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, get_args

import typer

from jobs import main

OPENING = """\
# Commands

The code makes this page: `python -m jobs.cli.commands_page > docs/commands.md`.

Every command is also a module with the same arguments: `python -m jobs.process …` is `rollcall process …`. `--help`
shows the same text. `--debug`, anywhere, shows the traceback of an error. The README has the
[exit statuses](../README.md#exit-status).
"""
KINDS = {Path: "FILE", int: "N", float: "NUMBER", str: "TEXT"}


def page() -> str:
    """Return the text of docs/commands.md."""
    commands = list(walk())
    names = [f"- [`{path}`](#{path.replace(' ', '-')}): {command.short_help}" for path, command in commands]
    return "\n".join([OPENING, *names, "", *(line for path, command in commands for line in _section(path, command))])


def walk() -> Iterator[tuple[str, Any]]:
    """Yield every command with its path, as 'rollcall train heads'. Nothing is imported that only its work needs."""
    yield from _below("rollcall", typer.main.get_command(main.app))


def _below(path: str, group: Any) -> Iterator[tuple[str, Any]]:
    context = typer.Context(group, info_name=path)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if hasattr(command, "list_commands"):
            yield from _below(f"{path} {name}", command)
        else:
            yield f"{path} {name}", command


def _section(path: str, command: Any) -> list[str]:
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    options = [option for option in options if option.name != "help" and not option.hidden]
    usage = [path, *map(_usage_of, arguments), *(_shown(option) for option in options if option.required)]
    lines = [f"## {path}", "", inspect.cleandoc(command.help or ""), ""]
    lines += ["```text", " ".join([*usage, "[OPTIONS]"] if options else usage), "```", ""]
    cells = [(f"`{_usage_of(argument)}`", _meaning(argument)) for argument in arguments]
    cells += [(f"`{_shown(option)}`", _meaning(option)) for option in options]
    table = [("argument or option", "meaning"), ("---", "---"), *cells]
    return [*lines, *(f"| {left} | {right} |" for left, right in table), ""] if cells else lines


def _usage_of(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    return name if argument.required else f"[{name}]"


def _shown(option: Any) -> str:
    """Return an option with the kind of its value, as '--json FILE'."""
    if option.is_flag:
        return option.opts[0]
    return f"{option.opts[0]} {option.metavar or _kind(option.type_descriptor.annotation)}"


def _kind(annotation: Any) -> str:
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return "|".join(member.value for member in annotation)
    inner = [kind for kind in get_args(annotation) if kind is not type(None)]
    return KINDS.get(annotation) or _kind(inner[0])


def _meaning(parameter: Any) -> str:
    text = " ".join((parameter.help or "").split()).replace("|", "\\|")
    default = parameter.default
    if isinstance(default, Enum):
        default = default.value
    if parameter.param_type_name == "option" and parameter.required:
        text += " Required."
    elif parameter.show_default and not isinstance(default, bool) and default not in (None, (), [], ""):
        text += f" Default: `{default}`."
    return text.strip()


if __name__ == "__main__":
    sys.stdout.write(page())
