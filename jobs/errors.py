"""How every command ends: a person's mistake is a line on stderr and status 2, a bug is a traceback and status 1."""

import os
import sys
import traceback
from typing import NoReturn

import typer

from pipeline.errors import UserError

INTERRUPTED = 130
PLACES = (FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError)
"""What a path of the command line that is something else than it should be makes of itself."""


def run(app: typer.Typer) -> NoReturn:
    """Run a command line. With `--debug`, or ROLLCALL_DEBUG in the environment, every error shows its traceback."""
    arguments = sys.argv[1:]
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    debug = "--debug" in options or bool(os.environ.get("ROLLCALL_DEBUG"))
    rest = [argument for argument in options if argument != "--debug"] + arguments[len(options) :]
    try:
        status = app(args=rest, standalone_mode=False)
    except UserError as error:
        if debug:
            traceback.print_exc()
        print(f"rollcall: {getattr(error, 'cause', None) or error}", file=sys.stderr)  # Ray wraps what its tasks raise
        sys.exit(2)
    except PLACES as error:
        if error.filename is None:  # not about a path: a bug
            raise
        if debug:
            traceback.print_exc()
        print(f"rollcall: {error.filename}: {error.strerror}; name another place", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:
        if not hasattr(error, "format_message"):  # Typer's errors have it, as Click's have; anything else is a bug
            raise
        if debug:
            traceback.print_exc()
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error, file=sys.stderr)
        else:
            from jobs.usage import told

            print(f"rollcall: {told(error)}", file=sys.stderr)
        sys.exit(2)
    sys.exit(status if isinstance(status, int) else 0)
