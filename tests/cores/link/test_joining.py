from dataclasses import replace

import numpy as np
import pytest

from pipeline.cores.link.joining import join
from pipeline.cores.link.linking import link
from pipeline.cores.link.params import GAP_STRICTNESS, GAP_SURETY, SHOT_STRICTNESS, SHOT_SURETY
from pipeline.cores.link.tracklets import Tracklet
from pipeline.cores.link.verdicts import num_arrivals
from pipeline.cores.place import Scenes, Seam
from tests.cores.link.people import KNOWN, PARAMS, crowd, person, persons


def test_who_walks_behind_a_tree_and_on_is_one_person() -> None:
    before, after = person(0, 50, speed=100), person(75, 125, x=400, speed=100)
    assert persons(before, after) == [0, 0]
    links, _ = link([before, after], PARAMS, KNOWN)
    assert (links.kind.tolist(), links.gap_s.tolist(), links.why.tolist()) == (["gap"], [1.04], ["alike"])
    assert links.body_similarity[0] == 1
    assert links.motion[0] < 0.3


@pytest.mark.parametrize(("gap_frames", "people"), [(124, 1), (126, 2)])
def test_a_gap_longer_than_max_gap_is_not_bridged(gap_frames: int, people: int) -> None:
    assert len({*persons(person(0, 50), person(49 + gap_frames, 200))}) == people


@pytest.mark.parametrize(
    ("heights_away", "gap_s", "people"), [(0.7, 0.2, 2), (0.7, 1.0, 1), (1.5, 1.0, 2), (1.5, 4.4, 1)]
)
def test_the_longer_the_gap_the_farther_the_return_may_be(heights_away: float, gap_s: float, people: int) -> None:
    after = person(49 + round(gap_s * 25), 200, x=100 + 100 * heights_away, body=20)
    assert len({*persons(person(0, 50), after)}) == people


def test_whoever_looks_different_does_not_take_over_a_gap() -> None:
    assert persons(person(0, 50), person(75, 125, body=50)) == [0, 1]


def test_motion_alone_bridges_no_gap() -> None:
    assert persons(person(0, 50, body=None), person(60, 125, body=None)) == [0, 1]
    assert link([person(0, 50, body=None), person(60, 125)], PARAMS, KNOWN)[0].why.tolist() == ["no appearance"]


def test_a_face_stands_in_for_a_body_without_embedding() -> None:
    assert persons(person(0, 50, body=None, face=0), person(60, 125, body=None, face=10)) == [0, 0]
    assert persons(person(0, 50, body=None, face=0), person(60, 125, body=None, face=80)) == [0, 1]


def test_a_child_does_not_come_back_as_an_adult() -> None:
    assert persons(person(0, 50, height=100), person(75, 125, height=160)) == [0, 1]


def test_gaps_are_bridged_jointly_not_greedily() -> None:
    # The best single pair is first-third. It would leave second without fourth, which only second can reach.
    first, second = person(0, 50, x=100, body=0), person(0, 50, x=150, body=20)
    third, fourth = person(75, 125, x=115, body=10), person(75, 125, x=60, body=0)
    labels = persons(first, second, third, fourth)
    assert labels[0] == labels[3]
    assert labels[1] == labels[2]


def test_a_chain_of_gaps_is_one_person() -> None:
    assert persons(person(0, 50), person(60, 80), person(90, 120), person(200, 230)) == [0, 0, 0, 0]


def test_who_was_seen_inside_a_bridged_gap_is_the_person_on_both_sides() -> None:
    """One sure bridge outweighs two that are less sure, and would leave the one in the middle alone."""
    assert persons(person(0, 50), person(75, 90, body=19), person(110, 160)) == [0, 0, 0]


def test_whoever_is_half_hidden_before_a_gap_has_not_shrunk() -> None:
    before, after = person(0, 25), person(40, 90)
    hidden = before.tail_boxes.copy()
    hidden[8:, 3] -= 40  # from the ninth frame on somebody stands before the legs
    assert persons(replace(before, tail_boxes=hidden), after) == [0, 0]
    always_hidden = before.tail_boxes - np.array([0, 0, 0, 40], np.float32)
    assert persons(replace(before, tail_boxes=always_hidden), after) == [0, 1]


