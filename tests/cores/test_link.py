from collections.abc import Sequence
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import load
from pipeline.cores.fill import Knots, ShotFrames, intervals
from pipeline.cores.likeness import Likeness, Likenesses
from pipeline.cores.link import IdentityParams, Tracklet, _appearance, calibrate, join, link, score, summarise
from pipeline.cores.place import Scenes, Seam

FRAME_NS = 40_000_000  # 25 Hz
PARAMS = load().identity
KNOWN: Likenesses = {kind: Likeness.from_distances((0.03, 0.5), (0.4, 0.5)) for kind in ("body", "face")}
"""An embedder for which 20 degrees surely mean one person, 40 surely two, and 25 are not sure."""


def look(degrees: float) -> np.ndarray:
    """Return a unit vector. The cosine distance of two is 1 - cos of the angle between them: 0.06 for 20, 0.23 for
    40 degrees."""
    return np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], np.float32)


def seen(
    start: int,
    end: int,
    *,
    x: float = 100,
    speed: float = 0,
    height: float = 100,
    shot: int = 0,
    body: float | None = 0,
    face: float | None = None,
) -> Tracklet:
    """Return a person who has a box in every frame of [start, end).

    x: px. The left edge of the first box.
    speed: px/s.
    """
    frames = np.arange(start, end)
    left = x + speed * (frames - start) * FRAME_NS / 1e9
    boxes = np.stack([left, 0 * left, left + height / 2, 0 * left + height], axis=1).astype(np.float32)
    knots = Knots(np.zeros(len(frames), np.int64), frames, boxes, np.ones(len(frames), np.float32))
    times = ShotFrames(0, np.arange(end) * FRAME_NS, np.arange(1, end - 1))
    looks = [None if angle is None else look(angle) for angle in (body, face)]
    return summarise(shot, times, knots, intervals(knots, times, 10**9), looks[:1], looks[1:])[0]


def persons(*tracklets: Tracklet, params: IdentityParams = PARAMS) -> list[int]:
    return link(tracklets, params, KNOWN)[1].tolist()


# --- over gaps -------------------------------------------------------------------------------------------------------


def test_who_walks_behind_a_tree_and_on_is_one_person() -> None:
    before, after = seen(0, 50, speed=100), seen(75, 125, x=400, speed=100)
    assert persons(before, after) == [0, 0]
    links, _ = link([before, after], PARAMS, KNOWN)
    assert (links.kind.tolist(), links.gap_s.tolist(), links.why.tolist()) == (["gap"], [1.04], ["alike"])
    assert links.body_similarity[0] == 1
    assert links.motion[0] < 0.3


@pytest.mark.parametrize(("gap_frames", "people"), [(124, 1), (126, 2)])
def test_a_gap_longer_than_max_gap_is_not_bridged(gap_frames: int, people: int) -> None:
    assert len({*persons(seen(0, 50), seen(49 + gap_frames, 200))}) == people


@pytest.mark.parametrize(
    ("heights_away", "gap_s", "people"), [(0.7, 0.2, 2), (0.7, 1.0, 1), (1.5, 1.0, 2), (1.5, 4.4, 1)]
)
def test_the_longer_the_gap_the_farther_the_return_may_be(heights_away: float, gap_s: float, people: int) -> None:
    after = seen(49 + round(gap_s * 25), 200, x=100 + 100 * heights_away, body=20)
    assert len({*persons(seen(0, 50), after)}) == people


def test_whoever_looks_different_does_not_take_over_a_gap() -> None:
    assert persons(seen(0, 50), seen(75, 125, body=50)) == [0, 1]


def test_motion_alone_bridges_no_gap() -> None:
    assert persons(seen(0, 50, body=None), seen(60, 125, body=None)) == [0, 1]
    assert link([seen(0, 50, body=None), seen(60, 125)], PARAMS, KNOWN)[0].why.tolist() == ["no appearance"]


def test_a_face_stands_in_for_a_body_without_embedding() -> None:
    assert persons(seen(0, 50, body=None, face=0), seen(60, 125, body=None, face=10)) == [0, 0]
    assert persons(seen(0, 50, body=None, face=0), seen(60, 125, body=None, face=80)) == [0, 1]


