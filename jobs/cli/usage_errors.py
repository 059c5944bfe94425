"""Errors of a command line, in one line each: what is wrong, where, and the remedy. Typer's own texts name its
internals."""

from collections.abc import Iterator
from enum import Enum
from typing import Any, get_args

from pipeline.errors import nearest
from pipeline.json_schema import describe_values

TYPES = {int: "integer", float: "number", bool: "boolean"}


def describe(error: Any) -> str:
    """Return the line for an error of Typer."""
    context = error.ctx
    if context is None:  # an option without its value: the parser knows no more
        needs = "takes no value; leave it out" if "not take" in error.message else "needs a value; write one behind it"
        return f"{error.option_name} {needs}"
    command = context.command_path.removeprefix(context.find_root().command_path).strip()
    return f"{command}: {_what(error, context)}" if command else _what(error, context)


def _what(error: Any, context: Any) -> str:
    see_help = f"`{context.command_path} --help` shows what there is"
    message = error.format_message().splitlines()[0].rstrip(".")
    match type(error).__name__:
        case "NoSuchOption":
            options = [name for option in context.command.params for name in option.opts]
            return f"there is no option {error.option_name}{nearest(error.option_name, options, see_help)}"
        case "MissingParameter":
            return f"{_name(error.param)} is missing{_about(error.param)}; {see_help}"
        case "BadParameter" if rule := _rule(error):
            return f"{_name(error.param)} {rule}; {see_help}"
        case "UsageError" if message.startswith("No such command"):
            name = message.split("'")[1]
            return f"there is no command {name}{nearest(name, context.command.list_commands(context), see_help)}"
        case "UsageError" if "extra argument" in message:
            more = message.rpartition("(")[2].rstrip(")")
            return f"{more}: nothing more is taken here; put a name with spaces into quotes"
    return f"{message[:1].lower()}{message[1:]}; {see_help}"


def _name(param: Any) -> str:
    """Return the name of an option as the user types it, or of an argument as help shows it."""
    return max(param.opts, key=len) if param.param_type_name == "option" else (param.metavar or param.name.upper())


def _about(param: Any) -> str:
    """Return the first sentence of a parameter's help, in brackets."""
    sentence = (getattr(param, "help", None) or "").split(". ")[0].rstrip(".")
    return f" ({sentence[:1].lower()}{sentence[1:]})" if sentence else ""


def _rule(error: Any) -> str | None:
    """Return what a value must be and what it is, or None if Typer's own text says more, as for files that do not
    exist."""
    if not hasattr(error.__cause__, "errors"):
        return None
    for kind in _types(error.param.get_runtime_param().annotation):
        if issubclass(kind, Enum):
            rule = f"one of {', '.join(str(choice.value) for choice in kind)}"
        elif kind in TYPES:
            limits = {"minimum": error.param.min, "maximum": error.param.max}
            node = {"type": TYPES[kind]} | {name: limit for name, limit in limits.items() if limit is not None}
            rule = describe_values(node, {})
        else:
            continue
        return f"must be {rule}, got {error.__cause__.errors()[0]['input']}"
    return None


def _types(annotation: Any) -> Iterator[type]:
    """Yield the types in an annotation: int for list[int] | None."""
    if isinstance(annotation, type):
        yield annotation
    for part in get_args(annotation):
        yield from _types(part)