def test_whoever_is_half_hidden_for_seconds_before_a_gap_has_not_shrunk_either() -> None:
    before, after = person(0, 75), person(90, 140)
    hidden = before.tail_boxes.copy()
    hidden[20:, 3] -= 40
    assert persons(replace(before, tail_boxes=hidden), after) == [0, 0]
    hidden[:20, 3] -= 40
    assert persons(replace(before, tail_boxes=hidden), after) == [0, 1]


def test_whoever_walks_towards_the_camera_grows() -> None:
    """The others show how much taller people are further down in the picture."""
    street = [
        tracklet
        for i in range(12)
        for tracklet in [person(0, 50, x=300 * i + 1000, top=20 * i, height=60 + 15 * i, body=90 + 20 * i)]
    ]
    walker = person(0, 50, top=20, height=75), person(100, 150, top=100, height=135)
    assert persons(*walker) == [0, 1]
    assert len(set(persons(*walker, *street)[:2])) == 1


def test_whoever_appears_as_one_of_many_needs_more_evidence() -> None:
    left, like = person(0, 50), person(75, 125, body=26.5)
    soon, later = ([person(first + 3 * n, 300, x=1000 + 200 * n, body=100) for n in range(9)] for first in (60, 180))
    assert persons(left, like)[:2] == [0, 0]
    assert persons(left, *soon, like)[:1] != persons(left, *soon, like)[-1:]
    assert persons(left, like, *later)[:2] == [0, 0]  # they appear more than 5 s later


def test_whoever_appears_until_the_pair_is_complete_counts_however_long_that_takes() -> None:
    patient = replace(PARAMS, max_gap_s=20)
    people = [person(0, 50), person(300, 350), person(100, 350, x=1000), person(310, 350, x=2000)]
    links, _ = link(people, patient, KNOWN)
    counts = {(a, b): count for a, b, count in zip(links.a, links.b, num_arrivals(links), strict=True) if a == 0}
    assert counts == {(0, 1): 2, (0, 2): 1, (0, 3): 3}


def test_nobody_has_two_successors() -> None:
    labels = persons(person(0, 50), person(60, 100, x=100), person(60, 100, x=110))
    assert len({*labels}) == 2
    assert labels[1] != labels[2]


NIGHT, FLASH, ELSEWHERE = (Scenes.of([seam]) for seam in (Seam(True, True), Seam(True), Seam()))
JUMP = Scenes.of([Seam(True, False, True)])
INFRARED_LATER = Scenes.of([Seam(True, True, True)], [False, True])


