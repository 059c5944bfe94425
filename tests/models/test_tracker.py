import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.cores.pauses import segments
from pipeline.errors import UserError
from pipeline.models.tracker import REMEMBERED, Tracker
from pipeline.models.tracker_options import (
    TRACKERS,
    compares_appearances,
    hole_updates,
    memory_updates,
    resolve,
    silence_s,
)

STEP_S = 0.125
NAMES = sorted(TRACKERS)
APPEARANCES = np.linalg.qr(np.random.default_rng(0).normal(size=(16, 4)))[0].T.astype(np.float32)
"""(4, 16) float32. Four people who look as different as can be."""

Rows = list[tuple[int, dict[int, int]]]
"""Frame number and track id by person."""


def tracker(name: str, step_s: float = STEP_S, **options: Any) -> Tracker:
    return Tracker(name, min_score=0.4, memory_s=2, step_s=step_s, options=options)


def place(person: int, time_s: float) -> list[float]:
    """Return the box of a person. Two people walk towards each other and pass, two stand apart."""
    left = [40 * time_s, 400 - 40 * time_s, 600, 900][person]
    top = [100, 140, 300, 300][person]
    return [left, top, left + 60, top + 160]


def follow(track: Tracker, frames: Sequence[tuple[float, Sequence[int]]]) -> Rows:
    """Show the given people at each time, and return the id that each got."""
    rows: Rows = []
    for number, (time_s, people) in enumerate(frames):
        boxes = np.array([place(person, time_s) for person in people], np.float32).reshape(-1, 4)
        ids, indices = track.update(time_s, boxes, np.full(len(people), 0.9, np.float32), APPEARANCES[list(people)])
        rows.append((number, {people[index]: id_ for index, id_ in zip(indices.tolist(), ids.tolist(), strict=True)}))
    return rows


def steady(count: int, *people: int, start: int = 0, step_s: float = STEP_S) -> list[tuple[float, Sequence[int]]]:
    return [(number * step_s, people) for number in range(start, start + count)]


def ids_of(rows: Rows, person: int) -> list[int]:
    seen = [ids[person] for _, ids in rows if person in ids]
    return list(dict.fromkeys(seen))


