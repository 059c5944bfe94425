"""Help of every command, in plain text. Rich's boxes take longer to load than everything else that help needs, and
they cut the names of options on narrow screens."""

import inspect
from typing import Any

from typer.core import TyperGroup


class Group(TyperGroup):
    """A group that shows the first paragraph of each command's help in full."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command of the group, with its summary."""
        return with_summary(super().get_command(ctx, cmd_name))


def with_summary(command: Any) -> Any:
    """Return the command with the first paragraph of its help as its summary, for the list of its group."""
    if command is not None and not command.short_help:
        command.short_help = " ".join(inspect.cleandoc(command.help or "").split("\n\n")[0].split())
    return command


PLAIN: dict[str, Any] = {
    "cls": Group,
    "add_completion": False,
    "pretty_exceptions_enable": False,
    "rich_markup_mode": None,
}
"""Settings that every Typer here is made with."""
