"""`rollcall compare`: the differences between two outputs."""

import json
import sys
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Column, Table

from jobs.cli import console
from jobs.cli.errors import run_command
from jobs.cli.help import PLAIN
from jobs.shared.comparison import VideoDifference, compare_videos
from pipeline import rows
from pipeline.errors import UserError
from pipeline.planning import changes
from pipeline.planning.recipe import Recipe
from pipeline.storage import records
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.store import Store

DIFFERENT = 3
SHOWN_VIDEOS = 25
SHOWN_CHANGES = 10

app = typer.Typer(**PLAIN)


@app.command()
def compare(
    a: Annotated[str, typer.Argument(help="An output of `process`.", show_default=False)],
    b: Annotated[str, typer.Argument(help="Another output, of the same videos.", show_default=False)],
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write all differences to this file.", metavar="FILE")
    ] = None,
) -> None:
    """Show what differs between two outputs: videos, persons, ids, estimates, counts; the exit status is 0 if nothing
    does, and 3 otherwise.

    Persons are matched by their boxes: two boxes of a frame are one if they overlap by half (IoU).
    """
    index_a, index_b = OutputIndex.open(a), OutputIndex.open(b)
    done_a, done_b = set(index_a.done()), set(index_b.done())
    comparison = Comparison(index_a, index_b, sorted(done_a - done_b), sorted(done_b - done_a))
    comparison.name_configurations(sorted(done_a & done_b))
    for difference in compare_videos(index_a, index_b, sorted(done_a & done_b)):
        comparison.add(difference)
    comparison.show()
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(comparison.facts(), indent=2, ensure_ascii=False))
    if not comparison.is_equal:
        sys.exit(DIFFERENT)


@dataclass(slots=True)
class Totals:
    """The differences of all videos together. Persons, boxes and estimates are those of videos whose rows differ."""

    same_bytes: int = 0
    same_rows: int = 0
    different: int = 0
    persons_a: int = 0
    persons_b: int = 0
    matched: int = 0
    same_id: int = 0
    gone: int = 0
    new: int = 0
    merged: int = 0
    split: int = 0
    shared_boxes: int = 0
    moved_boxes: int = 0
    age_in_both: int = 0
    age_only_in_a: int = 0
    age_only_in_b: int = 0
    age_change_sum: float = 0.0
    age_change_abs_sum: float = 0.0
    age_change_most: float = 0.0
    gender_same: int = 0
    gender_differs: int = 0
    gender_only_in_a: int = 0
    gender_only_in_b: int = 0

    def add(self, difference: VideoDifference) -> None:
        """Add the persons and estimates of a video whose rows differ."""
        self.persons_a += difference.num_persons[0]
        self.persons_b += difference.num_persons[1]
        if (matching := difference.matching) is not None:
            self.gone += len(matching.gone)
            self.new += len(matching.new)
            self.merged += len(matching.merged)
            self.split += len(matching.split)
            self.shared_boxes += matching.shared
            self.moved_boxes += matching.moved
        for person in difference.estimates:
            self.matched += 1
            self.same_id += person.a == person.b
            if (change := person.age_change) is not None:
                self.age_in_both += 1
                self.age_change_sum += change
                self.age_change_abs_sum += abs(change)
                self.age_change_most = max(self.age_change_most, abs(change))
            self.age_only_in_a += person.age_a is not None and person.age_b is None
            self.age_only_in_b += person.age_a is None and person.age_b is not None
            if person.gender_a is not None and person.gender_b is not None:
                self.gender_same += person.gender_a == person.gender_b
                self.gender_differs += person.gender_a != person.gender_b
            self.gender_only_in_a += person.gender_a is not None and person.gender_b is None
            self.gender_only_in_b += person.gender_a is None and person.gender_b is not None