def test_a_child_does_not_come_back_as_an_adult() -> None:
    assert persons(seen(0, 50, height=100), seen(75, 125, height=160)) == [0, 1]


def test_gaps_are_bridged_jointly_not_greedily() -> None:
    # The best single pair is first-third. It would leave second without fourth, which only second can reach.
    first, second = seen(0, 50, x=100, body=0), seen(0, 50, x=150, body=20)
    third, fourth = seen(75, 125, x=115, body=10), seen(75, 125, x=60, body=0)
    labels = persons(first, second, third, fourth)
    assert labels[0] == labels[3]
    assert labels[1] == labels[2]


def test_a_chain_of_gaps_is_one_person() -> None:
    assert persons(seen(0, 50), seen(60, 80), seen(90, 120), seen(200, 230)) == [0, 0, 0, 0]


def test_nobody_has_two_successors() -> None:
    labels = persons(seen(0, 50), seen(60, 100, x=100), seen(60, 100, x=110))
    assert len({*labels}) == 2
    assert labels[1] != labels[2]


# --- over cuts in one place ------------------------------------------------------------------------------------------

NIGHT, JUMP, ELSEWHERE = (Scenes.of([seam]) for seam in (Seam(True, True), Seam(True), Seam()))


def sitters(*, look_after: float | None = 80, x_after: float = 100, late: int = 0) -> list[Tracklet]:
    """Return two people who sit, before and after a cut at frame 50.

    look_after, x_after: the appearance in degrees and the place in px of the first person after the cut.
    late: number of frames between the cut and the first person's return.
    """
    return [
        seen(0, 50, x=100, body=0),
        seen(0, 50, x=400, body=40),
        seen(50 + late, 100, x=x_after, shot=1, body=look_after),
        seen(50, 100, x=400, shot=1, body=120),
    ]


def in_place(scenes: Scenes | None, *tracklets: Tracklet) -> list[int]:
    return link(tracklets, PARAMS, KNOWN, scenes)[1].tolist()


def test_who_sits_still_while_a_camera_goes_over_to_infrared_stays_who_he_is() -> None:
    assert in_place(NIGHT, *sitters()) == [0, 1, 0, 1]
    assert in_place(NIGHT, *sitters(look_after=None)) == [0, 1, 0, 1]
    links, _ = link(sitters(), PARAMS, KNOWN, NIGHT)
    assert links.why[links.joined].tolist() == ["alike", "alike"]
    assert set(links.kind.tolist()) == {"stay"}


def test_at_a_cut_to_another_place_where_somebody_sat_says_nothing() -> None:
    for scenes in (None, ELSEWHERE):
        assert in_place(scenes, *sitters()) == [0, 1, 2, 3]


def test_after_a_jump_in_time_whoever_looks_otherwise_is_somebody_else() -> None:
    assert in_place(JUMP, *sitters()) == [0, 1, 2, 3]
    assert in_place(JUMP, *sitters(look_after=-25))[:3] == [0, 1, 0]  # an angle of 25 degrees alone is not sure
    assert in_place(None, *sitters(look_after=-25))[:3] == [0, 1, 2]


def test_who_is_elsewhere_or_comes_later_after_the_light_has_changed_is_not_taken_for_a_sitter() -> None:
    assert in_place(NIGHT, *sitters(x_after=150)) == [0, 1, 2, 1]
    assert in_place(NIGHT, *sitters(late=30)) == [0, 1, 2, 1]


def test_a_face_that_is_another_one_keeps_sitters_apart() -> None:
    before, after = seen(0, 50, body=0, face=0), seen(50, 100, shot=1, body=0, face=60)
    assert in_place(NIGHT, before, after) == [0, 1]


def test_looks_still_join_over_a_cut_in_one_place_whoever_moved() -> None:
    before, after = seen(0, 50, x=100), seen(50, 100, x=900, shot=1)
    for scenes in (JUMP, NIGHT, ELSEWHERE):
        assert in_place(scenes, before, after) == persons(before, after)


