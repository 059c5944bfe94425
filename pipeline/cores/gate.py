"""Assign faces to people, weigh them, and decide whether they may be judged.

Coordinates are pixels of the displayed picture. People and faces are those of one frame. Values are rounded before they
decide: boxes and landmarks come in steps of 0.1 px, scores in steps of 0.001.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge, Le
from numpy.typing import NDArray

from pipeline.boxes import Boxes, area, pairwise_intersection, pairwise_iou
from pipeline.cores.ranges import Distance, Share, check

NO_ONE = -1

JUDGED = ""
WHY_NOT = (
    "on no one",  # nobody's head is at the place of this face
    "unsure",  # the detector's score is below gate.min_score
    "too small",  # the eye distance is below gate.min_eye_distance_px
    "blurred",  # out of focus, moved, or made unrecognisable: gate.min_sharpness, gate.min_detail
    "turned away",  # towards a profile: gate.max_yaw
    "tilted",  # lying or upside down: gate.max_roll_deg
    "no face",  # eyes, nose and mouth are not arranged as in a face: the back of a head, a pattern
    "cut off",  # at the border of the picture or of the searched crop: gate.min_inside
    "hidden",  # behind another person: gate.max_occluded
)
"""The reasons why a face is not judged, in the order of the checks. The first that applies is stated."""

# Geometry of heads, relative to the face box, which detectors draw from the brow to the chin.
HAIR = 0.4
"""Usual distance from the top of a person's box to the top of the face box, in face heights. It is .43 in the median
of 1,298 faces, and .1 to 1.2 for 98 %."""
REACH = 2.2
"""Largest distance from the top of a person's box to the end of the face, in face heights. It allows for stooping
and hats."""
MIN_HEAD_SCORE = 0.4
"""Smallest head score. It is below 0.5, the score of a face within reach but not in the likeliest place (a long
stride, a body bent aside)."""
SAME_FACE_IOU, SAME_FACE_SHARE = 0.4, 0.7
"""Two faces of one frame are one if their IoU, or the share of the smaller one inside the other, is at least this."""
MIN_OCCLUDER_SCORE = 0.4
"""Person boxes with a lower score hide nobody, because many are parts or duplicates of others."""
DOUBLE_SHARE = 0.8
"""A box is a duplicate of the owner's if this share of the smaller lies in the other and both begin at the same
height."""
NEARER = 0.05
"""A person is nearer if the box ends lower by at least this, in heights of the owner's box."""
HEAD_WIDTH, HEAD_HEIGHT, BODY_WIDTH = 0.5, 0.45, 0.9
"""The outline of a person who hides others, in widths of the box: a head of this size in the middle at the top, and
    a body of this width below."""
NOSE_DEPTH = 0.85
"""Distance of the tip of the nose from the plane of the eyes, in half eye distances: an adult's 27 mm, with pupils
    64 mm apart, in round numbers. It sets only the scale of yaw."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateParams:
    """The knobs `gate` of conf/base.yaml."""

    min_score: Share
    min_eye_distance_px: Distance
    min_sharpness: Distance
    min_detail: Distance
    max_yaw: Share
    max_roll_deg: Annotated[float, Ge(0), Le(180)]
    min_inside: Share
    max_occluded: Share

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True, slots=True)
class Pose:
    """The pose of N faces, read from their five landmarks.

    eye_distances_px: (N,) float64 px, in steps of 0.1.
    yaws: (N,) from 0, frontal, to 1, profile (90 degrees), in steps of 0.001.
    rolls_deg: (N,) in [0, 180] degrees, in steps of 0.1. 180 is upside down.
    is_plausible: (N,) bool. Whether the landmarks are arranged as in a face.
    """

    eye_distances_px: NDArray[np.float64]
    yaws: NDArray[np.float64]
    rolls_deg: NDArray[np.float64]
    is_plausible: NDArray[np.bool_]


# --- whose ------------------------------------------------------------------------------------------------------------


def distinct(faces: Boxes, ranks: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return the ascending indices of the (N, 4) `faces` of one frame that remain when each face counts once.

    A face can appear in the crops of several people. Of equal faces, the one with the highest of the (N,) `ranks`
    stays. Position decides between equal ranks.
    """
    order = np.lexsort([faces[:, 3], faces[:, 2], faces[:, 1], faces[:, 0], -ranks])
    smaller = np.minimum(area(faces)[:, None], area(faces)[None, :])
    share = pairwise_intersection(faces, faces) / np.maximum(smaller, 1e-6)
    is_same = (_steps(pairwise_iou(faces, faces)) >= SAME_FACE_IOU) | (_steps(share) >= SAME_FACE_SHARE)
    kept: list[int] = []
    for index in order.tolist():
        if not is_same[index, kept].any():
            kept.append(index)
    return np.array(sorted(kept), np.int64)


