"""`rollcall review`: a local web page for correcting doubtful labels, the least certain first.

The page is served to this machine alone, at an address that holds a secret. It loads nothing from other hosts, and
sends no picture to them. Every decision is a row of a CSV before the next picture is shown.
"""

import hmac
import secrets
import socket
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs import console
from jobs.datasets import missing
from jobs.errors import run
from jobs.help import PLAIN
from pipeline.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from flask import Flask
    from numpy.typing import NDArray

    from pipeline.corpora.corrections import Correction

PAGE = Path(__file__).with_name("review.html")
MAX_POST_BYTES = 16_384

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
        raise missing(error) from error

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


@dataclass(frozen=True, slots=True)
class Item:
    """A picture to review with its labels.

    name: of the picture in the data set.
    path: of the file.
    age: years or a range as `csv_labels` reads it, or empty.
    gender: M, F or empty.
    is_young: its age is 20 or less.
    facts: text by term, for the page.
    """

    name: str
    path: Path
    age: str
    gender: str
    is_young: bool
    facts: dict[str, str]


@dataclass(slots=True)
class Queue:
    """The pictures in the order of review, and the decisions so far.

    items: (N,) in the order of review. A place is an index into it.
    output: the CSV of decisions.
    decided: the latest decision by name of the picture.
    lock: held while a decision is written.
    """

    items: list[Item]
    output: Path
    decided: "dict[str, Correction]"
    lock: threading.Lock = field(default_factory=threading.Lock)

    def first_open(self, after: int = -1) -> int | None:
        """Return the next place without a decision, searching round from the one behind `after`; None if there is
        none."""
        places = (*range(after + 1, len(self.items)), *range(after + 1))
        return next((place for place in places if self.items[place].name not in self.decided), None)

    def shown(self, place: int | None) -> dict[str, Any]:
        """Return what the page shows of a picture, or only the counts if all are reviewed."""
        young_left = sum(item.is_young and item.name not in self.decided for item in self.items)
        counts = {"total": len(self.items), "done": len(self.decided), "young_left": young_left, "index": place}
        if place is None:
            return counts
        item, facts = self.items[place], dict(self.items[place].facts)
        before = self.decided.get(item.name)
        if before is not None:
            changes = [before.age and f"age {before.age}", before.gender and f"gender {before.gender}"]
            facts["decided"] = "drop" if before.drop == "1" else ", ".join(filter(None, changes)) or "keep"
        return counts | {
            "name": item.name,
            "facts": facts,
            "age": (before and before.age) or item.age,
            "gender": (before and before.gender) or item.gender,
            "note": before.note if before else "",
        }

    def decide(self, place: int, what: str, age: str, gender: str, note: str) -> None:
        """Write a decision to the CSV: save (only differences from the label), keep or drop.

        Raises UserError, and writes nothing, if a value cannot be read.
        """
        from pipeline.corpora import corrections, csv_labels

        item = self.items[place]
        age = csv_labels.age_text(*csv_labels.read_age(age, "the form"))
        gender = csv_labels.read_gender(gender, "the form") or ""
        correction = corrections.Correction(
            item.name,
            age=age if what == "save" and age != item.age else "",
            gender=gender if what == "save" and gender != item.gender else "",
            drop="1" if what == "drop" else "",
            note=note.strip(),
        )
        with self.lock:
            corrections.append(self.output, correction)
            self.decided[item.name] = correction


