"""The web page of a review, and the requests that it makes."""

import hmac
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.reviewing.queue import Queue
from pipeline.errors import UserError

if TYPE_CHECKING:
    from flask import Flask

    from jobs.reviewing.person_queue import PersonQueue


FOLDER = Path(__file__).parent
MAX_POST_BYTES = 16_384


def sealed_page(template: str, key: str, hosts: list[str] | None) -> "Flask":
    """Create a page below /KEY/ that nobody else can open and that loads nothing from elsewhere.

    A post must carry the token that only the page knows.

    template: file of the page beside this module.
    hosts: accepted host names of the server (None: any), so that no other site can point its name here.
    """
    from flask import Flask, Response, abort, render_template_string, request
    from flask.json.provider import DefaultJSONProvider

    page = Flask(__name__, static_folder=None)
    page.json = provider = DefaultJSONProvider(page)
    provider.sort_keys = False
    page.config.update(TRUSTED_HOSTS=hosts, MAX_CONTENT_LENGTH=MAX_POST_BYTES)
    token = secrets.token_urlsafe(16)

    @page.before_request
    def refuse_strangers() -> None:
        given = (request.view_args or {}).get("key", "")
        if not hmac.compare_digest(given.encode(), key.encode()):
            abort(404)
        if request.method == "POST" and not hmac.compare_digest(
            request.headers.get("X-Token", "").encode(), token.encode()
        ):
            abort(403)

    @page.after_request
    def seal(response: Response) -> Response:
        headers = {
            "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "Cross-Origin-Resource-Policy": "same-origin",
        }
        for name, value in headers.items():
            response.headers[name] = value
        response.headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
        return response

    @page.get("/<key>/")
    def index(key: str) -> Response:
        nonce = secrets.token_urlsafe(16)
        text, style, script = (
            FOLDER.joinpath(name).read_text(encoding="utf-8") for name in (template, "page.css", "page.js")
        )
        shown = render_template_string(text, nonce=nonce, token=token, style=style, script=script)
        response = Response(shown, mimetype="text/html")
        response.headers["Content-Security-Policy"] = (
            f"default-src 'none'; img-src 'self'; connect-src 'self'; style-src 'nonce-{nonce}'; "
            f"script-src 'nonce-{nonce}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        return response

    return page


def serve_items(page: "Flask", queue: "Queue | PersonQueue") -> Callable[[Any], int]:
    """Let a page ask for the items of a queue. Return the function that checks the place of an item: it answers 404 to
    any other value."""
    from flask import Response, abort, jsonify

    def place_of(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < len(queue.items):
            abort(404)
        return value

    @page.get("/<key>/item")
    def first(key: str) -> Response:
        return jsonify(queue.shown(queue.first_open()))

    @page.get("/<key>/item/<int:place>")
    def item(key: str, place: int) -> Response:
        return jsonify(queue.shown(place_of(place)))

    return place_of


def create_app(queue: Queue, key: str, hosts: list[str] | None) -> "Flask":
    """Create the page of a review of labels. Pictures are named by their place in the queue, never by a path.

    key, hosts: as `sealed_page` takes them.
    """
    from flask import Response, abort, jsonify, request, send_file

    page = sealed_page("page.html", key, hosts)
    place_of = serve_items(page, queue)

    @page.get("/<key>/picture/<int:place>")
    def picture(key: str, place: int) -> Response:
        path = queue.items[place_of(place)].path
        if not path.is_file():
            abort(404)
        return send_file(path.resolve(), max_age=0)

    @page.post("/<key>/decide")
    def decide(key: str) -> tuple[Response, int]:
        posted = request.get_json()
        texts = [posted.get(name) for name in ("what", "age", "gender", "note")] if isinstance(posted, dict) else []
        known = [text for text in texts if isinstance(text, str)]
        if len(known) != 4 or known[0] not in ("save", "keep", "drop"):
            return jsonify(error="what must be save, keep or drop; age, gender and note must be strings"), 400
        place = place_of(posted.get("index"))
        try:
            queue.decide(place, *known)
        except UserError as error:
            return jsonify(error=str(error).removeprefix("the form: ")), 400
        except OSError as error:
            return jsonify(error=f"the decision could not be written: {error}"), 500
        return jsonify(queue.shown(queue.first_open(place))), 200

    return page


def hosts_of(host: str) -> list[str] | None:
    """Return the accepted host names of a server at `host`; None (any) if it serves all addresses of the machine."""
    if host in ("0.0.0.0", "::"):
        return None
    return ["127.0.0.1", "localhost", "[::1]"] if host in ("127.0.0.1", "localhost", "::1") else [host]
