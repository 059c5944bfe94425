"""Decide whose a face is, what it is worth, and whether it may be judged.

Everything is in pixels of the displayed picture, of one frame where people are concerned. Whatever decides is rounded
before: boxes and landmarks come in steps of 0.1 px, scores in steps of 0.001.
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
    "on no one",  # nobody's head is where this face is
    "unsure",  # the face detector is not sure that it is a face: gate.min_score
    "too small",  # between the eyes: gate.min_eye_distance_px
    "blurred",  # out of focus, moved, or made unrecognisable: gate.min_sharpness, gate.min_detail
    "turned away",  # towards a profile: gate.max_yaw
    "tilted",  # lying or upside down: gate.max_roll_deg
    "no face",  # eyes, nose and mouth are not arranged like a face: the back of a head, a pattern
    "cut off",  # at the border of the picture or of what was looked at: gate.min_inside
    "hidden",  # behind another person: gate.max_occluded
)
"""Why a face is not judged, in the order in which it is asked; the first that holds is given."""

# Geometry of heads, in sizes of the face box (from the brow to the chin, as face detectors draw it).
HAIR = 0.4
"""Heights of the face box from the top of the person's box to its own: .43 the median of 1,298, .1 to 1.2 in 98 %."""
REACH = 2.2
"""Heights of the face box from the top of the person's box to where a face ends at the latest, stooping or in a hat."""
MIN_HEAD_SCORE = 0.4
"""Below 0.5, which a face within reach has that is not where it is likeliest (a long stride, a body bent aside)."""
SAME_FACE_IOU, SAME_FACE_SHARE = 0.4, 0.7
"""Two faces of one frame that overlap so much, or of which one lies in the other by such a share, are one."""
MIN_OCCLUDER_SCORE = 0.4
"""Weaker person boxes hide no one: many are parts or doubles of others."""
DOUBLE_SHARE = 0.8
"""A box is the face's owner once more if one lies in the other by such a share and both begin at one height."""
NEARER = 0.05
"""Heights of the owner's box by which a nearer person stands lower in the picture."""
HEAD_WIDTH, HEAD_HEIGHT, BODY_WIDTH = 0.5, 0.45, 0.9
"""Widths of a person's box: what hides others is a head of this size, in the middle at the top, and the body below."""
NOSE_DEPTH = 0.85
"""Half eye distances by which the tip of the nose stands out from the plane of the eyes: an adult's 27 mm, with pupils
64 mm apart, in round numbers. It sets the scale of yaw alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateParams:
    """See `gate` in conf/base.yaml."""

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
    """How N faces are turned, read off their five landmarks.

    eye_distances_px: (N,) float64, steps of 0.1. yaws: (N,) in [0, 1], 0 frontal, 1 profile (shares of a right angle),
    steps of 0.001. rolls_deg: (N,) in [0, 180], steps of 0.1, 180 upside down. is_plausible: (N,) bool, arranged as in
    a face.
    """

    eye_distances_px: NDArray[np.float64]
    yaws: NDArray[np.float64]
    rolls_deg: NDArray[np.float64]
    is_plausible: NDArray[np.bool_]


# --- whose ------------------------------------------------------------------------------------------------------------


def distinct(faces: Boxes, ranks: NDArray[np.floating]) -> NDArray[np.int64]:
    """Indices, ascending, of the (N, 4) `faces` of one frame that are left when each face counts once.

    A face is seen in the crops of several people. Of those that are the same, the one with the highest of the (N,)
    `ranks` stays; equal ranks are decided by place.
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
    """How well each of (F, 4) `faces` fits as the face of each of (P, 4) `people`: (P, F) in [0, 1], steps of 0.001.

    The mean of two: the overlap (IoU) with a face of this size where the head of such a person is likeliest, in the
    middle and just below the top of the box; and the share of the face within reach of the head. The face's own size is
    the measure, so it works for whole bodies and for heads and shoulders alike.
    """
    widths, heights = (faces[:, 2:] - faces[:, :2]).T
    middles, tops = (people[:, 0] + people[:, 2]) / 2, people[:, 1]

    likeliest_top = tops[:, None] + HAIR * heights
    wide = np.clip(widths - np.abs((faces[:, 0] + faces[:, 2]) / 2 - middles[:, None]), 0, None)
    high = np.clip(heights - np.abs(faces[:, 1] - likeliest_top), 0, None)
    overlap = wide * high
    iou = overlap / np.maximum(2 * widths * heights - overlap, 1e-6)

    # Detectors of people cut hair and hats; so much may a face stick out above.
    highest = tops[:, None] - HAIR * heights
    lowest = np.minimum(people[:, 3][:, None], tops[:, None] + REACH * heights)
    wide = np.minimum(faces[:, 2], people[:, 2:3]) - np.maximum(faces[:, 0], people[:, 0:1])
    high = np.minimum(faces[:, 3], lowest) - np.maximum(faces[:, 1], highest)
    share = np.clip(wide, 0, None) * np.clip(high, 0, None) / np.maximum(widths * heights, 1e-6)
    return _steps((iou + share) / 2)


