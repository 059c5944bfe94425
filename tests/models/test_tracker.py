import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.models.tracker import OPTIONS, Tracker

STEP_S = 0.125
NAMES = sorted(OPTIONS)
APPEARANCES = np.linalg.qr(np.random.default_rng(0).normal(size=(16, 4)))[0].T.astype(np.float32)
"""(4, 16): four people who look as different as can be."""

Rows = list[tuple[int, dict[int, int]]]
"""Frame number, track id by person."""


def tracker(name: str, step_s: float = STEP_S, **options: Any) -> Tracker:
    return Tracker(name, min_score=0.4, memory_s=2, step_s=step_s, options=options)


def place(person: int, time_s: float) -> list[float]:
    """Two walk towards each other and pass, two stand apart."""
    left = [40 * time_s, 400 - 40 * time_s, 600, 900][person]
    top = [100, 140, 300, 300][person]
    return [left, top, left + 60, top + 160]


def follow(track: Tracker, frames: Sequence[tuple[float, Sequence[int]]]) -> Rows:
    """Show, at each time, these people; who got which id."""
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
    """Someone standing still is away for 1.5 s, then for 4 s; somebody else is there all the time."""
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
    with pytest.raises(UserError, match=r"occluboost compares appearances: set observe.body.embed to all, or use byte"):
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
