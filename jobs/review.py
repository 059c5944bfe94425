"""`rollcall review`: a local web page for correcting doubtful labels, the least certain first.

The page is served to this machine alone, at an address that holds a secret. It loads nothing from other hosts, and
sends no picture to them. Every decision is a row of a CSV before the next picture is shown.
"""

import secrets
import socket
from pathlib import Path
from typing import Annotated

import typer

from jobs.cli import console
from jobs.cli.errors import run_command
from jobs.cli.help import PLAIN
from jobs.reviewing.page import create_app, hosts_of
from jobs.reviewing.queue import open_queue
from jobs.shared.extras import missing_package
from pipeline.errors import UserError

app = typer.Typer(**PLAIN)


@app.command()
def review(
    data: Annotated[
        str, typer.Option(metavar="DIR|CSV", help="A data set; see `rollcall datasets list`.", show_default=False)
    ],
    output: Annotated[
        Path,
        typer.Option(metavar="FILE.csv", help="CSV of corrections. An existing one is continued.", show_default=False),
    ],
    predictions: Annotated[
        Path | None,
        typer.Option(metavar="FILE.csv", help="Output of `rollcall evaluate attributes` for it.", show_default=False),
    ] = None,
    pictures: Annotated[
        Path | None,
        typer.Option(help="Folder of the pictures if they do not lie beside the labels.", show_default=False),
    ] = None,
    copies: Annotated[
        bool, typer.Option("--copies", help="Search for copies of one picture with contradictory labels.")
    ] = False,
    host: Annotated[
        str, typer.Option(help="Address to serve at. By default only this machine can open it.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to serve at; 0: any free one.")] = 8765,
) -> None:
    """Review doubtful labels in a browser: keep, correct age or gender, or drop.

    Ages 0 to 20 come first. Within each half, the least certain labels come first. With --copies, these are copies
    of one picture with different genders or with ages more than 5 years apart. Then, with --predictions, labels are
    ordered by the lower of two probabilities: of so large a difference in age under the predicted interval, and of
    the label's gender. All others are ordered by name.

    Decisions are appended to FILE.csv, which `rollcall datasets … --corrections` applies. Ctrl-C ends the review.
    """
    try:
        from werkzeug.serving import WSGIRequestHandler, make_server

        queue = open_queue(data, output, predictions, pictures, copies)
        page = create_app(queue, key := secrets.token_urlsafe(16), hosts_of(host))
    except ImportError as error:
        raise missing_package(error) from error

    class Quiet(WSGIRequestHandler):
        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Log no requests."""

    with _listen(host, port) as listener:
        bound = listener.getsockname()[1]
        server = make_server(host, bound, page, threaded=True, request_handler=Quiet, fd=listener.fileno())
        shown = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, host)
        name = f"[{shown}]" if ":" in shown else shown
        console.say(f"{len(queue.items):,} pictures, {len(queue.decided):,} of them reviewed; decisions go to {output}")
        console.say(f"open http://{name}:{bound}/{key}/ (Ctrl-C ends the review)")
        try:
            server.serve_forever()
        finally:
            server.server_close()
            console.say(
                f"{len(queue.decided):,} of {len(queue.items):,} reviewed; the same command continues from here"
            )


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()
    except OSError as error:
        raise UserError(f"cannot serve at {host}, port {port} ({error}); give another --port") from error
    return listener


if __name__ == "__main__":
    run_command(app)
