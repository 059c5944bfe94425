"""How every command is told of: in plain text. Rich's boxes take longer to load than all else that help needs, and cut
the names of options where the screen is narrow."""

import inspect
from typing import Any

from typer.core import TyperGroup


class Group(TyperGroup):
    """Commands whose first sentences are not cut short."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return told(super().get_command(ctx, cmd_name))


def told(command: Any) -> Any:
    """The command, of which a group tells the first paragraph of its help."""
    if command is not None and not command.short_help:
        command.short_help = " ".join(inspect.cleandoc(command.help or "").split("\n\n")[0].split())
    return command


PLAIN: dict[str, Any] = {
    "cls": Group,
    "add_completion": False,
    "pretty_exceptions_enable": False,
    "rich_markup_mode": None,
}
"""What every Typer here is made with."""