def head_scores(people: Boxes, faces: Boxes) -> NDArray[np.float64]:
    """Return how well each of (F, 4) `faces` fits each of (P, 4) `people`: (P, F) in [0, 1], in steps of 0.001.

    The score is the mean of two values. One is the IoU with a face of this size at the likeliest place of the
    person's head, in the middle and just below the top of the box. The other is the share of the face within reach
    of the head. All distances are relative to the size of the face, so the score works for whole bodies and for
    heads and shoulders alike.
    """
    widths, heights = (faces[:, 2:] - faces[:, :2]).T
    middles, tops = (people[:, 0] + people[:, 2]) / 2, people[:, 1]

    likeliest_top = tops[:, None] + HAIR * heights
    wide = np.clip(widths - np.abs((faces[:, 0] + faces[:, 2]) / 2 - middles[:, None]), 0, None)
    high = np.clip(heights - np.abs(faces[:, 1] - likeliest_top), 0, None)
    overlap = wide * high
    iou = overlap / np.maximum(2 * widths * heights - overlap, 1e-6)

    # Detectors of people cut off hair and hats, so a face may extend above the box by this much.
    highest = tops[:, None] - HAIR * heights
    lowest = np.minimum(people[:, 3][:, None], tops[:, None] + REACH * heights)
    wide = np.minimum(faces[:, 2], people[:, 2:3]) - np.maximum(faces[:, 0], people[:, 0:1])
    high = np.minimum(faces[:, 3], lowest) - np.maximum(faces[:, 1], highest)
    share = np.clip(wide, 0, None) * np.clip(high, 0, None) / np.maximum(widths * heights, 1e-6)
    return _steps((iou + share) / 2)


def assign(
    people: Boxes, person_scores: NDArray[np.floating], faces: Boxes, face_scores: NDArray[np.floating]
) -> NDArray[np.int64]:
    """Assign each face of one frame to the person whose head it is: (F,) indices of people, or NO_ONE.

    Each person gets at most one face. The assignment is joint over all people and (distinct) faces of the frame
    (Hungarian method). Of two faces in the place of one head, the surer one is assigned. Of two boxes around one
    body, the surer one gets the face.
    """
    # SciPy takes a second to import, which commands that only read a configuration save.
    from scipy.optimize import linear_sum_assignment

    owners = np.full(len(faces), NO_ONE, np.int64)
    fits = head_scores(people, faces)
    # The score of a face is squared, because an unsure detector finds faces in collars and ears, and these are
    # sometimes nearer to the expected place of a head than the head is.
    worth = fits * (1 + person_scores.astype(np.float64))[:, None] * face_scores.astype(np.float64)[None, :] ** 2
    # The square keeps one pair that fits well from being given up for two that fit badly.
    worth = np.where(fits >= MIN_HEAD_SCORE, _steps(worth) ** 2, 0)
    for person, face in zip(*linear_sum_assignment(worth, maximize=True), strict=True):
        if worth[person, face] > 0:
            owners[face] = person
    return owners