# --- over shots ------------------------------------------------------------------------------------------------------


def test_the_same_body_in_another_shot_is_the_same_person() -> None:
    assert persons(seen(0, 50), seen(50, 100, shot=1, x=900, body=10)) == [0, 0]
    assert persons(seen(0, 50), seen(50, 100, shot=1, x=900, body=45)) == [0, 1]


def test_clothes_do_not_identify_people_over_longer_times() -> None:
    late = int(25 * (PARAMS.shot_max_s + 2))
    assert persons(seen(0, 50), seen(50 + late, 100 + late, shot=1)) == [0, 1]


def test_a_face_identifies_at_any_time() -> None:
    late = int(25 * (PARAMS.shot_max_s + 2))
    assert persons(seen(0, 50, body=None, face=0), seen(50 + late, 100 + late, shot=1, body=60, face=20)) == [0, 0]


def test_inside_a_shot_a_body_does_not_bridge_more_than_a_gap_but_a_face_does() -> None:
    assert persons(seen(0, 50), seen(500, 550)) == [0, 1]
    assert persons(seen(0, 50, face=0), seen(500, 550, face=20)) == [0, 0]


def test_where_the_faces_differ_the_clothes_do_not_count() -> None:
    assert persons(seen(0, 50, face=0), seen(50, 100, shot=1, face=80)) == [0, 1]


def test_faces_that_differ_speak_for_the_whole_group() -> None:
    # The second person of each shot was turned away, and the clothes alone would join both pairs.
    first = [seen(0, 50, face=0), seen(60, 90)]
    second = [seen(100, 150, shot=1, face=80), seen(160, 190, shot=1)]
    assert persons(*first, *second) == [0, 0, 1, 1]


def test_two_who_were_seen_together_stay_two_however_alike() -> None:
    assert len({*persons(seen(0, 50), seen(49, 90))}) == 2
    labels = persons(seen(0, 50, x=100), seen(0, 50, x=600), seen(50, 100, shot=1, x=100), seen(50, 100, shot=1, x=600))
    assert labels[0] != labels[1]
    assert labels[2] != labels[3]


def test_being_seen_together_is_asked_of_whole_groups() -> None:
    # Shot 0 shows twins. Shot 1 shows one of them, who now counts as seen together with the other.
    twins = [seen(0, 50, x=100, face=0), seen(0, 50, x=600, face=40)]
    later = seen(50, 100, shot=1, face=5)
    last = seen(100, 150, shot=2, face=33)
    labels = persons(*twins, later, last)
    assert labels[:3] == [0, 1, 0]
    assert labels[3] == 1


def test_between_two_partners_who_are_equally_near_and_two_people_none_is_chosen() -> None:
    twins = [seen(0, 50, x=100, body=-10), seen(0, 50, x=600, body=10)]
    assert persons(*twins, seen(50, 100, shot=1, body=0)) == [0, 1, 2]
    links, _ = link([*twins, seen(50, 100, shot=1, body=0)], PARAMS, KNOWN)
    assert links.why.tolist() == ["unsure", "unsure"]


def test_between_two_partners_who_can_be_one_person_the_nearer_is_chosen_and_then_the_other() -> None:
    thrice = [seen(0, 50, body=0), seen(50, 100, shot=1, body=4), seen(100, 150, shot=2, body=2)]
    assert persons(*thrice) == [0, 0, 0]


# --- what a similarity is worth --------------------------------------------------------------------------------------


def test_who_is_seen_together_says_how_far_apart_two_people_are() -> None:
    alike = [seen(0, 50, x=x, body=step * 3, shot=shot) for shot in range(4) for step, x in enumerate((100, 300, 500))]
    found = calibrate(alike, KNOWN)["body"]
    assert found.other.count == len(alike)
    assert found.other.mean < KNOWN["body"].other.mean - 0.5
    assert KNOWN["body"].ratio(np.array([0.95]))[0] > found.ratio(np.array([0.95]))[0]
    assert calibrate(alike, KNOWN)["face"].other.mean == pytest.approx(KNOWN["face"].other.mean, abs=0.001)


