"""`rollcall review`: a local web page for correcting doubtful labels, and for labelling the persons of an output.

The page is served to this machine alone, at an address that holds a secret. It loads nothing from other hosts, and
sends no picture to them. Every decision is a row of a CSV before the next picture is shown.
"""

import secrets
from pathlib import Path
from typing import Annotated

import typer

from jobs.cli.errors import run_command
from jobs.cli.help import PLAIN
from jobs.cli.options import Videos
from jobs.reviewing.page import create_app, hosts_of
from jobs.reviewing.queue import open_queue
from jobs.reviewing.server import serve
from jobs.shared.copying import select_videos
from jobs.shared.extras import missing_package
from pipeline.errors import UserError
from pipeline.storage.output_index import OutputIndex

app = typer.Typer(**PLAIN)


@app.command()
def review(
    output: Annotated[
        Path,
        typer.Option(
            metavar="FILE.csv",
            help="CSV of corrections, or of labelled persons. An existing one is continued.",
            show_default=False,
        ),
    ],
    data: Annotated[
        str | None, typer.Option(metavar="DIR|CSV", help="A data set whose labels are corrected.", show_default=False)
    ] = None,
    result: Annotated[
        str | None,
        typer.Option(metavar="URI", help="An output of `process` whose persons are labelled.", show_default=False),
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.csv", help="With --data: output of `rollcall evaluate attributes` for it.", show_default=False
        ),
    ] = None,
    pictures: Annotated[
        Path | None,
        typer.Option(help="With --data: folder of the pictures if they do not lie beside the labels."),
    ] = None,
    copies: Annotated[
        bool, typer.Option("--copies", help="With --data: search for copies of one picture with contradictory labels.")
    ] = False,
    video: Videos = None,
    estimates: Annotated[
        bool,
        typer.Option("--estimates", help="With --result: show what the output says, and mark the labels as not blind."),
    ] = False,
    again: Annotated[
        bool,
        typer.Option(
            "--again", help="With --result: ask again for labels that are not marked as blind, without showing them."
        ),
    ] = False,
    host: Annotated[
        str, typer.Option(help="Address to serve at. By default only this machine can open it.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to serve at; 0: any free one.")] = 8765,
) -> None:
    """Review labels of pictures in a browser, or label the persons of an output there.

    With --data: keep, correct age or gender, or drop. Ages 0 to 20 come first. Within each half, the least certain
    labels come first. With --copies, these are copies of one picture with different genders or with ages more than 5
    years apart. Then, with --predictions, labels are ordered by the lower of two probabilities: of so large a
    difference in age under the predicted interval, and of the label's gender. All others are ordered by name.
    Decisions are appended to FILE.csv, which `rollcall datasets … --corrections` applies.

    With --result: age range and gender of each person, or that nobody can tell, and boxes around people who are
    missed. What the output says is hidden, so that labels are blind. `rollcall evaluate persons --reference` reads
    FILE.csv.

    Ctrl-C ends the review.
    """
    if (data is None) == (result is None):
        raise UserError("give --data to correct labels of pictures, or --result to label persons; one of them")
    for_data = {"--predictions": predictions, "--pictures": pictures, "--copies": copies}
    for_result = {"--video": video, "--estimates": estimates, "--again": again}
    for name, value in (for_result if result is None else for_data).items():
        if value:
            raise UserError(f"{name} goes with --{'result' if result is None else 'data'}; leave it out")
    key = secrets.token_urlsafe(16)
    try:
        if data is not None:
            queue = open_queue(data, output, predictions, pictures, copies)
            page = create_app(queue, key, hosts_of(host))
            serve(page, key, host, port, lambda: (len(queue.decided), len(queue.items), "picture"), output)
        elif result is not None:
            _label_persons(result, video or [], output, key, host, port, is_blind=not estimates, again=again)
    except ImportError as error:
        raise missing_package(error) from error


def _label_persons(
    result: str, videos: list[str], output: Path, key: str, host: str, port: int, *, is_blind: bool, again: bool
) -> None:
    # Decoding takes a second to import.
    from jobs.reviewing.person_page import create_person_app
    from jobs.reviewing.person_queue import open_person_queue

    index = OutputIndex.open(result)
    chosen = select_videos(index, videos) if videos else set(index.done())
    queue = open_person_queue(index, result, sorted(chosen), output, is_blind=is_blind, again=again)
    page = create_person_app(queue, key, hosts_of(host))
    serve(page, key, host, port, lambda: (queue.num_done, len(queue.items), "person"), output)


if __name__ == "__main__":
    run_command(app)
