"""The queue of a review of persons: those of an output and of a list of labels, and what is written about them."""

import math
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jobs.cli.console import say
from jobs.reviewing.frames import Frames
from jobs.reviewing.person_views import Moment, PersonView, moment_of_label, read_people
from jobs.shared.labelled_videos import find_video, name_of, video_names
from pipeline.columns import integers, reals
from pipeline.corpora import csv_labels
from pipeline.corpora import labelled_persons as lists
from pipeline.corpora.labelled_persons import UNKNOWN, LabelledPerson
from pipeline.errors import DataError, UserError
from pipeline.evaluation.persons import WITHIN_S, match
from pipeline.storage import tables
from pipeline.storage.output_index import OutputIndex
from pipeline.video.left_out import boxes_of

FORM = "the form"
ROUNDED_S = 1e-3
"""Seconds. The page rounds moments to this."""
TEXTS = ("age", "gender", "face_px", "person", "note")
"""The texts of a label that the page sends."""
LEFT_OPEN = {"age": "give an age or a range such as 20-35", "gender": "choose a gender"}


@dataclass(slots=True)
class Item:
    """A person to label, or a video in which nobody was found.

    video_id, video: the video, and its name in the list.
    title: what the page calls it.
    moments: the best one first.
    face_px: width of the widest face that the output holds.
    estimate: what the output says, in words.
    row: the row of the list, None without one.
    is_open: whether it still has to be labelled.
    """

    video_id: str
    video: str
    title: str
    moments: tuple[Moment, ...]
    face_px: int
    estimate: str
    row: dict[str, str] | None
    is_open: bool


@dataclass(frozen=True, slots=True)
class Label:
    """What somebody says of a person, as the page sends it.

    time_s, box: a moment, and the person's box then: xyxy px.
    age, gender: as text. UNKNOWN: nobody can tell.
    face_px: width of the face as text, empty or 0 without one.
    person: a name that joins several rows of one person. Empty for none.
    note: free text.
    """

    time_s: float
    box: tuple[float, float, float, float]
    age: str
    gender: str
    face_px: str
    person: str
    note: str