@dataclass(slots=True)
class Comparison:
    """The differences between the outputs A and B.

    only_a: ids of the videos that are done in A alone, sorted. only_b: likewise.
    configurations: for each pair of different config_ids in A and B, the number of videos and the changes.
    differences: of the videos whose rows differ.
    num_rows: rows in A and B by dataset, over the videos in which the dataset differs.
    videos_by_table: number of videos in which a dataset differs.
    """

    a: OutputIndex
    b: OutputIndex
    only_a: list[str]
    only_b: list[str]
    configurations: dict[tuple[str, str], tuple[int, list[str]]] = field(default_factory=dict)
    totals: Totals = field(default_factory=Totals)
    differences: list[VideoDifference] = field(default_factory=list)
    num_rows: dict[str, tuple[int, int]] = field(default_factory=dict)
    videos_by_table: Counter[str] = field(default_factory=Counter)

    @property
    def is_equal(self) -> bool:
        """Whether both outputs hold the same rows of the same videos."""
        return not (self.only_a or self.only_b or self.differences)

    def name_configurations(self, video_ids: list[str]) -> None:
        """Note the configurations with which the videos of both were made, where they differ."""
        pairs = Counter((self.a.videos[name]["config_id"], self.b.videos[name]["config_id"]) for name in video_ids)
        for pair, number in pairs.most_common():
            if pair[0] != pair[1]:
                self.configurations[pair] = (number, _changes(self.a.store, self.b.store, *pair))

    def add(self, difference: VideoDifference) -> None:
        """Add a video that is in both outputs."""
        if difference.is_equal:
            self.totals.same_bytes += difference.same_bytes
            self.totals.same_rows += not difference.same_bytes
            return
        self.totals.different += 1
        self.differences.append(difference)
        self.totals.add(difference)
        for name, (rows_a, rows_b) in difference.num_rows.items():
            before = self.num_rows.get(name, (0, 0))
            self.num_rows[name] = (before[0] + rows_a, before[1] + rows_b)
            self.videos_by_table[name] += 1
        if difference.changed_columns:
            self.videos_by_table["videos"] += 1

    def show(self) -> None:
        """Print the differences."""
        for name, index, other, only in (("A", self.a, self.b, self.only_a), ("B", self.b, self.a, self.only_b)):
            console.say(f"{name}: {index.store.uri}: {console.contents([index.videos[done] for done in index.done()])}")
            if only:
                uris = [index.videos[video_id]["uri"] for video_id in only]
                given_up = sum(video_id in other.videos for video_id in only)
                quarantined = f" ({given_up} quarantined in the other)" if given_up else ""
                console.say(f"{console.count(len(only), 'video')} only in {name}{quarantined}: {console.few(uris)}")
        for (before, after), (number, what) in self.configurations.items():
            console.say(f"configuration {before} in A, {after} in B ({console.count(number, 'video')}):")
            for change in what[:SHOWN_CHANGES]:
                console.say(f"  {change}")
            if len(what) > SHOWN_CHANGES:
                console.say(f"  … and {len(what) - SHOWN_CHANGES} more changes")
        self._show_equal()
        if self.differences:
            self._show_videos()
            self._show_totals()

    def _show_equal(self) -> None:
        totals = self.totals
        if not (totals.same_bytes or totals.same_rows or totals.different):
            console.say("no video is in both")
            return
        number = totals.same_bytes + totals.same_rows + totals.different
        if totals.same_bytes == number:
            console.say(f"the tables of {console.count(number, 'video')} in both are byte for byte equal")
            return
        parts = [(totals.same_bytes, "with all tables byte for byte equal"), (totals.same_rows, "with equal rows")]
        parts.append((totals.different, "with differences"))
        said = ", ".join(f"{number:,} {what}" for number, what in parts if number)
        console.say(f"{console.count(number, 'video')} in both: {said}")

    def _show_videos(self) -> None:
        titles = ("persons", "matched", "other id", "gone", "new", "merged", "split", "boxes moved", "age", "gender")
        columns = [Column(title, justify="right") for title in titles]
        table = Table("video", *columns, box=None, pad_edge=False, header_style="bold")
        for difference in self.differences[:SHOWN_VIDEOS]:
            table.add_row(console.last(difference.uri), *_cells(difference))
        console.console.print(table)
        if len(self.differences) > SHOWN_VIDEOS:
            console.say(f"… and {len(self.differences) - SHOWN_VIDEOS} more videos; --json FILE has all of them")
        for difference in [damaged for damaged in self.differences if damaged.damage][:SHOWN_VIDEOS]:
            console.say(f"cannot be compared: {difference.uri}: {difference.damage}")

    def _show_totals(self) -> None:
        totals = self.totals
        if totals.shared_boxes:
            share = totals.moved_boxes / totals.shared_boxes
            console.say(
                f"persons: {totals.persons_a:,} in A, {totals.persons_b:,} in B, {totals.matched:,} matched "
                f"({totals.same_id:,} with the same id)"
            )
            console.say(
                f"boxes: {totals.shared_boxes:,} in both, {totals.moved_boxes:,} of them ({share:.2%}) of other persons"
            )
        apart = ""
        if totals.age_in_both:
            mean, bias = (total / totals.age_in_both for total in (totals.age_change_abs_sum, totals.age_change_sum))
            apart = (
                f", {mean:.2f} years apart on average ({bias:+.2f} from A to B), {totals.age_change_most:.1f} at most"
            )
        console.say(
            f"ages of matched persons: {totals.age_in_both:,} in both{apart}; {totals.age_only_in_a:,} only in A, "
            f"{totals.age_only_in_b:,} only in B"
        )
        console.say(
            f"genders of matched persons: {totals.gender_same:,} the same, {totals.gender_differs:,} different; "
            f"{totals.gender_only_in_a:,} only in A, {totals.gender_only_in_b:,} only in B"
        )
        for name in ("videos", *rows.VIDEO_TABLES):
            if not self.videos_by_table[name]:
                continue
            counted = self.num_rows.get(name)
            number = f": {counted[0]:,} rows in A, {counted[1]:,} in B" if counted else ""
            console.say(f"{name} differs in {console.count(self.videos_by_table[name], 'video')}{number}")

    def facts(self) -> dict[str, Any]:
        """Return everything as JSON has it."""
        totals = asdict(self.totals)
        videos = {name: totals.pop(name) for name in ("same_bytes", "same_rows", "different")}
        return {
            "a": self.a.store.uri,
            "b": self.b.store.uri,
            "equal": self.is_equal,
            "byte_for_byte_equal": self.is_equal and not videos["same_rows"],
            "videos": {**videos, "only_in_a": self.only_a, "only_in_b": self.only_b},
            "configurations": [
                {"a": before, "b": after, "videos": number, "changes": what}
                for (before, after), (number, what) in self.configurations.items()
            ],
            "totals": totals,
            "tables": {
                name: {"videos": number, "rows": self.num_rows.get(name)}
                for name, number in sorted(self.videos_by_table.items())
            },
            "differences": [_facts(difference) for difference in self.differences],
        }


