"""`rollcall evaluate persons`: measure an output on a labelled list of the persons in its videos."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Column, Table

from jobs.cli.console import console, count, say
from jobs.cli.options import ConfigFiles
from jobs.shared.labelled_videos import find_video, video_names
from pipeline.config import load
from pipeline.corpora.labelled_persons import LabelledPerson, read_persons
from pipeline.errors import DataError, UserError
from pipeline.evaluation.persons import WITHIN_S, WRONG, Estimate, Figures, Judged, judge, match, summary
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.tables import damage_is_a_fault, read_one

BOXES = ("time_s", "person_id", "bb_xmin", "bb_ymin", "bb_width", "bb_height")
ESTIMATES = ("person_id", "num_faces", "age", "gender", "estimated_from")
ROWS = {
    "found": "found",
    "judged": "judged",
    "split": "several ids",
    "gender_right": "gender right",
    "gender_wrong": "gender wrong",
    "gender_none": "no gender",
    "age_right": "age in range",
    "age_wrong": "age outside",
    "age_none": "no age",
}
"""Names of the printed figures."""


def persons(
    result: Annotated[str, typer.Option(metavar="URI", help="An output of `process`.", show_default=False)],
    reference: Annotated[
        Path,
        typer.Option(
            metavar="FILE.csv", help="The labelled persons: a row with a moment and a box each.", show_default=False
        ),
    ],
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures and every person to this file.")
    ] = None,
    config: ConfigFiles = None,
) -> None:
    """Count who is found, who gets a gender and an age, and who a right one, with intervals.

    FILE.csv has the columns video, time_s, bb_xmin, bb_ymin, bb_width, bb_height, age (a range such as 20-35), gender
    and face_px; `rollcall review --result` makes it. `unknown` as age or gender means that nobody can tell; such labels
    count for nothing but `found` and `judged`. A labelled person is found if a box of the result overlaps its box at
    that moment (IoU .5). Rows with the same text in the column `person` are one person at several moments: `several
    ids` counts those that the result takes for several persons, and `joined` those that share a person of the result.
    The figures are given for all, by the width of the face, by gender and by age. Intervals are Wilson's, 95 %.
    """
    load(config or [])  # only checked here: every evaluation takes --config
    labels = read_persons(reference)
    index = OutputIndex.open(result)
    by_video = _of_videos(labels, index, result)
    missing = sorted({label.video for label in labels} - {label.video for part in by_video.values() for label in part})
    if missing:
        say(
            f"left out: {count(len(missing), 'video')} of {reference} that {result} does not hold: {', '.join(missing)}"
        )
    if not by_video:
        raise UserError(f"{result} holds no video of {reference}; process these videos, or correct the column video")
    people: list[Judged] = []
    num_others = num_persons = 0
    for video_id, part in by_video.items():
        _check_places(part, index.videos[video_id], reference)
        try:
            judged, num = _judged(index, video_id, part)
        except DataError as error:
            say(f"left out: {part[0].video}: {error}")
            continue
        people += judged
        num_persons += num
        num_others += num - len({name for person in judged for name in person.person_ids})
    if not people:
        raise UserError(f"{result} holds no readable tables of the videos of {reference}; process them again")
    report = summary(people)
    num_blind = sum(person.label.is_blind for person in people)
    say(f"{num_blind:,} of {count(len(people), 'label')} given without seeing an estimate")
    say(
        f"{num_others:,} of {count(num_persons, 'person')} of the result stand at no labelled moment: second ids of "
        "somebody, things, or people without a row"
    )
    for title, groups in report["by"].items():
        _show(title, {**groups, "all": report["pooled"]})
    for person in people:
        if text := _fault(person):
            left, top, *_ = person.label.box
            say(f"{person.label.video}, {person.label.time_s:g} s, box at {left:g}, {top:g}: {text}")
    if json_file:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        rows = [_row(person) for person in people]
        places = {"result": result, "reference": str(reference)}
        counts = {"result_persons": num_persons, "result_persons_without_label": num_others}
        json_file.write_text(json.dumps({**places, **counts, **report, "persons": rows}, indent=1) + "\n")


def _of_videos(labels: Sequence[LabelledPerson], index: OutputIndex, place: str) -> dict[str, list[LabelledPerson]]:
    """Return the labels by video_id, of the finished videos that have some. Raises UserError for an ambiguous name."""
    names = video_names(index)
    by_video: dict[str, list[LabelledPerson]] = defaultdict(list)
    for label in labels:
        if (video_id := find_video(names, label.video, place)) is not None:
            by_video[video_id].append(label)
    return by_video


def _check_places(labels: Sequence[LabelledPerson], video: Mapping[str, Any], reference: Path) -> None:
    """Raise UserError for a moment or a box that the video does not have: nobody could be found there."""
    end_s, width, height = video["duration_s"] or 0.0, video["width"], video["height"]
    for label in labels:
        for row in label.boxes:
            where, (left, top, right, bottom) = f"{reference}, line {row.line}", row.box
            if row.time_s > end_s + WITHIN_S:
                raise UserError(
                    f"{where}: {label.video} ends at {end_s:g} s, before time_s {row.time_s:g}; correct time_s"
                )
            if left >= width or top >= height or right <= 0 or bottom <= 0:
                raise UserError(
                    f"{where}: the box lies outside of the picture of {label.video}, {width}x{height} px; correct it"
                )


def _judged(index: OutputIndex, video_id: str, labels: Sequence[LabelledPerson]) -> tuple[list[Judged], int]:
    """Return the labelled persons of a video, and the number of persons of the result."""
    with damage_is_a_fault():
        table = read_one(index.store, "detections", video_id, BOXES)
        persons = read_one(index.store, "persons", video_id, ESTIMATES).to_pylist()
    left, top, width, height = (table[name].to_numpy() for name in BOXES[2:])
    boxes = np.stack([left, top, left + width, top + height], axis=1).astype(np.float32)
    estimates = {
        row["person_id"]: Estimate(
            row["person_id"],
            bool(row["num_faces"]) or row["estimated_from"] is not None,
            row["age"],
            row["gender"],
        )
        for row in persons
    }
    rows = [row for label in labels for row in label.boxes]
    matches = match(rows, table["time_s"].to_numpy(), boxes, table["person_id"].to_numpy())
    return judge(labels, matches, estimates), len(persons)


def _show(title: str, groups: Mapping[str, Figures]) -> None:
    table = Table(Column(f"by {title}", no_wrap=True), *groups, box=None, pad_edge=False)
    for name in ("persons", "joined"):
        table.add_row(name, *(str(figures[name]) for figures in groups.values()))
    for key, name in ROWS.items():
        table.add_row(name, *(_cell(figures[key]) for figures in groups.values()))
    off = [figures["age_years_off"] for figures in groups.values()]
    table.add_row("years outside", *("" if years is None else f"{years:.1f}" for years in off))
    console.print(table)
    console.print()


def _cell(share: Mapping[str, Any]) -> str:
    if not share["of"]:
        return ""
    return f"{share['count']}/{share['of']} ({100 * share['low']:.0f}–{100 * share['high']:.0f} %)"


def _fault(person: Judged) -> str:
    """Return what is wrong with a person, or empty text."""
    label, estimate = person.label, person.estimate
    if estimate is None:
        return "not found"
    faults: list[str] = []
    if person.gender == WRONG:
        faults.append(f"gender {estimate.gender}, labelled {label.gender}")
    if person.age == WRONG:
        faults.append(f"age {estimate.age:.0f}, labelled {label.age_low:g}-{label.age_high:g}")
    if person.joined:
        faults.append("one person with another labelled one")
    if person.is_split:
        faults.append(f"several persons: {', '.join(map(str, sorted(set(person.person_ids))))}")
    return f"person {estimate.person_id}: {'; '.join(faults)}" if faults else ""


def _row(person: Judged) -> dict[str, Any]:
    label, estimate = person.label, person.estimate
    told = not np.isnan(label.age)
    return {
        "video": label.video,
        "time_s": label.time_s,
        "gender": label.gender,
        "age_low": label.age_low if told else None,
        "age_high": label.age_high if told else None,
        "face_px": label.face_px,
        "blind": label.is_blind,
        "found": estimate is not None,
        "joined": person.joined,
        "person_ids": list(person.person_ids),
        "person_id": estimate and estimate.person_id,
        "judged": estimate and estimate.judged,
        "estimated_gender": estimate and estimate.gender,
        "estimated_age": estimate and estimate.age,
        "gender_verdict": person.gender,
        "age_verdict": person.age,
    }