@pytest.mark.parametrize("name", NAMES)
def test_everyone_keeps_the_id_while_two_pass_each_other(name: str) -> None:
    rows = follow(tracker(name), steady(60, 0, 1, 2, 3))
    ids = [ids_of(rows, person) for person in range(4)]
    assert [len(each) for each in ids] == [1, 1, 1, 1]
    assert len({each[0] for each in ids}) == 4
    assert all(len(found) == 4 for number, found in rows if number > 5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("step_s", [0.125, 0.5])
def test_memory_is_in_seconds_at_every_rate(name: str, step_s: float) -> None:
    """A person who stands still is away for 1.5 s, then for 4 s. Another person is there all the time."""
    second = round(1 / step_s)
    away = [
        *steady(8 * second, 2, 3, step_s=step_s),
        *steady(round(1.5 * second), 3, start=8 * second, step_s=step_s),
        *steady(8 * second, 2, 3, start=round(9.5 * second), step_s=step_s),
        *steady(4 * second, 3, start=round(17.5 * second), step_s=step_s),
        *steady(8 * second, 2, 3, start=round(21.5 * second), step_s=step_s),
    ]
    rows = follow(tracker(name, step_s), away)
    before, between, after = rows[: 8 * second], rows[8 * second : 18 * second], rows[18 * second :]
    assert ids_of(before, 2) == ids_of(between, 2)
    assert len(ids_of(after, 2)) == 1
    assert ids_of(after, 2) != ids_of(before, 2)
    assert len(ids_of(rows, 3)) == 1


@pytest.mark.parametrize("name", NAMES)
def test_a_hole_in_the_video_longer_than_the_memory_is_forgotten_like_absence(name: str) -> None:
    late = [(number * STEP_S + 60, (2, 3)) for number in range(20)]
    rows = follow(tracker(name), [*steady(20, 2, 3), *late])
    first, second = rows[:20], rows[20:]
    assert ids_of(second, 2)
    assert not {*ids_of(first, 2), *ids_of(first, 3)} & {*ids_of(second, 2), *ids_of(second, 3)}


@pytest.mark.parametrize("name", NAMES)
def test_a_slower_video_than_the_grid_does_not_tear_tracks(name: str) -> None:
    rows = follow(tracker(name), [(number * 0.2, (2, 3)) for number in range(40)])
    assert len(ids_of(rows, 2)) == len(ids_of(rows, 3)) == 1
    assert all(len(found) == 2 for number, found in rows if number > 5)


@pytest.mark.parametrize("name", NAMES)
def test_a_tracker_knows_nothing_of_those_before_it(name: str) -> None:
    frames = [*steady(20, 0, 1, 2), *steady(5, start=20), *steady(20, 0, 2, start=25)]
    first = follow(tracker(name), frames)
    assert follow(tracker(name), frames) == first
    assert min(ids_of(first, 0) + ids_of(first, 1) + ids_of(first, 2)) <= 1


@pytest.mark.parametrize("name", NAMES)
def test_frames_without_anybody_are_legal_first_and_last(name: str) -> None:
    rows = follow(tracker(name), [*steady(3), *steady(20, 2, start=3), *steady(40, start=23)])
    assert len(ids_of(rows, 2)) == 1
    assert all(not found for number, found in rows if not 3 <= number < 23)


@pytest.mark.parametrize("name", NAMES)
def test_every_index_is_a_detection_and_given_once(name: str) -> None:
    rng = np.random.default_rng(1)
    track = tracker(name)
    for number in range(60):
        count = int(rng.integers(0, 12))
        corners = rng.uniform(0, 300, (count, 2))
        boxes = np.hstack([corners, corners + rng.uniform(5, 300, (count, 2))]).astype(np.float32)
        scores = rng.uniform(0.1, 1, count).astype(np.float32)
        ids, indices = track.update(number * STEP_S, boxes, scores, APPEARANCES[rng.integers(0, 4, count)])
        assert len(ids) == len(set(ids.tolist())) == len(set(indices.tolist()))
        assert ((indices >= 0) & (indices < count)).all()


def restless(seed: int, longest_pause: int) -> list[tuple[float, NDArray[Any], NDArray[Any], NDArray[Any]]]:
    """Return arguments of `update`: people who come, flicker and go, pauses of all lengths, gaps in time."""
    rng = np.random.default_rng(seed)
    frames, people = [], []
    time_s, quiet = 0.0, int(rng.integers(0, 4))
    for _ in range(90):
        time_s += STEP_S + (rng.choice([0.3, 1.0, 3.0]) if rng.random() < 0.02 else 0)
        quiet = max(quiet - 1, 0) or (int(rng.integers(1, longest_pause)) if rng.random() < 0.1 else 0)
        if rng.random() < 0.3:
            people.append([int(rng.integers(4)), rng.uniform(0, 500), rng.normal() * 8])
        people = [person for person in people if rng.random() < 0.95][-4:]
        for person in people:
            person[1] += person[2]
        seen = [person for person in people if not quiet and rng.random() < 0.85]
        boxes = np.array([[x, 100, x + 70, 270] for _, x, _ in seen]).reshape(-1, 4) + rng.normal(size=(len(seen), 4))
        vectors = APPEARANCES[[person[0] for person in seen]] + rng.normal(size=(len(seen), 16)) * 0.15
        scores = rng.choice([0.15, 0.35, 0.5, 0.6, 0.9], len(seen))
        frames.append((time_s, boxes.astype(np.float32), scores.astype(np.float32), vectors.astype(np.float32)))
    return frames


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {}) for name in NAMES),
        ("occluboost", {"gta_enabled": True, "gta_max_gap": 5}),
        ("occluboost", {"min_hits": 3, "max_age": 1}),
        ("bytetrack", {"frame_rate": 60}),
        ("ocsort", {"min_hits": 1}),
    ],
)
def test_what_was_seen_before_a_pause_longer_than_the_memory_changes_no_row(name: str, options: dict[str, Any]) -> None:
    memory_s, num_pauses, num_rows = 0.25, 0, 0
    updates = memory_updates(memory_s, STEP_S)
    memory = TRACKERS[name].memory(resolve(name, 0.4, updates, options))
    for seed in range(4):
        frames = restless(seed, 2 * memory)
        times_s, seen = np.array([frame[0] for frame in frames]), np.array([len(frame[1]) > 0 for frame in frames])
        limits = {"silence_s": silence_s(memory_s, STEP_S), "hole_updates": hole_updates(updates)}
        pieces = segments(times_s, seen, memory=memory, **limits)

        def rows(start: int, end: int, updates_before: int) -> list[tuple[int, int, int]]:
            settings: dict[str, Any] = {"min_score": 0.4, "memory_s": memory_s, "step_s": STEP_S, "options": options}
            track = Tracker(name, updates_before=updates_before, **settings)
            assert track.memory == memory
            found = [(number, *track.update(*frames[number])) for number in range(start, end)]  # noqa: B023
            return [(n, i, d) for n, ids, at in found for i, d in zip(ids.tolist(), at.tolist(), strict=True)]

        unbroken, apart, first = rows(0, len(frames), 0), [], 0
        for piece in pieces:
            own = rows(piece.start, piece.end, piece.updates_before)
            apart += [(n, first + i, d) for n, i, d in own]
            first += max((i for _, i, _ in own), default=-1) + 1
        assert in_order(apart) == in_order(unbroken)
        num_pauses += len(pieces) - 1
        num_rows += len(unbroken)
    assert num_pauses >= 5
    assert num_rows >= 30