def test_the_ends_of_one_tracklet_say_how_alike_a_person_stays() -> None:
    changing = [replace(seen(100 * i, 100 * i + 50), body_steadiness=0.8) for i in range(30)]
    found = calibrate(changing, KNOWN)["body"]
    assert found.same.count == 30
    assert found.same.mean == pytest.approx(np.log(0.2), abs=0.6)
    assert found.ratio(np.array([0.85]))[0] > KNOWN["body"].ratio(np.array([0.85]))[0]


def test_a_hole_in_a_tracklet_is_not_seen_together() -> None:
    whole, within = seen(0, 100), seen(40, 60, x=600)
    broken = replace(whole, intervals=np.array([[0, 30], [70, 100]]))
    assert calibrate([whole, within], KNOWN)["body"].other.count == 2
    assert calibrate([broken, within], KNOWN)["body"].other.count == 0


def test_the_more_strangers_the_surer_it_must_be() -> None:
    strangers = [seen(50 * i, 50 * i + 40, shot=i, body=(80 * i) % 360) for i in range(2, 60)]
    pair = [seen(0, 40, body=0), seen(50, 90, shot=1, body=19)]
    assert calibrate(pair, KNOWN)["body"].prior_odds > calibrate([*pair, *strangers], KNOWN)["body"].prior_odds


@pytest.mark.parametrize(("wrong_joins", "people"), [(0.3, 1), (0.001, 2)])
def test_the_rate_of_wrong_joins_decides_what_is_unsure(wrong_joins: float, people: int) -> None:
    pair = [seen(0, 50), seen(50, 100, shot=1, body=22)]
    assert len({*persons(*pair, params=replace(PARAMS, wrong_joins=wrong_joins))}) == people


# --- what is written down --------------------------------------------------------------------------------------------


def test_every_pair_that_was_scored_is_there_with_the_reason() -> None:
    tracklets = [
        seen(0, 50),
        seen(75, 125, x=900),
        seen(125, 150, shot=1, body=10),
        seen(125, 150, shot=1, x=600, body=70),
    ]
    links, labels = link(tracklets, PARAMS, KNOWN)
    reasons = {(a, b): why for a, b, why in zip(links.a.tolist(), links.b.tolist(), links.why.tolist(), strict=True)}
    assert reasons == {
        (0, 1): "through others",  # too far apart for a gap, but both are joined with 2
        (0, 2): "alike",
        (0, 3): "seen together",  # 2 shares a frame with 3, and 2 is the same person as 0
        (1, 2): "alike",
        (1, 3): "seen together",
    }
    for a, b, joined in zip(links.a, links.b, links.joined, strict=True):
        assert joined == (labels[a] == labels[b])


@pytest.mark.parametrize(
    "change",
    [
        {"wrong_joins": 1e-12},
        {"gap_motion": 0.05, "gap_motion_per_s": 0.05},
        {"max_gap_s": 1.0},
        {"shot_max_s": 1.0},
    ],
)
def test_a_threshold_can_be_moved_on_the_written_links_alone(change: dict[str, float]) -> None:
    tracklets = crowd(7, 30)
    params = replace(PARAMS, candidates=30)
    moved = replace(params, **change)
    written, _ = link(tracklets, params, KNOWN)
    order = np.argsort([tracklet.intervals[0, 0] for tracklet in tracklets], kind="stable")
    assert order.tolist() == list(range(len(tracklets)))
    shots = np.array([tracklet.shot for tracklet in tracklets])
    _, relinked = join(written, shots, [tracklet.intervals for tracklet in tracklets], moved, KNOWN)
    assert relinked.tolist() == persons(*tracklets, params=moved)
    assert relinked.tolist() != persons(*tracklets, params=params)


def test_candidates_are_bounded() -> None:
    tracklets = crowd(3, 200)
    links = score(tracklets, replace(PARAMS, candidates=4))
    assert len(links) <= 3 * 4 * len(tracklets)
    pairs = list(zip(links.a.tolist(), links.b.tolist(), strict=True))
    assert len(pairs) == len({*pairs})
    assert all(a < b for a, b in pairs)


