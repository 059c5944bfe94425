"""`rollcall demo`: the main job on a clip that the demo makes itself, so that everybody knows who is in it.

The clip films photographs that ship inside installed packages. It lies in the output, beside the tables that are
made from it. `process` ignores files below its own output as sources. The demo knows that the clip lies there, and
hands it over directly.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC
from statistics import fmean
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from jobs.cli import console
from jobs.cli.errors import run_command
from jobs.cli.help import PLAIN
from jobs.cli.options import STARTER
from jobs.shared.checks import verified_models
from jobs.shared.copying import annotate_videos
from jobs.shared.demo_clip import CLIP, FPS, SECONDS_PER_SHOT, STORY, WIDTH, Known, clip_frames, make_clip
from jobs.shared.holding import holding
from jobs.shared.processing import work_through
from jobs.shared.reporting import PAGE as REPORT
from jobs.shared.reporting import write_report
from jobs.shared.run_json import new_run_id
from pipeline.arrays import Picture
from pipeline.config import load
from pipeline.errors import UserError
from pipeline.media.draw import draw_people, encode_png, sheet
from pipeline.media.pictures import resize_to_long_side
from pipeline.report.inputs import ReportOptions
from pipeline.storage import tables
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.sources import Listing, Source
from pipeline.storage.store import Store

SHEET = "demo.png"
SHEET_WIDTH, SHEET_COLUMNS = 640, 3
AGE_TOLERANCE = 10
"""Years by which an estimate of one person may be wrong and still count as right."""
LEAST_JUDGED = 3
"""The number of people in the clip who show a large enough face and whose facts are known."""


app = typer.Typer(**PLAIN)


@app.command()
def demo(
    output: Annotated[str, typer.Option(help="A folder; clip and tables go there.", metavar="DIR")] = "out/demo",
) -> None:
    """Make a clip of people who are known, find them in it, and say how well that went."""
    if "://" in output:
        raise UserError(f"--output {output}: the demo writes to this machine; name a folder")
    registry = verified_models(config := load(profile=STARTER))
    store = Store(output)
    store.check_writable()
    seconds, people = SECONDS_PER_SHOT * len(STORY), {name for shot in STORY for name in shot.people}
    console.say(
        f"making a clip of {seconds} s out of photographs that came with the installed packages: "
        f"{len(STORY)} shots, {len(people)} people, one of whom comes back"
    )
    with store.writing(CLIP) as file:
        make_clip(file)
    uri = store.full(CLIP)
    listing = Listing((Source(uri=uri, name=CLIP, named_by=uri, size_bytes=len(store.read(CLIP))),), 0, (uri,))
    if status := work_through(listing, config, registry, store).status():
        raise typer.Exit(status)

    source = OutputIndex.load(store).sources[uri]
    persons, detections = (_rows(store, name, source["video_id"]) for name in ("persons", "detections"))
    with store.writing(SHEET) as file:
        file.write(encode_png(_sheet_of(persons, detections)))
    console.console.print()
    console.console.print(_table_of(persons, detections))
    console.console.print()
    frames_by_shot = count_frames(detections)
    names = names_of(frames_by_shot, detections)
    for verdict in [*verdicts_on_people(frames_by_shot), *verdicts_on_estimates(persons, names)]:
        console.say(verdict)
    console.console.print()
    with holding(store, "demo", new_run_id()) as held:
        outcome = annotate_videos(OutputIndex.load(held), config)
        # Nobody needs protection from small numbers here: the people are the demo's own.
        write_report(output, ReportOptions(UTC, "UTC", min_group=1))
    console.console.print()
    console.console.print(_places(source["csv"], outcome.made))
    if outcome.status:
        raise typer.Exit(outcome.status)


def verdicts_on_people(frames_by_shot: Sequence[Mapping[int, int]]) -> list[str]:
    """Compare the persons of the output with the STORY, and return one line per verdict.

    frames_by_shot: for each shot, the number of frames by person ID.
    """
    expected = [len(shot.people) for shot in STORY]
    counted = [len(persons) for persons in frames_by_shot]
    num_there, num_found = len({known for shot in STORY for known in shot.people}), len(set().union(*frames_by_shot))
    verdicts = [
        (f"people: {num_found} found, {num_there} in the clip", num_found == num_there),
        (f"in each shot: {_listed(counted)} found, {_listed(expected)} in the clip", counted == expected),
    ]
    for name, shots in _returning():
        frames = [frames_by_shot[shot] for shot in shots]
        ids = {max(persons, key=persons.__getitem__) if persons else None for persons in frames}
        listed = " and ".join(f"person {number}" if number else "nobody" for number in sorted(i or 0 for i in ids))
        is_same = len(ids) == 1 and None not in ids
        verdicts.append((f"{name} is in shots {_listed(shot + 1 for shot in shots)}: {listed}", is_same))
    return [_verdict(*verdict) for verdict in verdicts]


def verdicts_on_estimates(persons: Sequence[Mapping[str, Any]], names: Mapping[int, Known]) -> list[str]:
    """Compare the estimated genders and ages with the known facts, and return one line per verdict.

    names: the known person of each ID, as far as that is clear.
    """
    pairs = [(person, names[person["person_id"]]) for person in persons if person["person_id"] in names]
    genders = [person["gender"] == known.gender for person, known in pairs if person["gender"] != "N"]
    ages = [
        known.ages[0] - AGE_TOLERANCE <= person["age"] <= known.ages[1] + AGE_TOLERANCE
        and person["age_low"] <= known.ages[1] + 1  # a person aged 41 has not yet turned 42
        and person["age_high"] >= known.ages[0]
        for person, known in pairs
        if person["age"] is not None and known.ages is not None
    ]
    within = f"within {AGE_TOLERANCE} years of what is known, which their intervals hold"
    lines = [
        (f"gender: {sum(genders)} of {len(genders)} named as known", all(genders) and len(genders) >= LEAST_JUDGED),
        (f"age: {sum(ages)} of {len(ages)} {within}", all(ages) and len(ages) >= LEAST_JUDGED),
    ]
    return [_verdict(*line) for line in lines]


def names_of(frames_by_shot: Sequence[Mapping[int, int]], detections: Iterable[Mapping[str, Any]]) -> dict[int, Known]:
    """Return who each person ID is. The persons of a shot, from left to right, are the people of the story in that
    order.

    A shot with another number of persons identifies nobody.

    """
    lefts: dict[tuple[int, int], list[float]] = {}
    for row in detections:
        lefts.setdefault((_shot(row), row["person_id"]), []).append(row["bb_xmin"])
    names: dict[int, Known] = {}
    for index, (shot, persons) in enumerate(zip(STORY, frames_by_shot, strict=True)):
        if len(persons) == len(shot.people):
            ordered = sorted(persons, key=lambda person_id, index=index: fmean(lefts[index, person_id]))
            names |= dict(zip(ordered, shot.people, strict=True))
    return names


def _verdict(text: str, right: bool) -> str:
    return f"{text}: {'right' if right else 'WRONG'}"


def _returning() -> list[tuple[str, list[int]]]:
    """Return the people who are in more than one shot and alone in each, and those shots.

    Only a person who is alone in a shot can be identified by an ID without doubt.
    """
    alone = [shot.people[0].name if len(shot.people) == 1 else None for shot in STORY]
    shots = {name: [i for i, other in enumerate(alone) if other == name] for name in alone if name}
    return [(name, places) for name, places in shots.items() if len(places) > 1]


def _shot(row: Mapping[str, Any]) -> int:
    """Return the shot of the STORY, counted from 0, that contains a row of `detections`."""
    return int(row["time_s"] // SECONDS_PER_SHOT)


def count_frames(detections: Iterable[Mapping[str, Any]]) -> list[Counter[int]]:
    """Count for each shot of the STORY in how many of its frames each person is."""
    frames_by_shot: list[Counter[int]] = [Counter() for _ in STORY]
    for row in detections:
        frames_by_shot[_shot(row)][row["person_id"]] += 1
    return frames_by_shot


def _sheet_of(persons: Sequence[Mapping[str, Any]], detections: Sequence[Mapping[str, Any]]) -> Picture:
    """Draw the middle frame of every shot, with the persons found in it."""
    labels = {person["person_id"]: _label(person) for person in persons}
    middles = [index * SECONDS_PER_SHOT * FPS + SECONDS_PER_SHOT * FPS // 2 for index in range(len(STORY))]
    pages = []
    for middle, picture in zip(middles, (p for i, p in enumerate(clip_frames()) if i in middles), strict=True):
        rows = [row for row in detections if row["frame_num"] == middle + 1]
        ids = [row["person_id"] for row in rows]
        corners = [
            (r["bb_xmin"], r["bb_ymin"], r["bb_xmin"] + r["bb_width"], r["bb_ymin"] + r["bb_height"]) for r in rows
        ]
        boxes = np.array(corners, np.float64).reshape(-1, 4) * (SHEET_WIDTH / WIDTH)
        small = resize_to_long_side(picture, SHEET_WIDTH)
        pages.append(draw_people(small, boxes, ids, [labels[person_id] for person_id in ids]))
    return sheet(pages, SHEET_COLUMNS)


def _label(person: Mapping[str, Any]) -> str:
    parts = [str(person["person_id"])]
    if person["age"] is not None:
        parts.append(f"{GENDERS[person['gender']]}, {person['age']:.0f}")
    return " · ".join(parts)


def _table_of(persons: Sequence[Mapping[str, Any]], detections: Sequence[Mapping[str, Any]]) -> Table:
    table = Table("person", "in picture", "shots", "age (80 % between)", "gender", **LOOK)
    for person in persons:
        shots = sorted({row["shot"] for row in detections if row["person_id"] == person["person_id"]})
        age = "no estimate"
        if person["age"] is not None:
            age = f"{person['age']:.0f} ({person['age_low']:.0f} to {person['age_high']:.0f})"
        gender = GENDERS[person["gender"]]
        table.add_row(str(person["person_id"]), f"{person['num_frames'] / FPS:.1f} s", _listed(shots), age, gender)
    return table


def _places(csv: str, copies: Iterable[str]) -> Table:
    table = Table("in the output", "", **LOOK)
    table.add_row(REPORT, "all results as one page: open it in a browser")
    for name in copies:
        table.add_row(name, "the clip with a labelled box around each person")
    table.add_row(CLIP, "the clip")
    table.add_row(SHEET, "a picture of each shot, with the people found in it")
    table.add_row(csv, "a line per person and frame")
    table.add_row("persons/, detections/, …", "tables, each for pandas.read_parquet")
    table.add_row("run.json", "configuration, models, versions, times")
    return table


GENDERS = {"F": "female", "M": "male", "N": "unsure"}
LOOK: dict[str, Any] = {"box": None, "pad_edge": False, "header_style": "bold"}


def _rows(store: Store, dataset: str, video_id: str) -> list[dict[str, Any]]:
    return [row for row in tables.read(store, dataset).to_pylist() if row["video_id"] == video_id]


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


if __name__ == "__main__":
    run_command(app)
