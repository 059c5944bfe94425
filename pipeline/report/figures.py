"""The figures of a report, computed from the tables of an output. Nothing here reads, writes, or knows of the page."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipeline.report.cards import Card
from pipeline.report.fairness import Fairness, fairness
from pipeline.report.inputs import ReportOptions, ReportTables, Row, is_picture, name_of
from pipeline.report.people import People, people_of, recording_starts
from pipeline.report.summaries import Day, Overview, days, overview
from pipeline.report.values import flags, reals
from pipeline.report.videos import VideoFigures, video_figures
from pipeline.report.work import Model, Problem, Stage, is_deferred, models_of, problems, stages_of


@dataclass(frozen=True, slots=True)
class Totals:
    """The sums over all finished videos.

    num_individuals: number of persons, where a person in several files of a sequence counts once.
    num_ages, num_genders: number of persons with an estimate.
    num_faces, num_judged: number of faces that were found, and of those that were judged.
    work_s, gpu_s, cost: of all runs. The cost is None if no price is known.
    """

    num_videos: int
    num_pictures: int
    duration_s: float
    num_shots: int
    num_persons: int
    num_individuals: int
    num_ages: int
    num_genders: int
    num_faces: int
    num_judged: int
    work_s: float
    gpu_s: float
    cost: float | None


@dataclass(frozen=True, slots=True)
class Figures:
    """Everything that a report shows.

    num_unfinished: number of sources that wait for a run.
    num_without_time: number of finished videos whose time of recording is unknown.
    num_pictures: number of persons with a picture.
    configurations: number of finished videos by config_id.
    """

    options: ReportOptions
    totals: Totals
    overview: Overview
    days: Sequence[Day]
    fairness: Fairness
    videos: Sequence[VideoFigures]
    quarantined: Sequence[Problem]
    deferred: Sequence[Problem]
    left_out: Sequence[Problem]
    num_unfinished: int
    num_without_time: int
    num_pictures: int
    stages: Sequence[Stage]
    models: Sequence[Model]
    configurations: Mapping[str, int]
    run: Row


def figures_of(given: ReportTables, options: ReportOptions, card: Card | None, max_persons: int) -> Figures:
    """Return the figures of a report.

    card: the measured errors of the estimator, if they are known.
    max_persons: the most persons whose details the page holds. Videos beyond it have none.
    """
    done = [row for video_id, row in given.videos.items() if row["status"] == "done" and video_id not in given.left_out]
    videos = sorted(done, key=lambda row: name_of(given, row["video_id"]).casefold())
    index_of = {row["video_id"]: place for place, row in enumerate(videos)}
    people = people_of(given.tables["persons"], given.sequences, index_of)
    starts = recording_starts(videos, given.sources)
    everyone = overview(people, options.age_groups, options.min_group)
    faces = given.tables["faces"]
    return Figures(
        options=options,
        totals=_totals(videos, people, faces, given.runs),
        overview=everyone,
        days=days(people, starts, options.zone, options.age_groups, options.min_group, everyone.total),
        fairness=fairness(people, faces, index_of, card, options.min_group),
        videos=video_figures(given, options, videos, people, starts, index_of, max_persons),
        quarantined=problems(given, "quarantined"),
        deferred=problems(given, "deferred"),
        left_out=[Problem(name_of(given, video_id), "report", why) for video_id, why in given.left_out.items()],
        num_unfinished=sum(row["status"] == "pending" and not is_deferred(row) for row in given.sources),
        num_without_time=sum(start is None for start in starts),
        num_pictures=len(given.pictures),
        stages=stages_of(given),
        models=models_of(given.run),
        configurations=Counter(row["config_id"] for row in videos),
        run=given.run,
    )


def _totals(videos: Sequence[Row], people: People, faces: pa.Table, runs: pa.Table) -> Totals:
    costs = reals(runs, "cost")
    return Totals(
        num_videos=len(videos),
        num_pictures=sum(is_picture(row) for row in videos),
        duration_s=sum(row["duration_s"] or 0.0 for row in videos if not is_picture(row)),
        num_shots=sum(row["num_shots"] or 0 for row in videos),
        num_persons=len(people),
        num_individuals=len(np.unique(people.individual)),
        num_ages=int((~np.isnan(people.age)).sum()),
        num_genders=int((people.gender != 2).sum()),
        num_faces=len(faces),
        num_judged=int(flags(faces, "judged").sum()),
        work_s=float(np.nansum(reals(runs, "seconds"))),
        gpu_s=float(np.nansum(reals(runs, "gpu_seconds"))),
        cost=None if np.isnan(costs).all() else float(np.nansum(costs)),
    )