# --- what is it worth -------------------------------------------------------------------------------------------------


def read_pose(boxes: Boxes, landmarks: NDArray[np.floating]) -> Pose:
    """Return the pose of faces with (N, 4) `boxes` and (N, 5, 2) `landmarks`.

    The yaw a follows from the distance of the nose from the middle between the eyes, along the line of the eyes. In
    half eye distances, it is NOSE_DEPTH · tan(a).

    A face is plausible if, with the line of the eyes turned level, the mouth lies well below the eyes, the nose lies
    between them, the corners of the mouth are in the order of the eyes, and all five points lie in the box.
    """
    points = landmarks.astype(np.float64)
    left_eye, right_eye, nose, left_mouth, right_mouth = points.transpose(1, 0, 2)
    eyes = right_eye - left_eye
    distances = np.hypot(*eyes.T)
    along = np.where(distances[:, None] > 0, eyes / np.maximum(distances, 1e-6)[:, None], [1.0, 0.0])
    down = np.stack([-along[:, 1], along[:, 0]], axis=1)
    middle = (left_eye + right_eye) / 2

    aside = 2 * np.abs(_dot(nose - middle, along)) / np.maximum(distances, 1e-6)
    sizes = np.sqrt(np.maximum(area(boxes).astype(np.float64), 1e-6))
    mouth_below = _dot((left_mouth + right_mouth) / 2 - middle, down)
    nose_below = _dot(nose - middle, down)
    margins = 0.1 * sizes[:, None, None]
    corners = boxes.astype(np.float64).reshape(-1, 2, 2)
    is_plausible = (
        (_steps(mouth_below / sizes) >= 0.2)
        & (_steps(nose_below / np.maximum(mouth_below, 1e-6)) >= 0.1)
        & (_steps(nose_below / np.maximum(mouth_below, 1e-6)) <= 0.95)
        & (_steps(_dot(right_mouth - left_mouth, along) / sizes) >= 0.05)
        & np.all((points >= corners[:, :1] - margins) & (points <= corners[:, 1:] + margins), axis=(1, 2))
    )
    return Pose(
        np.round(distances, 1),
        _steps(np.arctan(aside / NOSE_DEPTH) / (np.pi / 2)),
        np.round(np.abs(np.rad2deg(np.arctan2(eyes[:, 1], eyes[:, 0]))), 1),
        is_plausible,
    )


def weigh(scores: NDArray[np.floating], sharpness: NDArray[np.floating], pose: Pose) -> NDArray[np.float64]:
    """Return the quality of N faces: (N,) in [0, 1], in steps of 0.001. It is the weight of what is estimated from
        them.

        score · eyes / (eyes + 8 px) · sharpness / (sharpness + 15) · cos²(yaw · 90°) · cos(roll / 2)

    A better value of any factor never lowers the quality. The factors follow the inverse of an estimator's squared
    error (SSR-Net). On UTKFace, scaled down to eye distances of 48, 16, 10 and 6 px, its mean error was 7.9, 8.8,
    9.8 and 10.8 years. Blurred to a sharpness of 104 and 28, it was 8.8 and 10.1. In a clip of two people its ages
    were off by 2 years up to a yaw of 0.3, and by 8 beyond 0.5.
    """
    eyes, sharpness = pose.eye_distances_px, np.maximum(sharpness.astype(np.float64), 0)
    turned = np.cos(pose.yaws * (np.pi / 2)) ** 2 * np.cos(np.deg2rad(pose.rolls_deg) / 2)
    return _steps(np.clip(scores * eyes / (eyes + 8) * sharpness / (sharpness + 15) * turned, 0, 1))


# --- may it be judged -------------------------------------------------------------------------------------------------


def inside_shares(faces: Boxes, searched: Boxes) -> NDArray[np.float64]:
    """Return (N,) in steps of 0.001: the share of each of the (N, 4) faces inside its searched area, (N, 4)."""
    common = np.hstack([np.maximum(faces[:, :2], searched[:, :2]), np.minimum(faces[:, 2:], searched[:, 2:])])
    return _steps(area(common) / np.maximum(area(faces), 1e-6))


