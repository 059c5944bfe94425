"""The web page on which the persons of an output are labelled, and the requests that it makes."""

from typing import TYPE_CHECKING

from jobs.reviewing.page import sealed_page, serve_items
from jobs.reviewing.person_queue import FORM, TEXTS, Label, PersonQueue, is_label
from pipeline.errors import DataError, PassingError, UserError

if TYPE_CHECKING:
    from flask import Flask, Response


def create_person_app(queue: PersonQueue, key: str, hosts: list[str] | None) -> "Flask":
    """Create the page of a review of persons. Frames are named by the place of a person in the queue and a moment.

    key, hosts: as `sealed_page` takes them.
    """
    from flask import Response, abort, jsonify, request

    page = sealed_page("persons.html", key, hosts)
    place_of = serve_items(page, queue)

    def time_of_request() -> float:
        time_s = request.args.get("t", type=float)
        if time_s is None or not 0 <= time_s < 1e9:
            abort(404)
        return time_s

    @page.errorhandler(DataError)
    @page.errorhandler(PassingError)
    @page.errorhandler(UserError)
    def unreadable(error: Exception) -> tuple["Response", int]:
        return jsonify(error=str(error)), 500

    @page.get("/<key>/frame/<int:place>")
    def frame(key: str, place: int) -> Response:
        video_id = queue.items[place_of(place)].video_id
        return Response(queue.frames.whole(video_id, time_of_request()), mimetype="image/jpeg")

    @page.get("/<key>/moment/<int:place>/<int:number>")
    def moment(key: str, place: int, number: int) -> Response:
        chosen = queue.items[place_of(place)]
        if number >= len(chosen.moments):
            abort(404)
        shown = chosen.moments[number]
        return Response(queue.frames.part(chosen.video_id, shown.time_s, shown.zoom), mimetype="image/jpeg")

    @page.get("/<key>/boxes/<int:place>")
    def boxes(key: str, place: int) -> Response:
        return jsonify(queue.boxes(place_of(place), time_of_request()))

    @page.post("/<key>/decide")
    def decide(key: str) -> tuple[Response, int]:
        posted = request.get_json()
        acts = {"save": queue.save, "drop": queue.drop, "add": queue.add}
        if not isinstance(posted, dict) or posted.get("what") not in acts or not is_label(posted):
            return jsonify(error=f"a post has what (save, drop or add), time_s, box, {', '.join(TEXTS)}"), 400
        place = place_of(posted.get("index"))
        left, top, width, height = posted["box"]
        label = Label(
            posted["time_s"],
            (left, top, left + width, top + height),
            **{name: posted[name] for name in TEXTS},
        )
        try:
            acts[posted["what"]](place, label)
        except UserError as error:
            return jsonify(error=str(error).removeprefix(f"{FORM}: ")), 400
        except OSError as error:
            return jsonify(error=f"the label could not be written: {error}"), 500
        return jsonify(queue.shown(place if posted["what"] == "add" else queue.first_open(place))), 200

    return page
