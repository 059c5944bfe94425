"""The end of every command.

- A mistake of the user: status 2, and a line or two on stderr.
- A fault of the machine, or an input that the command cannot do without: status 1, and a line or two on stderr.
- A storage place that sleeps: status 4, and a line on stderr. The same command goes on later.
- Another run holds the output: status 5, and a line that names it.
- Ctrl-C or SIGTERM: status 130, and a line on stderr.
- A bug: status 1, and a traceback.
"""

import io
import os
import sys
import tempfile
import traceback
from pathlib import Path
from typing import NoReturn

import typer

from pipeline.errors import DataError, LeaseError, MachineError, PassingError, UserError, file_in_the_way, lack_of
from pipeline.text import printable

FAILED, WRONG_USAGE, DEFERRED, HELD, INTERRUPTED = 1, 2, 4, 5, 130
PLACES = (FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError)
"""The errors that a path of the command line raises if it is not the kind of file or folder that it should be."""


def run_command(app: typer.Typer) -> NoReturn:
    """Run a command line. With `--debug`, or ROLLCALL_DEBUG in the environment, every error shows its traceback."""
    arguments = sys.argv[1:]
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    debug = "--debug" in options or bool(os.environ.get("ROLLCALL_DEBUG"))
    rest = [argument for argument in options if argument != "--debug"] + arguments[len(options) :]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files can hold characters that no terminal encoding has
            stream.reconfigure(errors="backslashreplace")
    _have_home()
    try:
        status = app(args=rest, standalone_mode=False)
    except KeyboardInterrupt:
        status = INTERRUPTED
    except Exception as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error, file=sys.stderr)
            sys.exit(WRONG_USAGE)
        message, status = _ending(error)
        if message is None:
            raise
        if debug:
            traceback.print_exc()
        print(printable(f"rollcall: {message}", keep="\n"), file=sys.stderr)
        sys.exit(status)
    if status == INTERRUPTED:  # Typer, too, makes this status of an interruption
        print("rollcall: interrupted", file=sys.stderr)
    sys.exit(status if isinstance(status, int) else 0)


def _ending(error: Exception) -> tuple[str | None, int]:
    """Return the message for an error, or None if it is a bug, and the exit status."""
    if isinstance(error, UserError | LeaseError):
        return str(error), WRONG_USAGE if isinstance(error, UserError) else HELD
    if isinstance(error, PassingError):
        return f"{error}; run the same command again later: what is finished is kept", DEFERRED
    if hasattr(error, "format_message"):  # Typer's errors have it, as Click's have
        from jobs.cli.usage_errors import describe

        return describe(error), WRONG_USAGE
    if isinstance(error, PLACES) and error.filename is not None:
        place = os.fsdecode(error.filename) if isinstance(error.filename, bytes) else error.filename
        return _unusable(place, error), WRONG_USAGE
    failure = error if isinstance(error, MachineError | DataError) else lack_of(error)
    return (str(failure) if failure else None), FAILED


def _unusable(place: str, error: OSError) -> str:
    """Return the message for a place that cannot be used. Not every command lets the user name another one."""
    if isinstance(error, PermissionError):
        return f"{place}: {error.strerror}; change its permissions, or name another place"
    return (
        str(file_in_the_way(place) or "")
        or f"{place}: {error.strerror}; move away what is there, or name another place"
    )


def _have_home() -> None:
    """Give libraries a folder of their own if the home folder, where they look for one when imported, is not usable."""
    try:
        if os.access(Path.home(), os.W_OK | os.X_OK):
            return
    except RuntimeError:  # neither HOME nor an account
        os.environ["HOME"] = tempfile.gettempdir()
    os.environ.setdefault("MPLCONFIGDIR", os.path.join(tempfile.gettempdir(), f"rollcall-matplotlib-{os.getuid()}"))