def sitters(*, look_after: float | None = 80, x_after: float = 100, late: int = 0) -> list[Tracklet]:
    """Return two people who sit, before and after a cut at frame 50.

    look_after, x_after: the appearance in degrees and the place in px of the first person after the cut.
    late: number of frames between the cut and the first person's return.
    """
    return [
        person(0, 50, x=100, body=0),
        person(0, 50, x=400, body=40),
        person(50 + late, 100, x=x_after, shot=1, body=look_after),
        person(50, 100, x=400, shot=1, body=120),
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
    for scenes in (FLASH, JUMP):
        assert in_place(scenes, *sitters()) == [0, 1, 2, 3]
        assert in_place(scenes, *sitters(look_after=-25))[:3] == [0, 1, 0]  # an angle of 25 degrees alone is not sure
    assert in_place(None, *sitters(look_after=-25))[:3] == [0, 1, 2]


def test_a_track_that_outlives_a_change_of_light_by_some_boxes_goes_on_in_the_next() -> None:
    fade = Scenes.of([Seam(True, True)], [False, True], [(48, 50)])
    assert in_place(fade, person(0, 54), person(57, 100, body=80)) == [0, 0]
    assert in_place(fade, person(0, 54), person(57, 100, body=80, x=150)) == [0, 1]


def test_two_who_are_both_in_their_places_after_a_jump_to_infrared_are_who_they_were() -> None:
    assert in_place(INFRARED_LATER, *sitters()) == [0, 1, 0, 1]
    links, _ = link(sitters(), PARAMS, KNOWN, INFRARED_LATER)
    assert set(links.kind.tolist()) == {"seat"}
    assert np.isnan(links.body_similarity).all()  # bodies in infrared are compared with none in colours


def test_one_who_keeps_still_where_somebody_stood_before_a_jump_to_infrared_may_be_anybody() -> None:
    first, _, later, _ = sitters()
    assert in_place(INFRARED_LATER, first, later) == [0, 1]
    assert link([first, later], PARAMS, KNOWN, INFRARED_LATER)[0].why.tolist() == ["unsure"]


def test_whoever_is_gone_after_a_jump_speaks_against_those_who_are_in_their_places() -> None:
    gone = person(0, 50, x=700, body=20), person(0, 50, x=1000, body=20)
    new = person(50, 100, x=1400, shot=1), person(50, 100, x=1800, shot=1)
    assert in_place(INFRARED_LATER, *sitters(), *gone, *new)[:4] == [0, 1, 4, 5]


def test_the_place_of_those_who_walk_means_nothing_after_a_jump() -> None:
    walkers = [
        person(0, 50, x=100, speed=-100),
        person(0, 50, x=900, speed=100),
        person(50, 100, x=-100, speed=-100, shot=1),
        person(50, 100, x=1100, speed=100, shot=1),
    ]
    assert in_place(INFRARED_LATER, *walkers) == [0, 1, 2, 3]
    assert len(link(walkers, PARAMS, KNOWN, INFRARED_LATER)[0]) == 0


def test_in_a_crowd_a_place_means_less() -> None:
    crowded = [person(50, 100, x=400 + x, shot=1) for x in (-60, -40, 40, 60)]
    assert in_place(INFRARED_LATER, *sitters(), *crowded)[2] != 0


def test_who_is_elsewhere_or_comes_later_after_the_light_has_changed_is_not_taken_for_a_sitter() -> None:
    assert in_place(NIGHT, *sitters(x_after=150)) == [0, 1, 2, 1]
    assert in_place(NIGHT, *sitters(late=30)) == [0, 1, 2, 1]


def test_a_face_that_is_another_one_keeps_sitters_apart() -> None:
    before, after = person(0, 50, body=0, face=0), person(50, 100, shot=1, body=0, face=60)
    assert in_place(NIGHT, before, after) == [0, 1]


def test_looks_still_join_over_a_cut_in_one_place_whoever_moved() -> None:
    before, after = person(0, 50, x=100), person(50, 100, x=900, shot=1)
    for scenes in (FLASH, JUMP, NIGHT, ELSEWHERE):
        assert in_place(scenes, before, after) == persons(before, after)


def test_the_same_body_in_another_shot_is_the_same_person() -> None:
    assert persons(person(0, 50), person(50, 100, shot=1, x=900, body=10)) == [0, 0]
    assert persons(person(0, 50), person(50, 100, shot=1, x=900, body=45)) == [0, 1]


def test_clothes_do_not_identify_people_over_longer_times() -> None:
    late = int(25 * (PARAMS.shot_max_s + 2))
    assert persons(person(0, 50), person(50 + late, 100 + late, shot=1)) == [0, 1]


def test_a_face_identifies_at_any_time() -> None:
    late = int(25 * (PARAMS.shot_max_s + 2))
    assert persons(person(0, 50, body=None, face=0), person(50 + late, 100 + late, shot=1, body=60, face=20)) == [
        0,
        0,
    ]


def test_who_returns_after_a_longer_absence_is_known_by_the_body_only_if_that_is_asked_for() -> None:
    away = [person(0, 50), person(500, 550, x=900)]
    assert persons(*away) == [0, 1]
    patient = replace(PARAMS, max_absence_s=20)
    assert persons(*away, params=patient) == [0, 0]
    assert link(away, patient, KNOWN)[0].why.tolist() == ["alike"]
    assert persons(*away, params=replace(PARAMS, max_absence_s=17)) == [0, 1]
    assert persons(person(0, 50), person(500, 550, body=45), params=patient) == [0, 1]


def test_an_absence_is_no_way_round_the_rules_of_a_gap() -> None:
    """Whoever comes back too far away within max_gap_s is not joined because absences are compared."""
    far = [person(0, 50), person(60, 125, x=600)]
    assert persons(*far, params=replace(PARAMS, max_absence_s=60)) == [0, 1]


def test_being_one_of_several_who_are_seen_together_makes_a_pair_likelier() -> None:
    pair = [person(0, 50, body=0), person(50, 100, shot=1, body=23)]
    others = [
        person(50 * shot, 50 * shot + 50, shot=shot, x=300 * n, body=60 + 40 * n + 20 * shot)
        for n in range(1, 6)
        for shot in (0, 1)
    ]
    assert persons(*pair) == [0, 1]
    assert persons(*pair, *others)[:2] == [0, 0]


def test_inside_a_shot_a_body_does_not_bridge_more_than_a_gap_but_a_face_does() -> None:
    assert persons(person(0, 50), person(500, 550)) == [0, 1]
    assert persons(person(0, 50, face=0), person(500, 550, face=20)) == [0, 0]


def test_where_the_faces_differ_the_clothes_do_not_count() -> None:
    assert persons(person(0, 50, face=0), person(50, 100, shot=1, face=80)) == [0, 1]


def test_faces_that_differ_speak_for_the_whole_group() -> None:
    # The second person of each shot was turned away, and the clothes alone would join both pairs.
    first = [person(0, 50, face=0), person(60, 90)]
    second = [person(100, 150, shot=1, face=80), person(160, 190, shot=1)]
    assert persons(*first, *second) == [0, 0, 1, 1]


def test_two_who_were_seen_together_stay_two_however_alike() -> None:
    assert len({*persons(person(0, 50), person(49, 90))}) == 2
    labels = persons(
        person(0, 50, x=100),
        person(0, 50, x=600),
        person(50, 100, shot=1, x=100),
        person(50, 100, shot=1, x=600),
    )
    assert labels[0] != labels[1]
    assert labels[2] != labels[3]


def test_being_seen_together_is_asked_of_whole_groups() -> None:
    # Shot 0 shows twins. Shot 1 shows one of them, who now counts as seen together with the other.
    twins = [person(0, 50, x=100, face=0), person(0, 50, x=600, face=40)]
    later = person(50, 100, shot=1, face=5)
    last = person(100, 150, shot=2, face=33)
    labels = persons(*twins, later, last)
    assert labels[:3] == [0, 1, 0]
    assert labels[3] == 1


def test_between_two_partners_who_are_equally_near_and_two_people_none_is_chosen() -> None:
    twins = [person(0, 50, x=100, body=-10), person(0, 50, x=600, body=10)]
    assert persons(*twins, person(50, 100, shot=1, body=0)) == [0, 1, 2]
    links, _ = link([*twins, person(50, 100, shot=1, body=0)], PARAMS, KNOWN)
    assert links.why.tolist() == ["others fit", "others fit"]


def test_between_two_partners_who_can_be_one_person_the_nearer_is_chosen_and_then_the_other() -> None:
    thrice = [person(0, 50, body=0), person(50, 100, shot=1, body=4), person(100, 150, shot=2, body=2)]
    assert persons(*thrice) == [0, 0, 0]


@pytest.mark.parametrize(("wrong_joins", "people"), [(0.3, 1), (0.001, 2)])
def test_the_rate_of_wrong_joins_decides_what_is_unsure(wrong_joins: float, people: int) -> None:
    pair = [person(0, 50), person(50, 100, shot=1, body=22)]
    assert len({*persons(*pair, params=replace(PARAMS, wrong_joins=wrong_joins))}) == people


def test_the_evidence_that_is_needed_changes_faster_than_the_odds_of_the_accepted_share() -> None:
    strict, usual, lax = (replace(PARAMS, wrong_joins=share) for share in (0.01, 0.05, 0.2))
    assert (usual.gap_surety, usual.shot_surety) == (GAP_SURETY, SHOT_SURETY)
    for name, strictness in (("gap_surety", GAP_STRICTNESS), ("shot_surety", SHOT_STRICTNESS)):
        least = [getattr(params, name) for params in (lax, usual, strict)]
        faster = np.diff(least) / np.diff([params.surety for params in (lax, usual, strict)])
        np.testing.assert_allclose(faster, strictness, atol=0.01)


def test_who_accepts_many_wrong_joins_gets_pairs_that_are_rather_two_people() -> None:
    pair = person(0, 50), person(75, 125, body=31)
    assert link(pair, PARAMS, KNOWN)[0].why.tolist() == ["unlike"]
    assert persons(*pair, params=replace(PARAMS, wrong_joins=0.3)) == [0, 0]


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