@dataclass(slots=True)
class PersonQueue:
    """The persons to label, in order of videos and of their first appearance.

    output: the list.
    is_blind: whether estimates are hidden.
    lock: held while a row is written.
    """

    index: OutputIndex
    items: list[Item]
    output: Path
    is_blind: bool
    frames: Frames
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def num_done(self) -> int:
        """The number of labelled persons."""
        return sum(not item.is_open for item in self.items)

    def first_open(self, after: int = -1) -> int | None:
        """Return the next place without a label, searching round from the one behind `after`; None if there is none."""
        places = (*range(after + 1, len(self.items)), *range(after + 1))
        return next((place for place in places if self.items[place].is_open), None)

    def shown(self, place: int | None) -> dict[str, Any]:
        """Return what the page shows of a person, or only the counts if all are labelled."""
        counts = {"total": len(self.items), "done": self.num_done, "index": place}
        if place is None:
            return counts
        item = self.items[place]
        video = self.index.videos[item.video_id]
        row = {} if item.is_open or item.row is None else item.row
        facts = {} if self.is_blind or not item.estimate else {"output says": item.estimate}
        if row:
            facts["list says"] = "left out" if row["drop"] == "1" else f"{row['age']}, {row['gender']}"
        face_px = row.get("face_px") or str(item.face_px)
        return counts | {
            "name": f"{item.video}, {item.title}",
            "width": video["width"],
            "height": video["height"],
            "duration_s": video["duration_s"] or 0.0,
            "moments": [{"time_s": moment.time_s, "box": _xywh(moment.box)} for moment in item.moments],
            "facts": facts,
            **{name: row.get(name, "") for name in ("age", "gender", "person", "note")},
            "face_px": face_px,
        }

    def boxes(self, place: int, time_s: float) -> list[dict[str, Any]]:
        """Return the boxes of the output and of the list at a moment of the item's video, with their names."""
        item = self.items[place]
        columns = ("person_id", "time_s", "bb_xmin", "bb_ymin", "bb_width", "bb_height")
        with tables.damage_is_a_fault():
            table = tables.read_one(self.index.store, "detections", item.video_id, columns)
        times_s = reals(table, "time_s")
        begun = times_s[(times_s <= time_s + ROUNDED_S) & (times_s >= time_s - WITHIN_S)]
        near = np.flatnonzero(times_s == begun.max(initial=-1))
        shown = [
            {"name": f"person {number}", "box": _xywh(box)}
            for number, box in zip(
                integers(table, "person_id")[near].tolist(), boxes_of(table)[near].tolist(), strict=True
            )
        ]
        for other in self.items:
            if other.video_id == item.video_id and other.row is not None:
                label = lists.parse(other.row, FORM)
                if abs(label.time_s - time_s) <= WITHIN_S:
                    shown.append({"name": "labelled", "box": _xywh(label.box)})
        return shown

    def save(self, place: int, label: Label) -> None:
        """Write the label of a person. Raises UserError, and writes nothing, if a value is missing or unreadable."""
        self._write(self.items[place], self._row(self.items[place], label))

    def drop(self, place: int, label: Label) -> None:
        """Write that a box is no person of its own."""
        unknown = {"age": UNKNOWN, "gender": UNKNOWN, "face_px": "0", "drop": "1"}
        self._write(self.items[place], self._row(self.items[place], label, **unknown))

    def add(self, place: int, label: Label) -> None:
        """Write the label of somebody whom the output misses in the video of an item. Raises as `save` does."""
        near = self.items[place]
        added = Item(near.video_id, near.video, "added", (moment_of_label(label.time_s, label.box),), 0, "", None, True)
        self._write(added, self._row(added, label))
        self.items.append(added)

    def _row(self, item: Item, label: Label, **fixed: str) -> dict[str, str]:
        video = self.index.videos[item.video_id]
        left, top, right, bottom = label.box
        left, right = max(left, 0.0), min(right, float(video["width"]))
        top, bottom = max(top, 0.0), min(bottom, float(video["height"]))
        row = {
            "video": item.video,
            "time_s": _text(label.time_s),
            **dict(zip(lists.BOX, map(_text, (left, top, right - left, bottom - top)), strict=True)),
            "age": label.age.strip(),
            "gender": label.gender.strip(),
            "face_px": label.face_px.strip() or "0",
            "person": " ".join(label.person.split()),
            "drop": "",
            "blind": "1" if self.is_blind else "0",
            "note": " ".join(label.note.split()),
        } | fixed
        if not 0 <= label.time_s <= (video["duration_s"] or 0) + WITHIN_S:
            raise UserError(f"{FORM}: the video has no moment at {label.time_s:g} s; choose another frame")
        csv_labels.read_age(row["age"], FORM)
        for name, remedy in LEFT_OPEN.items():
            if not row[name]:
                raise UserError(f"{FORM}: {name} is open; {remedy}, or say that nobody can tell")
        person = lists.parse(row, FORM)
        age = csv_labels.age_text(person.age_low, person.age_high) or UNKNOWN
        return row | {"age": age, "gender": person.gender or UNKNOWN}

    def _write(self, item: Item, row: dict[str, str]) -> None:
        with self.lock:
            lists.put_row(self.output, row, item.row)
            item.row, item.is_open = row, False


