"""How well the estimates of a published video agree with those of the earlier way."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jobs.benchmarks.earlier_way import Followed, Judgement, majority_is_female, mean_age
from pipeline.boxes import pairwise_iou
from pipeline.storage.store import Store
from pipeline.storage.tables import row_groups

MIN_IOU = 0.5


def agreement(followed: Followed, store: Store, video_id: str) -> dict[str, Any]:
    """Return figures that compare the IDs of the earlier way with the persons of a published video.

    The earlier way is also compared with itself: for each ID with two judged faces or more, the estimate of every other
    face with that of the rest. No other way can be expected to agree better with it than it does with itself.
    """
    persons = {row["person_id"]: row for row in _rows(store, f"persons/{video_id}.parquet")}
    by_frame: dict[int, tuple[list[int], list[list[float]]]] = {}
    num_boxes = num_covered = 0
    for row in _rows(store, f"detections/{video_id}.parquet"):
        ids, boxes = by_frame.setdefault(row["frame_num"] - 1, ([], []))
        ids.append(row["person_id"])
        left, top = row["bb_xmin"], row["bb_ymin"]
        boxes.append([left, top, left + row["bb_width"], top + row["bb_height"]])
    person_of: dict[int, Counter[int]] = {}
    for number, boxes_of in followed.boxes.items():
        seen = person_of[number] = Counter()
        for frame, box in boxes_of.items():
            num_boxes += 1
            ids, boxes = by_frame.get(frame, ([], []))
            if ids:
                overlaps = pairwise_iou(box[None], np.array(boxes, np.float32))[0]
                if overlaps.max() >= MIN_IOU:
                    num_covered += 1
                    seen[ids[int(overlaps.argmax())]] += 1
    ages, genders = [], []
    for number, judgements in followed.judgements.items():
        if not judgements or not person_of[number]:
            continue
        person = persons[person_of[number].most_common(1)[0][0]]
        if person["age"] is not None:
            ages.append(abs(person["age"] - mean_age(judgements)))
        if person["gender"] in ("M", "F"):
            genders.append((person["gender"] == "F") == majority_is_female(judgements))
    judged = [judgements for judgements in followed.judgements.values() if judgements]
    return {
        "IDs of the earlier way": len(followed.boxes),
        "persons": len(persons),
        "IDs with an estimate": len(judged),
        "persons with an age": sum(person["age"] is not None for person in persons.values()),
        "share of its boxes found": _round(num_covered / num_boxes if num_boxes else None),
        "ages": _compared(ages),
        "genders": _shares(genders),
        "the earlier way with itself, ages": _compared([_halves(j)[0] for j in judged if len(j) > 1]),
        "the earlier way with itself, genders": _shares([_halves(j)[1] for j in judged if len(j) > 1]),
    }


def _halves(judgements: Sequence[Judgement]) -> tuple[float, bool]:
    """Return by how many years the estimates of every other face differ, and whether the genders agree."""
    first, second = judgements[::2], judgements[1::2]
    return abs(mean_age(first) - mean_age(second)), majority_is_female(first) == majority_is_female(second)


def _compared(differences: Sequence[float]) -> dict[str, float | int | None]:
    mean, middle = (float(function(differences)) if differences else None for function in (np.mean, np.median))
    return {"compared": len(differences), "mean_difference": _round(mean), "median_difference": _round(middle)}


def _shares(agree: Sequence[bool]) -> dict[str, float | int | None]:
    return {"compared": len(agree), "share_that_agrees": _round(float(np.mean(agree)) if agree else None)}


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _rows(store: Store, name: str) -> list[Mapping[str, Any]]:
    with row_groups(store, name) as groups:
        return [row for group in groups for row in group.to_pylist()]