def in_order(rows: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Return rows with their ids numbered without gaps, because only the order of ids counts."""
    rank = {id_: number for number, id_ in enumerate(sorted({id_ for _, id_, _ in rows}))}
    return [(frame, rank[id_], at) for frame, id_, at in rows]


def test_a_track_that_never_ends_is_no_growing_memory() -> None:
    track, ids = tracker("deepocsort"), np.zeros(0, np.int64)
    for number in range(REMEMBERED + 50):
        boxes = np.array([place(2, number)], np.float32)
        ids, _ = track.update(number * STEP_S, boxes, np.array([0.9], np.float32), APPEARANCES[2:3])
    assert ids.tolist() == [0]
    assert len(track._tracker.active_tracks[0].observations) <= REMEMBERED


@pytest.mark.parametrize("name", ["boosttrack", "occluboost"])
def test_people_who_lie_down_are_followed(name: str) -> None:
    track = tracker(name)
    lying = np.array([[100, 500, 500, 620]], np.float32)
    found = [track.update(n * STEP_S, lying, np.array([0.9], np.float32), APPEARANCES[:1])[0] for n in range(20)]
    assert found[-1].tolist() == [0]


def test_trackers_that_compare_appearances_say_so_when_there_are_none() -> None:
    track = tracker("occluboost")
    assert track.uses_embeddings
    track.update(0, np.zeros((0, 4), np.float32), np.zeros(0, np.float32), None)
    with pytest.raises(UserError, match=r"occluboost compares appearances; set observe.body.embed to all, or use byte"):
        track.update(1, np.array([[0, 0, 9, 9]], np.float32), np.array([0.9], np.float32), None)


def test_without_appearances_by_option_they_are_not_asked_for() -> None:
    track = tracker("occluboost", use_embeddings=False)
    assert not track.uses_embeddings
    ids, _ = track.update(0, np.array([[0, 0, 90, 90]], np.float32), np.array([0.9], np.float32), None)
    assert len(ids) == 1


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("strongsort", {}, "must be one of bytetrack, .*, got 'strongsort'"),
        ("bytetrack", {"trak_thresh": 0.3}, "bytetrack refuses them: .*trak_thresh"),
        ("occluboost", {"use_cmc": True}, "would need the pictures"),
        ("deepocsort", {"cmc_off": False}, "would need the pictures"),
        ("occluboost", {"reid_weights": "x.pt"}, "occluboost refuses them"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(name: str, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=reason) as refusal:
        Tracker(name, min_score=0.4, memory_s=2, step_s=STEP_S, options=options)
    assert "\n" not in str(refusal.value)


def test_nothing_is_printed_or_logged(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        for name in NAMES:
            follow(tracker(name), steady(5, 0, 1))
    captured = capfd.readouterr()
    assert (captured.out, captured.err, caplog.records) == ("", "", [])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("use_embeddings", [None, False, True])
def test_which_trackers_compare_appearances_is_known_without_making_one(name: str, use_embeddings: bool | None) -> None:
    options = {} if use_embeddings is None or not TRACKERS[name].compares else {"use_embeddings": use_embeddings}
    assert compares_appearances(name, options) == tracker(name, **options).uses_embeddings


def test_occluboost_names_the_boxes_of_a_track_before_it_has_proved_itself() -> None:
    track = tracker("occluboost")
    shown: list[list[int]] = []
    waiting: list[list[int]] = []
    for number in range(8):
        unsure = number > 2
        people = [2, 3] if unsure else [2]
        boxes = np.array([place(person, number * STEP_S) for person in people], np.float32)
        scores = np.array([0.9, 0.6], np.float32)[: len(people)]
        ids, _ = track.update(number * STEP_S, boxes, scores, APPEARANCES[people])
        shown.append(ids.tolist())
        ids, indices = track.tentative
        assert indices.tolist() == [1] * len(ids)
        waiting.append(ids.tolist())
    assert waiting[:3] == [[], [], []]
    first = waiting[3]
    assert len(first) == 1
    assert first[0] not in shown[3]
    assert first[0] in shown[-1]
    assert not waiting[-1]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "occluboost"])
def test_other_trackers_name_none(name: str) -> None:
    track = tracker(name)
    follow(track, [(0.0, [2])])
    assert [len(column) for column in track.tentative] == [0, 0]