def open_person_queue(
    index: OutputIndex, place: str, video_ids: Sequence[str], output: Path, *, is_blind: bool, again: bool
) -> PersonQueue:
    """Return the persons of an output's videos, and those of the list `output` that the output misses.

    place: of the output, for messages.
    video_ids: of finished videos.
    again: rows that are not marked as blind are asked for again, and what they say is not shown.

    A video whose tables are damaged is left out. Raises UserError.
    """
    names = video_names(index)
    rows_of: dict[str, list[tuple[dict[str, str], LabelledPerson]]] = defaultdict(list)
    for line, row in enumerate(lists.read_rows(output) if output.exists() else [], 2):
        label = lists.parse(row, f"{output}, line {line}")
        video_id = find_video(names, label.video, place)
        if video_id is not None and video_id in video_ids:
            rows_of[video_id].append((row, label))
    items: list[Item] = []
    for video_id in sorted(video_ids, key=index.file_names):
        name = name_of(index, names, video_id)
        try:
            items += _items_of(index, video_id, name, rows_of[video_id], again=again)
        except DataError as error:
            say(f"left out: {name}: {error}")
    if not items:
        raise UserError(f"{place} holds no finished video whose tables can be read; run `rollcall process` first")
    return PersonQueue(index, items, output, is_blind, Frames(index))


def _items_of(
    index: OutputIndex,
    video_id: str,
    video: str,
    labelled: Sequence[tuple[dict[str, str], LabelledPerson]],
    *,
    again: bool,
) -> list[Item]:
    views, size = read_people(index.store, index.videos[video_id]), index.videos[video_id]
    with tables.damage_is_a_fault():
        table = tables.read_one(index.store, "detections", video_id)
    boxes = boxes_of(table).astype(np.float32)
    matches = match(
        [label.boxes[0] for _, label in labelled], reals(table, "time_s"), boxes, integers(table, "person_id")
    )
    row_of: dict[int, tuple[dict[str, str], LabelledPerson]] = {}
    missed: list[tuple[dict[str, str], LabelledPerson]] = []
    for number, pair in zip(matches, labelled, strict=True):
        if number is None or number in row_of:
            missed.append(pair)
        else:
            row_of[number] = pair
    items = [_item(video_id, video, view, row_of.get(view.person_id), again) for view in views]
    items += [_item(video_id, video, None, pair, again) for pair in missed]
    if not items:
        whole = moment_of_label(0.0, (0, 0, size["width"], size["height"]))
        items = [Item(video_id, video, "nobody found", (whole,), 0, "", None, True)]
    return items


def _item(
    video_id: str,
    video: str,
    view: PersonView | None,
    labelled: tuple[dict[str, str], LabelledPerson] | None,
    again: bool,
) -> Item:
    """Return the item of a person of the output, of a row of the list, or of both. The row's moment comes first."""
    row, label = labelled or (None, None)
    moments = () if label is None else (moment_of_label(label.time_s, label.box),)
    is_open = row is None or (again and row["blind"] != "1")
    if view is None:
        face_px = 0 if label is None else round(label.face_px)
        return Item(video_id, video, "of the list alone", moments, face_px, "", row, is_open)
    face_px = view.face_px if label is None else max(view.face_px, round(label.face_px))
    title = f"person {view.person_id}"
    return Item(video_id, video, title, (*moments, *view.moments), face_px, view.estimate, row, is_open)


def _xywh(box: Sequence[float]) -> list[float]:
    left, top, right, bottom = box
    return [round(number, 1) for number in (left, top, right - left, bottom - top)]


def _text(number: float) -> str:
    """Return a number with at most three digits behind the point."""
    return f"{round(number, 3):.3f}".rstrip("0").rstrip(".")


def is_label(posted: Mapping[str, Any]) -> bool:
    """Return whether a post of the page has all parts of a `Label`, each of its type."""
    numbers = [posted.get("time_s"), *(posted["box"] if isinstance(posted.get("box"), list) else [None])]
    texts = [posted.get(name) for name in TEXTS]
    return (
        len(numbers) == 5
        and all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers)
        and all(math.isfinite(number) and abs(number) < 1e9 for number in numbers if number is not None)
        and all(isinstance(text, str) for text in texts)
    )
