"""The server of the pages of `rollcall review`."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.cli import console
from pipeline.errors import UserError

if TYPE_CHECKING:
    from flask import Flask


def serve(
    page: "Flask", key: str, host: str, port: int, progress: Callable[[], tuple[int, int, str]], output: Path
) -> None:
    """Serve a page below /KEY/ until Ctrl-C, and say how far the review is.

    progress: returns how many things are reviewed, how many there are, and what they are.
    output: where decisions are written.

    Raises UserError if the address is taken.
    """
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Log no requests."""

    with _listen(host, port) as listener:
        bound = listener.getsockname()[1]
        server = make_server(host, bound, page, threaded=True, request_handler=Quiet, fd=listener.fileno())
        shown = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, host)
        name = f"[{shown}]" if ":" in shown else shown
        done, total, what = progress()
        try:
            console.say(f"{console.count(total, what)}, {done:,} of them reviewed; decisions go to {output}")
            console.say(f"open http://{name}:{bound}/{key}/ (Ctrl-C ends the review)")
            server.serve_forever()
        finally:
            server.server_close()
            done, total, _ = progress()
            console.say(f"{done:,} of {total:,} reviewed; the same command continues from here")


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