def _changes(a: Store, b: Store, before: str, after: str) -> list[str]:
    """Return what differs between two recipes, in words."""
    try:
        recipes = [records.read_recipe(a, before), records.read_recipe(b, after)]
        if recipes[0] is None or recipes[1] is None:
            return ["what was changed is unknown: recipes/ lacks one of them"]
        return [str(change) for change in changes.compare(*(Recipe.from_json(stored) for stored in recipes if stored))]
    except (UserError, TypeError, LookupError):
        return ["what was changed is unknown: a recipe is of another version, or damaged"]


def _cells(difference: VideoDifference) -> list[str]:
    """Return the numbers of a line for a video."""
    persons = f"{difference.num_persons[0]} -> {difference.num_persons[1]}"
    matching = difference.matching
    if matching is None:
        return [persons, *[""] * 9]
    people = difference.estimates
    ages = [abs(person.age_change) for person in people if person.age_change is not None]
    lost = sum((person.age_a is None) != (person.age_b is None) for person in people)
    genders = sum(person.gender_a != person.gender_b for person in people)
    counts = (matching.gone, matching.new, matching.merged, matching.split)
    age = f"±{sum(ages) / len(ages):.1f}" if ages else "-"
    return [
        persons,
        str(len(people)),
        str(sum(person.a != person.b for person in people)),
        *(str(len(persons)) for persons in counts),
        f"{matching.moved / matching.shared:.1%}" if matching.shared else "-",
        f"{age}, {lost} with or without" if lost else age,
        f"{genders} other" if genders else "same",
    ]


def _facts(difference: VideoDifference) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "video_id": difference.video_id,
        "uri": difference.uri,
        "persons": difference.num_persons,
        "changed_columns": difference.changed_columns,
        "rows": dict(difference.num_rows),
    }
    if difference.damage is not None:
        facts["damage"] = difference.damage
    if (matching := difference.matching) is not None:
        named = {name: getattr(matching, name) for name in ("gone", "new", "merged", "split")}
        facts |= named | {"shared_boxes": matching.shared, "moved_boxes": matching.moved}
        facts["changed_persons"] = [asdict(person) for person in difference.estimates if not person.is_equal]
        facts["matched"] = len(difference.estimates)
    return facts


if __name__ == "__main__":
    run_command(app)
