"""`rollcall export`: other formats, made from the tables of an output."""

import sys
from collections.abc import Callable, Collection, Mapping
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
from jobs.cli.options import ConfigFiles, Identity, Ids, Settings, WaitLease
from jobs.shared.exporting_pictures import FAILED, export_pictures
from jobs.shared.holding import holding
from jobs.shared.run_json import new_run_id
from pipeline.config import load
from pipeline.errors import DataError, UserError
from pipeline.exports.coco import write_coco
from pipeline.exports.estimates import write_estimates_csv
from pipeline.exports.line_counts import count_lines
from pipeline.exports.mot import write_mot
from pipeline.exports.people import FinishedVideo, People
from pipeline.exports.people_csv import write_people_csv
from pipeline.exports.subtitles import write_srt, write_vtt
from pipeline.exports.workbook import write_workbook
from pipeline.storage.names import Names, same
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.tables import damage_is_a_fault

app = typer.Typer(**PLAIN)
Files = dict[str, Callable[[], None]]
"""The files of an export, as a map from their names in the output to the functions that write them."""


class Format(StrEnum):
    """The formats that there are, as values of --format."""

    CSV = "csv"
    COCO = "coco"
    MOT = "mot"
    ESTIMATES = "estimates"
    SRT = "srt"
    VTT = "vtt"
    XLSX = "xlsx"
    PICTURES = "pictures"


class Upsampling(StrEnum):
    """The ways to enlarge pictures, as values of --upsample."""

    REALESRGAN = "realesrgan"
    LANCZOS = "lanczos"


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


SHOWN = 25
TAKES_IDS = (Format.MOT, Format.COCO)
TAKES_ZONE = (Format.CSV, Format.XLSX)


@app.command()
def export(
    uri: Annotated[str, typer.Argument(help="The output of `process`.", show_default=False)],
    export_format: Annotated[
        Format,
        typer.Option(
            "--format",
            help="csv: a line per person. estimates: a line per tracklet and minute, as CSV. coco: boxes as JSON. mot: "
            "boxes as MOT text. srt, vtt: subtitles of who is in the picture. xlsx: a workbook with a sheet per day. "
            "csv, estimates and xlsx are one file; these others are one "
            "per source, named as its CSV. pictures: body and face of each person from the sources, only with "
            "biometrics.keep.",
        ),
    ],
    ids: Ids = Identity.PERSON,
    timezone: Annotated[
        str, typer.Option(help="Time zone of dates and times of day, as Europe/Berlin. For csv and xlsx.")
    ] = "UTC",
    arrays: Annotated[
        bool, typer.Option("--arrays", help="Pictures also as NumPy files: (height, width, 3) RGB in .npy.")
    ] = False,
    restore: Annotated[
        bool, typer.Option("--restore", help="Paste faces that restore.weights has sharpened into pictures.")
    ] = False,
    upsample: Annotated[
        Upsampling | None,
        typer.Option(help="Double the size of pictures. realesrgan invents detail; lanczos does not."),
    ] = None,
    config: ConfigFiles = None,
    settings: Settings = None,
    wait_lease: WaitLease = 0.0,
) -> None:
    """Write the tables of an output in another format, under URI/export/FORMAT.

    What an earlier export wrote there for videos that are gone is removed. --config and --set are for the models of
    --restore and --upsample: restore.weights, weights.*, licences.allow, compute.*.
    """
    zone = _zone(timezone)
    _refuse_strange(
        export_format,
        {
            "--ids": (ids is not Identity.PERSON, TAKES_IDS),
            "--timezone": (timezone != "UTC", TAKES_ZONE),
            "--arrays": (arrays, (Format.PICTURES,)),
            "--restore": (restore, (Format.PICTURES,)),
            "--upsample": (upsample is not None, (Format.PICTURES,)),
            "--config": (bool(config), (Format.PICTURES,)),
            "--set": (bool(settings), (Format.PICTURES,)),
            "--wait-lease": (wait_lease > 0, (Format.PICTURES,)),
        },
    )
    index = OutputIndex.open(uri)
    index.store.check_writable()
    if export_format is Format.PICTURES:
        from jobs.shared.enhancing import load_enhancer  # torch takes seconds to import

        models = load(config or [], ["restore.mode=always", *(settings or [])])
        enhance = load_enhancer(models, restore=restore, upsample=upsample)
        with holding(index.store, "export", new_run_id(), wait_lease) as store:
            failed = export_pictures(OutputIndex.load(store), f"export/{export_format}", enhance, arrays=arrays)
        if failed:
            sys.exit(FAILED)
        return
    request = Request(index, People(index), f"export/{export_format}", ids, zone)
    files = WRITERS[export_format](request)
    written = {same(name) for name in files}
    for name in index.store.names(request.folder):
        if same(name) not in written:
            index.store.delete(name)
    left_out = request.people.left_out
    num_written = 0
    for name, write in files.items():
        try:
            with damage_is_a_fault():
                write()
            num_written += 1
        except DataError as error:
            left_out[index.store.full(name)] = str(error)
    for what, why in list(left_out.items())[:SHOWN]:
        say(f"left out: {what}: {why}; `rollcall process` makes the tables again")
    say(f"{count(num_written, 'file')} -> {index.store.full(request.folder)}")
    if left_out:
        sys.exit(FAILED)


def _refuse_strange(export_format: Format, options: Mapping[str, tuple[bool, Collection[Format]]]) -> None:
    """Raise UserError for an option that does nothing for the format. options: whether each is given, and for which
    formats it is."""
    for option, (is_given, formats) in options.items():
        if is_given and export_format not in formats:
            raise UserError(f"{option} is for {' and '.join(formats)}; leave it out for {export_format}")


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


def _estimates(request: Request) -> Files:
    place = f"{request.folder}/estimates.csv"
    return {place: partial(write_estimates_csv, request.index, place, request.people)}


def _xlsx(request: Request) -> Files:
    place = f"{request.folder}/persons.xlsx"

    def write() -> None:
        lines = count_lines(request.index, request.people.left_out)
        write_workbook(request.index.store, place, request.people, request.zone, lines)

    return {place: write}


WRITERS: Mapping[Format, Callable[[Request], Files]] = {
    Format.CSV: _csv,
    Format.ESTIMATES: _estimates,
    Format.COCO: partial(_per_source, ".json", _coco),
    Format.MOT: partial(_per_source, ".txt", _mot),
    Format.SRT: partial(_per_source, ".srt", _srt),
    Format.VTT: partial(_per_source, ".vtt", _vtt),
    Format.XLSX: _xlsx,
}
"""The exporter of each format that comes from tables alone."""


if __name__ == "__main__":
    run_command(app)