def assign(
    people: Boxes, person_scores: NDArray[np.floating], faces: Boxes, face_scores: NDArray[np.floating]
) -> NDArray[np.int64]:
    """Give each face of one frame to the person whose head it is, one to each: (F,) indices of people or NO_ONE.

    Joint over all people and (distinct) faces of the frame (Hungarian method). Of two faces in one head's place the
    surer one is the head's; of two boxes around one body, the surer one gets the face.
    """
    from scipy.optimize import linear_sum_assignment  # a second, which who only reads a configuration need not wait

    owners = np.full(len(faces), NO_ONE, np.int64)
    fits = head_scores(people, faces)
    # The score of a face counts twice: a detector that is half sure sees faces in collars and ears, and at times
    # nearer to where a head should be than the head is.
    worth = fits * (1 + person_scores.astype(np.float64))[:, None] * face_scores.astype(np.float64)[None, :] ** 2
    # Squared, so that one pair that fits well is not given up for two that fit badly.
    worth = np.where(fits >= MIN_HEAD_SCORE, _steps(worth) ** 2, 0)
    for person, face in zip(*linear_sum_assignment(worth, maximize=True), strict=True):
        if worth[person, face] > 0:
            owners[face] = person
    return owners


# --- what is it worth -------------------------------------------------------------------------------------------------


def read_pose(boxes: Boxes, landmarks: NDArray[np.floating]) -> Pose:
    """Read the pose of faces with (N, 4) `boxes` off their (N, 5, 2) `landmarks`.

    yaw: from how far the nose is from the middle between the eyes, along the line of the eyes, in half eye distances:
    of a head turned by the angle a that is NOSE_DEPTH · tan(a).
    Plausible, with the line of the eyes turned level: the mouth lies below the eyes by a fair part of the face, the
    nose between them, the corners of the mouth in the order of the eyes, and all five in the box.
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
    """The quality of N faces: (N,) in [0, 1], steps of 0.001; the weight of what is estimated from them.

        score · eyes / (eyes + 8 px) · sharpness / (sharpness + 15) · cos²(yaw · 90°) · cos(roll / 2)

    More of a good thing never lowers it. The parts follow the inverse of an estimator's squared error (SSR-Net): on
    UTKFace, scaled down to eye distances of 48, 16, 10 and 6 px, its mean error was 7.9, 8.8, 9.8 and 10.8 years, and
    blurred to a sharpness of 104 and 28 it was 8.8 and 10.1; in a clip of two people its ages were off by 2 years up to
    a yaw of 0.3 and by 8 beyond 0.5.
    """
    eyes, sharpness = pose.eye_distances_px, np.maximum(sharpness.astype(np.float64), 0)
    turned = np.cos(pose.yaws * (np.pi / 2)) ** 2 * np.cos(np.deg2rad(pose.rolls_deg) / 2)
    return _steps(np.clip(scores * eyes / (eyes + 8) * sharpness / (sharpness + 15) * turned, 0, 1))


# --- may it be judged -------------------------------------------------------------------------------------------------


def inside_shares(faces: Boxes, seen: Boxes) -> NDArray[np.float64]:
    """The share of each of (N, 4) `faces` that lies in what was looked at, (N, 4) `seen`: (N,), steps of 0.001."""
    common = np.hstack([np.maximum(faces[:, :2], seen[:, :2]), np.minimum(faces[:, 2:], seen[:, 2:])])
    return _steps(area(common) / np.maximum(area(faces), 1e-6))


def hidden_shares(
    faces: Boxes, owners: NDArray[np.int64], people: Boxes, person_scores: NDArray[np.floating]
) -> NDArray[np.float64]:
    """The largest share of each face of one frame that is behind a person nearer than its owner: (F,), steps of 0.001.

    Nearer is who stands lower in the picture. The corners of a box beside its head hide nothing: faces look out there.
    Faces of NO_ONE are hidden behind no one.
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
    """Whether N faces may be judged: (N,) str, JUDGED or the first of WHY_NOT that holds.

    sharpness, details: of media.faces.face_sharpness and face_detail. insides, hidden: of inside_shares and
    hidden_shares.
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
    """Of (P, 4) people, the boxes of their heads and of what is below: (P, 4) each, without overlap."""
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
    """In steps of 0.001, so that the last bits decide nothing."""
    return np.round(values.astype(np.float64), 3)