def test_of_many_who_follow_the_soonest_are_measured_and_later_ones_that_are_better() -> None:
    first = seen(0, 50, x=100)
    followers = [seen(60, 70, x=190), seen(70, 80, x=400), seen(80, 90, x=120), seen(90, 100, x=160)]
    links = score([first, *followers], replace(PARAMS, candidates=1))
    assert links.b[links.a == 0].tolist() == [1, 3]
    links = score([first, *followers], replace(PARAMS, candidates=2))
    assert links.b[links.a == 0].tolist() == [1, 2, 3, 4]


def test_nobody_and_one_person() -> None:
    links, labels = link([], PARAMS)
    assert (len(links), labels.tolist()) == (0, [])
    assert persons(seen(0, 5)) == [0]


# --- properties ------------------------------------------------------------------------------------------------------


def crowd(seed: int, count: int) -> list[Tracklet]:
    """Return tracklets with six appearances in three shots, in order of first appearance.

    No two of them begin in the same frame, as from the tracker.
    """
    random = np.random.default_rng(seed)
    starts = np.sort(random.choice(count * 30, count, replace=False))
    found = [
        seen(
            int(start),
            int(start) + int(random.integers(3, 40)),
            x=float(random.integers(0, 4)) * 60,
            shot=int(start) * 3 // (count * 30),
            body=float(random.integers(0, 6)) * 50 + float(random.normal()) * 6 if random.random() < 0.9 else None,
            face=float(random.integers(0, 6)) * 50 + float(random.normal()) * 8 if random.random() < 0.3 else None,
        )
        for start in starts
    ]
    # Filled rows may begin in the same frame, at the start of a shot.
    return sorted(found, key=_appearance)


@st.composite
def scenes(draw: st.DrawFn) -> list[Tracklet]:
    angles = st.one_of(st.none(), st.integers(0, 12).map(lambda step: 15.0 * step))
    return [
        seen(
            start,
            start + draw(st.integers(1, 40)),
            x=draw(st.integers(0, 3)) * 60.0,
            speed=draw(st.sampled_from([0.0, 80.0])),
            shot=start // 100,
            body=draw(angles),
            face=draw(angles),
        )
        for start in draw(st.lists(st.integers(0, 299), max_size=14))
    ]


def partition(labels: Sequence[int], names: Sequence[int]) -> set[frozenset[int]]:
    return {frozenset(name for name, label in zip(names, labels, strict=True) if label == one) for one in labels}


@given(scenes(), st.randoms(use_true_random=False))
def test_order_and_names_do_not_change_who_is_who(tracklets: list[Tracklet], random: Random) -> None:
    order = list(range(len(tracklets)))
    random.shuffle(order)
    shuffled = [tracklets[index] for index in order]
    here = partition(link(tracklets, PARAMS)[1].tolist(), range(len(tracklets)))
    there = partition(link(shuffled, PARAMS)[1].tolist(), order)
    assert calibrate(shuffled, KNOWN) == calibrate(tracklets, KNOWN)
    described = [{_described(tracklets, group) for group in groups} for groups in (here, there)]
    assert described[0] == described[1]


def _described(tracklets: list[Tracklet], group: frozenset[int]) -> tuple:
    """Return the content of a group. Tracklets that are equal in everything are interchangeable."""
    return tuple(sorted(repr(tracklets[index]) for index in group))


@given(scenes())
def test_no_person_is_twice_in_one_frame(tracklets: list[Tracklet]) -> None:
    _, labels = link(tracklets, PARAMS)
    frames = [
        (label, frame)
        for label, tracklet in zip(labels.tolist(), tracklets, strict=True)
        for start, end in tracklet.intervals.tolist()
        for frame in range(start, end)
    ]
    assert len(frames) == len({*frames})


@given(scenes())
def test_linking_twice_changes_nothing(tracklets: list[Tracklet]) -> None:
    first, second = link(tracklets, PARAMS), link(tracklets, PARAMS)
    assert first[1].tolist() == second[1].tolist()
    assert first[0].score.tobytes() == second[0].score.tobytes()
    assert first[0].why.tolist() == second[0].why.tolist()
