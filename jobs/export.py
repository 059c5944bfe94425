"""`rollcall export`: other formats, made from the tables of an output."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import tzinfo
from enum import StrEnum
from functools import partial
from typing import Annotated
from zoneinfo import ZoneInfo

import typer

from jobs.cli.console import count, say
from jobs.cli.errors import run_command
from jobs.cli.help import PLAIN
from jobs.cli.options import Identity, Ids
from pipeline.errors import UserError
from pipeline.exports.coco import write_coco
from pipeline.exports.line_counts import count_lines
from pipeline.exports.mot import write_mot
from pipeline.exports.people import FinishedVideo, People
from pipeline.exports.people_csv import write_people_csv
from pipeline.exports.subtitles import write_srt, write_vtt
from pipeline.exports.workbook import write_workbook
from pipeline.storage.names import Names, same
from pipeline.storage.output_index import OutputIndex

app = typer.Typer(**PLAIN)
Files = dict[str, Callable[[], None]]
"""The files of an export, as a map from their names in the output to the functions that write them."""


class Format(StrEnum):
    """The formats that there are, as values of --format."""

    CSV = "csv"
    COCO = "coco"
    MOT = "mot"
    SRT = "srt"
    VTT = "vtt"
    XLSX = "xlsx"


@dataclass(frozen=True, slots=True)
class Request:
    """What is exported.

    folder: of the files, below the output.
    ids: the ids of people.
    zone: time zone of dates and times of day.
    """

    index: OutputIndex
    people: People
    folder: str
    ids: Identity
    zone: tzinfo


TAKES_IDS = (Format.MOT, Format.COCO)
TAKES_ZONE = (Format.CSV, Format.XLSX)


@app.command()
def export(
    uri: Annotated[str, typer.Argument(help="The output of `process`.", show_default=False)],
    export_format: Annotated[
        Format,
        typer.Option(
            "--format",
            help="csv: a line per person. coco: boxes as JSON. mot: boxes as MOT text. srt, vtt: subtitles of who is "
            "in the picture. xlsx: a workbook with a sheet per day. csv and xlsx are one file; the others are one file "
            "per source, named as its CSV.",
        ),
    ],
    ids: Ids = Identity.PERSON,
    timezone: Annotated[
        str, typer.Option(help="Time zone of dates and times of day, as Europe/Berlin. For csv and xlsx.")
    ] = "UTC",
) -> None:
    """Write the tables of an output in another format, under URI/export/FORMAT.

    What an earlier export wrote there for videos that are gone is removed.
    """
    zone = _zone(timezone)
    if ids is not Identity.PERSON and export_format not in TAKES_IDS:
        raise UserError(f"--ids is for {' and '.join(TAKES_IDS)}; leave it out for {export_format}")
    if timezone != "UTC" and export_format not in TAKES_ZONE:
        raise UserError(f"--timezone is for {' and '.join(TAKES_ZONE)}; leave it out for {export_format}")
    index = OutputIndex.open(uri)
    index.store.check_writable()
    request = Request(index, People(index), f"export/{export_format}", ids, zone)
    files = WRITERS[export_format](request)
    written = {same(name) for name in files}
    for name in index.store.names(request.folder):
        if same(name) not in written:
            index.store.delete(name)
    for write in files.values():
        write()
    say(f"{count(len(files), 'file')} -> {index.store.full(request.folder)}")


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError
        raise UserError(f"--timezone {name} is not known; give a name such as Europe/Berlin or UTC") from None


def _per_source(suffix: str, write: Callable[[Request, FinishedVideo, str, str], None], request: Request) -> Files:
    """Return a file for each source of each finished video, named as its CSV with another suffix."""
    names = Names(holds=request.index.store.holds)
    files: Files = {}
    for video in request.people.videos():
        for source in video.files:
            place = names.give(f"{request.folder}/{source}", suffix)
            files[place] = partial(write, request, video, place, source)
    return files


def _mot(request: Request, video: FinishedVideo, place: str, source: str) -> None:
    write_mot(request.index.store, video.video_id, place, f"{request.ids}_id")


def _coco(request: Request, video: FinishedVideo, place: str, source: str) -> None:
    write_coco(request.index.store, request.index.videos[video.video_id], place, source, f"{request.ids}_id")


def _srt(request: Request, video: FinishedVideo, place: str, source: str) -> None:
    write_srt(request.index.store, place, request.people, video)


def _vtt(request: Request, video: FinishedVideo, place: str, source: str) -> None:
    write_vtt(request.index.store, place, request.people, video)


def _csv(request: Request) -> Files:
    place = f"{request.folder}/persons.csv"
    return {place: partial(write_people_csv, request.index.store, place, request.people, request.zone)}


def _xlsx(request: Request) -> Files:
    place = f"{request.folder}/persons.xlsx"

    def write() -> None:
        write_workbook(request.index.store, place, request.people, request.zone, count_lines(request.index))

    return {place: write}


WRITERS: Mapping[Format, Callable[[Request], Files]] = {
    Format.CSV: _csv,
    Format.COCO: partial(_per_source, ".json", _coco),
    Format.MOT: partial(_per_source, ".txt", _mot),
    Format.SRT: partial(_per_source, ".srt", _srt),
    Format.VTT: partial(_per_source, ".vtt", _vtt),
    Format.XLSX: _xlsx,
}
"""The exporter of each format."""


if __name__ == "__main__":
    run_command(app)
