"""The owner of a face, its quality, and whether it may be judged."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray

from pipeline.config import load
from pipeline.cores.gate import (
    JUDGED,
    NO_ONE,
    WHY_NOT,
    GateParams,
    Pose,
    assign,
    distinct,
    head_scores,
    hidden_shares,
    inside_shares,
    judge,
    read_pose,
    weigh,
)

PARAMS = load().gate
FRONTAL = np.array([[30, 40], [70, 40], [50, 62], [34, 80], [66, 80]], np.float32)  # in a face box of 100 x 120 px
FACE = np.array([[0, 0, 100, 120]], np.float32)


def boxes(*corners: Sequence[float]) -> NDArray[np.float32]:
    return np.array(corners, np.float32).reshape(-1, 4)


def body(x: float, top: float = 100, *, width: float = 100, height: float = 260) -> list[float]:
    """Return the box of a standing person whose middle is at x."""
    return [x - width / 2, top, x + width / 2, top + height]


def face_of(x: float, top: float = 100, *, width: float = 26, aside: float = 0) -> list[float]:
    """Return the face of a person whose middle is at x and whose box begins at `top`."""
    height = 1.25 * width
    return [x + aside - width / 2, top + 0.4 * height, x + aside + width / 2, top + 1.4 * height]


def owners_of(
    people: Sequence[Sequence[float]], faces: Sequence[Sequence[float]], people_scores: ArrayLike = 0.9
) -> list[int]:
    scores = np.broadcast_to(np.asarray(people_scores, np.float32), len(people))
    return assign(boxes(*people), scores, boxes(*faces), np.full(len(faces), 0.9, np.float32)).tolist()


# --- whose ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zoom", [0.3, 1, 4])
def test_a_face_belongs_to_the_person_whose_head_it_is(zoom: float) -> None:
    people = (np.array([body(100), body(180)]) * zoom).tolist()
    faces = (np.array([face_of(180), face_of(100)]) * zoom).tolist()
    assert owners_of(people, faces) == [1, 0]


def test_a_close_up_is_a_person_too() -> None:
    assert owners_of([[0, 0, 300, 320]], [[95, 55, 205, 195]]) == [0]


def test_people_without_a_face_and_faces_without_a_person_stay() -> None:
    assert owners_of([body(100), body(400)], [face_of(100), face_of(700)]) == [0, NO_ONE]
    assert owners_of([], [face_of(100)]) == [NO_ONE]
    assert owners_of([body(100)], []) == []


def test_two_people_close_together_share_their_faces_jointly() -> None:
    # Each face lies in both boxes. Alone, the left face would fit the right person better than the person's own face
    # does.
    people, faces = [body(100), body(125)], [face_of(100, aside=14), face_of(125, aside=14)]
    assert owners_of(people, faces) == [0, 1]
    assert owners_of(people[::-1], faces[::-1]) == [0, 1]


def test_a_face_that_fits_well_is_not_given_up_for_two_that_fit_badly() -> None:
    people, faces = [body(100), body(135)], [face_of(100), face_of(100, aside=-20)]
    fits = head_scores(boxes(*people), boxes(*faces))
    assert fits[0, 1] + fits[1, 0] > fits[0, 0]
    assert owners_of(people, faces) == [0, NO_ONE]


def test_a_weaker_second_face_never_erases_the_good_one() -> None:
    person, good, weak = boxes(body(100)), face_of(100, aside=14), face_of(100, aside=-14)
    for faces, scores in ([(good, weak), (0.95, 0.55)], [(weak, good), (0.55, 0.95)]):
        owners = assign(person, np.array([0.9]), boxes(*faces), np.array(scores, np.float32))
        assert owners[faces.index(good)] == 0
        assert owners[faces.index(weak)] == NO_ONE


def test_a_sure_face_goes_before_a_doubtful_one_nearer_to_the_middle() -> None:
    # A case from a clip: somebody bends forward, and a part of the background beside the head looks like a face.
    person, face, background = boxes([60, 25, 664, 537]), [421, 133, 628, 422], [310, 129, 419, 318]
    owners = assign(person, np.array([0.77]), boxes(face, background), np.array([1.0, 0.64], np.float32))
    assert owners.tolist() == [0, NO_ONE]


def test_a_face_beside_a_person_seen_from_behind_is_not_that_persons() -> None:
    # A case from a clip: a boy's face is visible past the shoulder of a man who walks away, and the boy was not
    #     detected.
    man, boy = [824, 269, 965, 677], [842, 312, 871, 342]
    assert owners_of([man], [boy]) == [NO_ONE]
    assert owners_of([man, [817, 289, 880, 403]], [boy], [0.91, 0.32]) == [1]


def test_a_child_in_front_does_not_lend_its_face_to_the_adult() -> None:
    adult, child = body(100), face_of(100, top=200, width=20)
    assert owners_of([adult], [child]) == [NO_ONE]


def test_of_two_boxes_around_one_body_the_surer_one_gets_the_face() -> None:
    people = [body(100), body(101)]
    assert owners_of(people, [face_of(100.5)], [0.3, 0.9]) == [1]
    assert owners_of(people, [face_of(100.5)], [0.9, 0.3]) == [0]


def test_people_at_the_left_and_top_border_keep_their_faces() -> None:
    assert owners_of([[0, 0, 60, 200]], [[-6, -2, 24, 36]]) == [0]


def test_a_score_does_not_depend_on_where_in_the_picture_people_are() -> None:
    people, faces = boxes(body(100), body(160)), boxes(face_of(100), face_of(170))
    np.testing.assert_array_equal(head_scores(people, faces), head_scores(people + 640, faces + 640))


@given(st.permutations(range(4)), st.permutations(range(5)))
def test_the_order_of_people_and_faces_does_not_matter(people_order: list[int], face_order: list[int]) -> None:
    people = boxes(body(100), body(130), body(190, top=120), body(300))
    faces = boxes(face_of(104), face_of(128), face_of(195, top=120), face_of(250), face_of(300, aside=6))
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.95], np.float32)
    straight = assign(people, np.full(4, 0.9), faces, scores)
    turned = assign(people[people_order], np.full(4, 0.9), faces[face_order], scores[face_order])
    by_face = {face: NO_ONE if owner == NO_ONE else people_order[owner] for face, owner in zip(face_order, turned)}  # noqa: B905
    assert [by_face[face] for face in range(5)] == straight.tolist()


def test_one_face_seen_on_two_crops_is_one_face() -> None:
    whole, shifted, cut = [100, 100, 130, 140], [101, 99, 131, 141], [100, 100, 112, 140]
    other = [140, 100, 170, 140]
    ranks = np.array([1.8, 1.9, 1.2, 1.5])
    assert distinct(boxes(whole, shifted, cut, other), ranks).tolist() == [1, 3]
    assert distinct(boxes(cut, other), np.array([1.0, 1.0])).tolist() == [0, 1]
    assert distinct(boxes(), np.zeros(0)).tolist() == []


def test_equal_faces_are_decided_by_place_and_not_by_order() -> None:
    pair = boxes([100, 100, 130, 140], [101, 100, 131, 140])
    assert pair[distinct(pair, np.ones(2))].tolist() == pair[::-1][distinct(pair[::-1], np.ones(2))].tolist()


# --- pose -------------------------------------------------------------------------------------------------------------


def turned(landmarks: NDArray[np.float32], degrees: float) -> NDArray[np.float32]:
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return ((landmarks - [50, 60]) @ turn.T + [50, 60]).astype(np.float32)


def pose_of(landmarks: NDArray[np.float32], box: NDArray[np.float32] = FACE) -> Pose:
    return read_pose(box, landmarks[None])


def test_a_frontal_face_is_neither_turned_nor_tilted() -> None:
    pose = pose_of(FRONTAL)
    assert pose.eye_distances_px[0] == 40
    assert pose.yaws[0] == 0
    assert pose.rolls_deg[0] == 0
    assert pose.is_plausible[0]


@pytest.mark.parametrize("yaw_deg", [20, 45, 67])
@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize("roll_deg", [-30, 0, 30])
def test_yaw_is_the_share_of_a_right_angle_whatever_the_roll(yaw_deg: float, side: int, roll_deg: float) -> None:
    # The nose of this head stands out by .85 of half the eye distance, and the head is turned by yaw_deg.
    landmarks = FRONTAL.copy()
    landmarks[:, 0] = 50 + (landmarks[:, 0] - 50) * np.cos(np.deg2rad(yaw_deg))
    landmarks[2, 0] += side * 0.85 * 20 * np.sin(np.deg2rad(yaw_deg))
    pose = pose_of(turned(landmarks, roll_deg))
    assert pose.yaws[0] == pytest.approx(yaw_deg / 90, abs=0.002)
    assert pose.rolls_deg[0] == pytest.approx(abs(roll_deg), abs=0.1)


def test_eyes_in_one_point_are_a_profile() -> None:
    landmarks = FRONTAL.copy()
    landmarks[:2] = [50, 40]
    landmarks[2] = [30, 62]
    pose = pose_of(landmarks)
    assert pose.eye_distances_px[0] == 0
    assert pose.yaws[0] > 0.95


def test_upside_down_is_tilted_by_half_a_turn() -> None:
    assert pose_of(turned(FRONTAL, 180)).rolls_deg[0] == 180


@pytest.mark.parametrize("roll_deg", [-40, 0, 40])
def test_a_tilted_face_is_still_arranged_like_one(roll_deg: float) -> None:
    assert pose_of(turned(FRONTAL, roll_deg)).is_plausible[0]


@pytest.mark.parametrize(
    ("point", "place"),
    [
        ("mouth above the eyes", {3: (34, 10), 4: (66, 10)}),
        ("mouth at the eyes", {3: (34, 46), 4: (66, 46)}),
        ("nose above the eyes", {2: (50, 20)}),
        ("nose below the mouth", {2: (50, 90)}),
        ("corners of the mouth swapped", {3: (66, 80), 4: (34, 80)}),
        ("an eye outside the box", {0: (-20, 40)}),
        ("a mouth below the box", {3: (34, 140), 4: (66, 140)}),
    ],
)
def test_landmarks_that_are_not_arranged_like_a_face_are_no_face(
    point: str, place: dict[int, tuple[float, float]]
) -> None:
    landmarks = FRONTAL.copy()
    for index, where in place.items():
        landmarks[index] = where
    assert not pose_of(landmarks).is_plausible[0], point


def test_hardly_any_random_landmarks_pass_for_a_face() -> None:
    count = 5000
    landmarks = np.random.default_rng(1).uniform([0, 0], [100, 120], (count, 5, 2)).astype(np.float32)
    pose = read_pose(np.repeat(FACE, count, axis=0), landmarks)
    sure, sharp = np.ones(count), np.full(count, 99.0)
    reasons = judge(np.zeros(count, np.int64), sure, sharp, sure, pose, np.ones(count), np.zeros(count), PARAMS)
    assert np.mean(reasons == JUDGED) < 0.02
    assert np.mean(reasons == "no face") > 0.1  # the pose alone would let these pass


# --- quality ----------------------------------------------------------------------------------------------------------


def posed(eyes: ArrayLike, yaw: ArrayLike = 0.0, roll: ArrayLike = 0.0) -> Pose:
    eyes, yaw, roll = np.broadcast_arrays(*(np.atleast_1d(np.asarray(x, np.float64)) for x in (eyes, yaw, roll)))
    return Pose(eyes, yaw, roll, np.ones(len(eyes), bool))


@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=2),
    st.lists(st.floats(0, 300), min_size=2, max_size=2),
    st.lists(st.floats(0, 5000), min_size=2, max_size=2),
    st.lists(st.floats(0, 1), min_size=2, max_size=2),
    st.lists(st.floats(0, 180), min_size=2, max_size=2),
)
def test_more_of_a_good_thing_never_lowers_the_quality(
    scores: list[float], eyes: list[float], sharpness: list[float], yaws: list[float], rolls: list[float]
) -> None:
    worse = weigh(np.array([min(scores)]), np.array([min(sharpness)]), posed(min(eyes), max(yaws), max(rolls)))
    better = weigh(np.array([max(scores)]), np.array([max(sharpness)]), posed(max(eyes), min(yaws), min(rolls)))
    assert 0 <= worse[0] <= better[0] <= 1


@pytest.mark.parametrize("lesser", ["score", "eyes", "sharpness", "yaw", "roll"])
def test_each_part_counts(lesser: str) -> None:
    good = {"score": 0.95, "eyes": 40.0, "sharpness": 120.0, "yaw": 0.1, "roll": 5.0}
    poor = {"score": 0.8, "eyes": 12.0, "sharpness": 20.0, "yaw": 0.6, "roll": 40.0}

    def quality(of: dict[str, float]) -> float:
        pose = posed(of["eyes"], of["yaw"], of["roll"])
        return float(weigh(np.array([of["score"]]), np.array([of["sharpness"]]), pose)[0])

    assert quality(good | {lesser: poor[lesser]}) < quality(good)


# --- verdict ----------------------------------------------------------------------------------------------------------


def verdict(**changed: object) -> str:
    """Return the verdict on a good face with some values changed."""
    face: dict[str, object] = {
        "owner": 0,
        "score": 0.99,
        "sharpness": 100.0,
        "detail": 0.7,
        "eyes": 30.0,
        "yaw": 0.1,
        "roll": 5.0,
        "plausible": True,
        "inside": 1.0,
        "hidden": 0.0,
        "params": PARAMS,
    } | changed
    pose = Pose(*(np.array([face[part]]) for part in ("eyes", "yaw", "roll", "plausible")))
    params = face["params"]
    assert isinstance(params, GateParams)
    owner, score, sharpness, detail, inside, hidden_share = (
        np.array([face[part]]) for part in ("owner", "score", "sharpness", "detail", "inside", "hidden")
    )
    return judge(owner, score, sharpness, detail, pose, inside, hidden_share, params)[0]


FAULTS: list[tuple[dict[str, object], str]] = [
    ({"owner": NO_ONE}, "on no one"),
    ({"score": PARAMS.min_score - 0.001}, "unsure"),
    ({"eyes": PARAMS.min_eye_distance_px - 0.1}, "too small"),
    ({"sharpness": PARAMS.min_sharpness - 0.1}, "blurred"),
    ({"detail": PARAMS.min_detail - 0.001}, "blurred"),
    ({"yaw": PARAMS.max_yaw + 0.001}, "turned away"),
    ({"roll": PARAMS.max_roll_deg + 0.1}, "tilted"),
    ({"plausible": False}, "no face"),
    ({"inside": PARAMS.min_inside - 0.001}, "cut off"),
    ({"hidden": PARAMS.max_occluded + 0.001}, "hidden"),
]


def test_a_good_face_is_judged_and_so_is_one_exactly_at_every_bound() -> None:
    assert verdict() == JUDGED
    assert (
        verdict(
            score=np.float32(PARAMS.min_score),
            eyes=PARAMS.min_eye_distance_px,
            sharpness=PARAMS.min_sharpness,
            detail=PARAMS.min_detail,
            yaw=PARAMS.max_yaw,
            roll=PARAMS.max_roll_deg,
            inside=PARAMS.min_inside,
            hidden=PARAMS.max_occluded,
        )
        == JUDGED
    )


@pytest.mark.parametrize(("fault", "reason"), FAULTS)
def test_each_fault_is_refused_with_its_reason(fault: dict[str, object], reason: str) -> None:
    assert verdict(**fault) == reason


def test_every_reason_has_its_fault_and_the_first_one_is_given() -> None:
    assert list(dict.fromkeys(reason for _, reason in FAULTS)) == list(WHY_NOT)
    for first, (_, reason) in enumerate(FAULTS):
        every = {part: value for fault, _ in FAULTS[first:] for part, value in fault.items()}
        assert verdict(**every) == reason


def test_a_score_that_float32_cannot_hold_is_not_lost_at_its_own_bound() -> None:
    assert verdict(score=np.float32(0.7), params=replace(PARAMS, min_score=0.7)) == JUDGED


def test_the_back_of_a_head_at_a_score_of_two_hundredths_gets_no_age() -> None:
    assert verdict(score=0.02) == "unsure"


def test_what_lies_outside_of_what_was_looked_at_is_cut_off() -> None:
    seen = boxes([0, 0, 200, 100])
    assert inside_shares(boxes([10, 10, 50, 50]), seen)[0] == 1
    assert inside_shares(boxes([-10, 10, 30, 50]), seen)[0] == 0.75
    assert inside_shares(boxes([10, 80, 50, 120]), seen)[0] == 0.5
    assert inside_shares(boxes([300, 10, 340, 50]), seen)[0] == 0


def hidden(people: Sequence[Sequence[float]], face: Sequence[float], scores: ArrayLike = 0.9, owner: int = 0) -> float:
    people_scores = np.broadcast_to(np.asarray(scores, np.float64), len(people))
    return float(hidden_shares(boxes(face), np.array([owner]), boxes(*people), people_scores)[0])


def test_a_face_behind_the_body_of_a_nearer_person_is_hidden() -> None:
    far, near = body(100), body(100, top=60, width=200, height=500)
    assert hidden([far, near], face_of(100)) > 0.9
    assert hidden([far, body(300, top=60, width=100, height=500)], face_of(100)) == 0


def test_a_face_in_front_of_a_farther_person_is_not_hidden() -> None:
    near, far = body(100, height=300), body(105, top=80, height=240, width=120)
    assert hidden([near, far], face_of(100)) == 0


def test_a_face_that_looks_out_beside_the_head_of_a_nearer_person_is_not_hidden() -> None:
    far, near = body(60), body(140, top=100, width=200, height=400)
    assert near[0] < face_of(60)[0]
    assert hidden([far, near], face_of(60)) == 0


def test_a_second_box_of_the_same_body_hides_nothing() -> None:
    # A case from a clip: one box to the waist and one to the knees of the same woman.
    assert hidden([[27, 284, 183, 453], [25, 284, 184, 630]], [96, 293, 134, 349]) == 0


def test_an_unsure_person_hides_no_one() -> None:
    far, near = body(100), body(100, top=60, width=200, height=500)
    assert hidden([far, near], face_of(100), scores=[0.9, 0.2]) == 0


def test_a_face_on_no_one_is_hidden_behind_no_one() -> None:
    assert hidden([body(100, width=300)], face_of(100), owner=NO_ONE) == 0
