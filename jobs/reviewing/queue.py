"""The queue of a review: pictures in the order of review, and the decisions on them."""

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.cli import console
from pipeline.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from pipeline.corpora.corrections import Correction


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

    from pipeline.corpora import corrections, review_order
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
        predicted = review_order.read_predictions(predictions, table)
        certainty = review_order.certainty(table, predicted)
        columns = [predicted[name].tolist() for name in review_order.PREDICTED[1:]]
        for fact, sure, age, low, high, female in zip(facts, certainty.tolist(), *columns, strict=True):
            if not np.isnan(sure):
                gender = f"{max(female, 1 - female):.0%} {'female' if female >= 0.5 else 'male'}"
                fact |= {"predicted": f"{age:.0f} ({low:.0f} to {high:.0f}), {gender}", "certainty": f"{sure:.1%}"}
    if copies:
        certainty = np.where(_contradicted(table, labels, facts), 0.0, certainty)

    paths, names = table["path"].tolist(), table["name"].tolist()
    young = (table["age_low"] <= review_order.YOUNG).tolist()
    items = [
        Item(names[row], Path(paths[row]), ages[row], genders[row], young[row], facts[row])
        for row in review_order.order(table, certainty).tolist()
    ]
    decided = {name_by_path.get(correction.path, correction.path): correction for _, correction in earlier}
    known = set(names)
    return Queue(items, output, {name: correction for name, correction in decided.items() if name in known})


def _contradicted(table: "pd.DataFrame", labels: list[str], facts: list[dict[str, str]]) -> "NDArray[np.bool_]":
    """Return (N,) whether copies of a picture contradict its label, and add the labels of the copies to the facts."""
    import numpy as np

    from pipeline.corpora import review_order, splits

    console.say(f"searching {len(table):,} pictures for copies")
    groups = splits.groups(table["path"].tolist())
    is_contradicted = review_order.contradicted(table, groups)
    for group in np.unique(groups[is_contradicted]):
        rows = np.flatnonzero(groups == group).tolist()
        for row in rows:
            facts[row]["copies say"] = "; ".join(labels[other] for other in rows if other != row)
    return is_contradicted
