"""Counts of people per day and hour, for the summary of a workbook."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np

from pipeline.cores.groups import NEAREST_ADIENCE, group_indices
from pipeline.exports.people import ListedPerson

GENDERS = ("F", "M", "N")
NUM_GROUPS = len(NEAREST_ADIENCE)


@dataclass(slots=True)
class DayCounts:
    """The people of a day, each counted once.

    by_gender: in the order of GENDERS.
    by_age_group: in the order of NEAREST_ADIENCE, then people without an age.
    by_hour: 24 lists of counts by gender. An hour counts the people who first appear in it.
    ages: estimated ages in years.
    """

    by_gender: list[int] = field(default_factory=lambda: [0] * len(GENDERS))
    by_age_group: list[int] = field(default_factory=lambda: [0] * (NUM_GROUPS + 1))
    by_hour: list[list[int]] = field(default_factory=lambda: [[0] * len(GENDERS) for _ in range(24)])
    ages: list[float] = field(default_factory=list)

    @property
    def num_people(self) -> int:
        return sum(self.by_gender)

    @property
    def median_age(self) -> float | None:
        """The median of the estimated ages, or None if there are none."""
        return round(median(self.ages), 1) if self.ages else None

    def add(self, person: ListedPerson, hour: int | None) -> None:
        """Count a person. hour: of the first appearance, None if it is not known."""
        gender = GENDERS.index(person.row["gender"])
        self.by_gender[gender] += 1
        age = person.row["age"]
        self.by_age_group[int(group_indices(np.array([np.nan if age is None else age]), NEAREST_ADIENCE)[0])] += 1
        if age is not None:
            self.ages.append(age)
        if hour is not None:
            self.by_hour[hour][gender] += 1


def total_of(days: Sequence[DayCounts]) -> DayCounts:
    """Return the counts of all days together."""
    return DayCounts(
        by_gender=[sum(counts) for counts in zip(*(day.by_gender for day in days), strict=True)] or [0] * len(GENDERS),
        by_age_group=[sum(counts) for counts in zip(*(day.by_age_group for day in days), strict=True)]
        or [0] * (NUM_GROUPS + 1),
        by_hour=[
            [sum(day.by_hour[hour][gender] for day in days) for gender in range(len(GENDERS))] for hour in range(24)
        ],
        ages=[age for day in days for age in day.ages],
    )