def hidden_shares(
    faces: Boxes, owners: NDArray[np.int64], people: Boxes, person_scores: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return the largest share of each face of one frame that one nearer person hides: (F,), in steps of 0.001.

    A person is nearer than the owner of the face if the box ends lower in the picture. The corners of a box beside
    its head hide nothing, because faces are visible there. Faces of NO_ONE have a share of 0.
    """
    shares = np.zeros(len(faces))
    owned = np.flatnonzero(owners != NO_ONE)
    if len(owned) == 0:
        return shares
    mine, face_heights = people[owners[owned]], faces[owned, 3] - faces[owned, 1]
    lower = (people[:, 3][:, None] - mine[:, 3]) / np.maximum(mine[:, 3] - mine[:, 1], 1e-6)
    is_nearer = (_steps(lower) >= NEARER) & (_steps(person_scores) >= MIN_OCCLUDER_SCORE)[:, None]
    smaller = np.minimum(area(people)[:, None], area(mine)[None, :])
    is_double = (_steps(pairwise_intersection(people, mine) / np.maximum(smaller, 1e-6)) >= DOUBLE_SHARE) & (
        np.abs(people[:, 1][:, None] - mine[:, 1]) <= face_heights / 2
    )
    heads, bodies = _silhouettes(people)
    covered = pairwise_intersection(heads, faces[owned]) + pairwise_intersection(bodies, faces[owned])
    covered = covered / np.maximum(area(faces[owned]), 1e-6)
    shares[owned] = _steps(np.where(is_nearer & ~is_double, covered, 0).max(axis=0))
    return shares


def judge(
    owners: NDArray[np.int64],
    scores: NDArray[np.floating],
    sharpness: NDArray[np.floating],
    details: NDArray[np.floating],
    pose: Pose,
    insides: NDArray[np.float64],
    hidden: NDArray[np.float64],
    params: GateParams,
) -> NDArray[np.object_]:
    """Return the verdict on N faces: (N,) str, JUDGED or the first reason of WHY_NOT that applies.

    sharpness, details: (N,), from media.faces.face_sharpness and face_detail.
    insides: (N,), from `inside_shares`.
    hidden: (N,), from `hidden_shares`.
    """
    refused = [
        owners == NO_ONE,
        _steps(scores) < params.min_score,
        pose.eye_distances_px < params.min_eye_distance_px,
        (np.round(sharpness.astype(np.float64), 1) < params.min_sharpness) | (_steps(details) < params.min_detail),
        pose.yaws > params.max_yaw,
        pose.rolls_deg > params.max_roll_deg,
        ~pose.is_plausible,
        insides < params.min_inside,
        hidden > params.max_occluded,
    ]
    return np.select(refused, [np.full(len(scores), reason, object) for reason in WHY_NOT], JUDGED)


def _silhouettes(people: Boxes) -> tuple[Boxes, Boxes]:
    """Return the boxes of the heads of (P, 4) people and of the bodies below: (P, 4) each, without overlap."""
    widths, middles = people[:, 2] - people[:, 0], (people[:, 0] + people[:, 2]) / 2
    tops, bottoms = people[:, 1], people[:, 3]
    necks = np.minimum(tops + HEAD_HEIGHT * widths, bottoms)
    head, body = HEAD_WIDTH / 2 * widths, BODY_WIDTH / 2 * widths
    heads = np.stack([middles - head, tops, middles + head, necks], axis=1)
    bodies = np.stack([middles - body, necks, middles + body, bottoms], axis=1)
    return heads.astype(np.float32), bodies.astype(np.float32)


def _dot(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sum(a * b, axis=1)


def _steps(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Round to steps of 0.001, so that the last bits decide nothing."""
    return np.round(values.astype(np.float64), 3)