def open_queue(
    data: str, output: Path, predictions: Path | None = None, pictures: Path | None = None, copies: bool = False
) -> Queue:
    """Return the data set in the order of review, with the decisions that `output` already holds. Raises UserError."""
    import numpy as np

    from pipeline.corpora import corrections
    from pipeline.corpora import review_order as doubt
    from pipeline.corpora.clean import NO_PICTURE, clean
    from pipeline.corpora.csv_labels import age_text
    from pipeline.corpora.loading import load_faces

    table = load_faces(data, pictures=pictures)
    earlier = corrections.read(output) if output.exists() else []
    if earlier:
        corrections.apply(table, output)  # raises if one of them cannot be applied
    name_by_path = dict(zip(table["path"], table["name"], strict=True))
    table, removed = clean(table, [NO_PICTURE])
    if removed[NO_PICTURE]:
        console.say(f"{removed[NO_PICTURE]:,} labels are left out: their pictures are missing")
    if table.empty:
        raise UserError(f"{data} has no picture to review; give their folder with --pictures")

    ages = [age_text(low, high) for low, high in zip(table["age_low"], table["age_high"], strict=True)]
    genders = [gender or "" for gender in table["gender"]]
    labels = [
        f"{age or 'age unknown'}, {gender or 'gender unknown'}" for age, gender in zip(ages, genders, strict=True)
    ]
    facts = [{"label": label} for label in labels]
    certainty = np.full(len(table), np.nan)
    if predictions is not None:
        predicted = doubt.read_predictions(predictions, table)
        certainty = doubt.certainty(table, predicted)
        columns = [predicted[name].tolist() for name in doubt.PREDICTED[1:]]
        for fact, sure, age, low, high, female in zip(facts, certainty.tolist(), *columns, strict=True):
            if not np.isnan(sure):
                gender = f"{max(female, 1 - female):.0%} {'female' if female >= 0.5 else 'male'}"
                fact |= {"predicted": f"{age:.0f} ({low:.0f} to {high:.0f}), {gender}", "certainty": f"{sure:.1%}"}
    if copies:
        certainty = np.where(_contradicted(table, labels, facts), 0.0, certainty)

    paths, names = table["path"].tolist(), table["name"].tolist()
    young = (table["age_low"] <= doubt.YOUNG).tolist()
    items = [
        Item(names[row], Path(paths[row]), ages[row], genders[row], young[row], facts[row])
        for row in doubt.order(table, certainty).tolist()
    ]
    decided = {name_by_path.get(correction.path, correction.path): correction for _, correction in earlier}
    known = set(names)
    return Queue(items, output, {name: correction for name, correction in decided.items() if name in known})


def create_app(queue: Queue, key: str, hosts: list[str] | None) -> "Flask":
    """Create the page and its requests, all below /KEY/.

    A post must carry the token that only the page knows. Pictures are named by their place in the queue, never by a
    path.

    hosts: accepted host names of the server (None: any), so that no other site can point its name here.
    """
    from flask import Flask, Response, abort, jsonify, render_template_string, request, send_file
    from flask.json.provider import DefaultJSONProvider

    page = Flask(__name__, static_folder=None)
    page.json = provider = DefaultJSONProvider(page)
    provider.sort_keys = False
    page.config.update(TRUSTED_HOSTS=hosts, MAX_CONTENT_LENGTH=MAX_POST_BYTES)
    token = secrets.token_urlsafe(16)

    def place_of(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < len(queue.items):
            abort(404)
        return value

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
        text = render_template_string(PAGE.read_text(encoding="utf-8"), nonce=nonce, token=token)
        response = Response(text, mimetype="text/html")
        response.headers["Content-Security-Policy"] = (
            f"default-src 'none'; img-src 'self'; connect-src 'self'; style-src 'nonce-{nonce}'; "
            f"script-src 'nonce-{nonce}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        return response

    @page.get("/<key>/item")
    def first(key: str) -> Response:
        return jsonify(queue.shown(queue.first_open()))

    @page.get("/<key>/item/<int:place>")
    def item(key: str, place: int) -> Response:
        return jsonify(queue.shown(place_of(place)))

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


def _contradicted(table: "pd.DataFrame", labels: list[str], facts: list[dict[str, str]]) -> "NDArray[np.bool_]":
    """Return (N,) whether copies of a picture contradict its label, and add the labels of the copies to the facts."""
    import numpy as np

    from pipeline.corpora import review_order as doubt
    from pipeline.corpora import splits

    console.say(f"searching {len(table):,} pictures for copies")
    groups = splits.groups(table["path"].tolist())
    is_contradicted = doubt.contradicted(table, groups)
    for group in np.unique(groups[is_contradicted]):
        rows = np.flatnonzero(groups == group).tolist()
        for row in rows:
            facts[row]["copies say"] = "; ".join(labels[other] for other in rows if other != row)
    return is_contradicted


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
    run(app)
