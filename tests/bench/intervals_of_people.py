"""Measure how honest the age interval of a person is, by the number of faces that it rests on, and the value of the
gate.

    python -m tests.bench.intervals_of_people --cache DIR [--side test] [--people 1000] [--correlation .85] [--gate]

No dataset beside the repository has groups of pictures of one person with known ages, so people are simulated. Each
picture of UTKFace that the estimator was not trained on is one person, and is filmed. A shot has its own distance,
light, lens, noise and compression, and its crop is a little off the face. Every frame of the shot is shifted,
turned, scaled, moved and compressed a little differently. An error that comes from the picture is the same in all
frames of its person. Other poses and expressions are not simulated. Of the sides of UTKFace's split, `validation`
was used to choose person.correlation, and `test` is reported.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.arrays import Picture
from pipeline.config import load
from pipeline.cores import gate
from pipeline.cores.vote import PersonParams, vote
from pipeline.corpora.loading import load_faces
from pipeline.corpora.splits import split_faces
from pipeline.media.faces import TEMPLATE, TEMPLATE_PX, face_detail, face_sharpness
from pipeline.media.pictures import decode_jpeg
from pipeline.models.aligned import UTKFACE
from pipeline.models.estimator import StarterEstimator
from pipeline.training.degrade import Degradation, degrade
from tests.shared import SHARED

ALIGNED_PX, BATCH = 224, 32
WEIGHTS = Path(__file__).parents[2] / "weights/starter-attributes.safetensors"
FRAMES_PER_SHOT = 10
EYES = (TEMPLATE[1, 0] - TEMPLATE[0, 0]) / TEMPLATE_PX / (UTKFACE.right - UTKFACE.left)
"""Distance between the eyes, in widths of a picture of UTKFace."""
DETECTOR_SCORE = 0.99
SHOT_OFF, FRAME_OFF = 0.03, 0.02
"""Standard deviations of the error of the crop, for a shot and for a frame: of its place in widths of the face, of
    the logarithm of its scale, and of its angle in radians."""


NUM_FACES = (1, 2, 5, 20, 150)
"""Numbers of faces of a person."""
ENOUGH = 0.5
"""The share of the requested faces that must pass the gate. A person with fewer is left out."""
SIDES_PX, BLURS = (16, 24, 32, 48, 64), (0, 0.02, 0.04, 0.06, 0.08, 0.12)
"""Widths of faces in a picture, px, and standard deviations of a Gaussian blur, in widths of the face."""


def film(picture: Picture, num_frames: int, rng: np.random.Generator) -> list[tuple[int, float, Picture]]:
    """Return `num_frames` frames of one person: its shot, the width of the face in the camera's picture in px, the
    picture."""
    frames: list[tuple[int, float, Picture]] = []
    while len(frames) < num_frames:
        shot = len(frames) // FRAMES_PER_SHOT
        face_px = 24 * (120 / 24) ** rng.random()
        off = rng.normal(0, SHOT_OFF, 4)
        setting = Degradation(
            small=1.0,
            blurred=float(rng.random() < 0.5),
            blur_px=_around(rng.uniform(0.2, 1.0), 0.2),
            moved=0.2,
            motion_px=(1, 4),
            dim=float(rng.random() < 0.4),
            light=_around(rng.uniform(0.3, 1.0), 0.1),
            gamma=_around(rng.uniform(0.7, 1.5), 0.05),
            noisy=float(rng.random() < 0.6),
            noise=_around(rng.uniform(1.5, 9), 0.2),
            compressed=1.0,
            quality=_around(rng.uniform(25, 85), 0.15),
            again=0.0,
        )
        for _ in range(min(FRAMES_PER_SHOT, num_frames - len(frames))):
            seen_px = min(face_px * rng.uniform(0.87, 1.15), picture.shape[0])
            moved = _shifted(picture, off + rng.normal(0, FRAME_OFF, 4))
            frames.append((shot, seen_px, degrade(moved, replace(setting, face_px=(seen_px, seen_px)), rng)))
    return frames


def _around(value: float, share: float) -> tuple[float, float]:
    return value * (1 - share), value * (1 + share)


def _shifted(picture: Picture, off: NDArray[np.float64]) -> Picture:
    side = picture.shape[0]
    matrix = cv2.getRotationMatrix2D((side / 2, side / 2), float(np.rad2deg(off[2])), float(np.exp(off[3])))
    matrix[:, 2] += off[:2] * side
    return cv2.warpAffine(picture, matrix, (side, side), borderMode=cv2.BORDER_REPLICATE).astype(np.uint8)


def judge(people: pd.DataFrame, num_frames: int, seed: int) -> pd.DataFrame:
    """Return a row for each frame of each of `people`: person, truth, is_female, shot, the estimates and the gate's
    verdict."""
    estimator = StarterEstimator(WEIGHTS, batch=BATCH, device="cpu", half=False)
    parts: list[pd.DataFrame] = []
    for place, row in enumerate(people.itertuples()):
        picture = decode_jpeg(Path(str(row.path)).read_bytes())
        frames = film(picture, num_frames, np.random.default_rng([seed, place]))
        pictures, seen_px = [shown for _, _, shown in frames], np.array([width for _, width, _ in frames])
        said = _judged(estimator, pictures, seen_px)
        shots = [shot for shot, _, _ in frames]
        parts.append(said.assign(person=place, truth=row.age, is_female=row.gender == "F", shot=shots))
    return pd.concat(parts, ignore_index=True)


def _judged(
    estimator: StarterEstimator, pictures: Sequence[Picture], face_px: NDArray[np.float64] | float
) -> pd.DataFrame:
    """Return the estimates and the gate's verdicts for pictures of one person's face alone, each `face_px` wide in its
    frame."""
    said = estimator(np.concatenate([UTKFACE.fill(picture[None], ALIGNED_PX) for picture in pictures]))
    faces = np.concatenate([UTKFACE.fill(picture[None], ALIGNED_PX, bicubic=False) for picture in pictures])
    landmarks = TEMPLATE / TEMPLATE_PX * ALIGNED_PX
    sharpness, details = (
        np.array([measure(face, landmarks) for face in faces]) for measure in (face_sharpness, face_detail)
    )
    count, nothing = len(faces), np.zeros(len(faces))
    eyes = np.round(EYES * np.asarray(face_px, np.float64) * np.ones(count), 1)
    pose = gate.Pose(eyes, nothing, nothing, np.ones(count, np.bool_))
    scores, params = np.full(count, DETECTOR_SCORE), load(profile="starter").gate
    return pd.DataFrame(
        {
            "age": said.ages,
            "age_std": said.age_stds,
            "age_lean": np.nan if said.age_leans is None else said.age_leans,
            "female_prob": said.female_probs,
            "quality": gate.weigh(scores, sharpness, pose),
            "why_not": gate.judge(
                np.zeros(count, np.int64), scores, sharpness, details, pose, nothing + 1, nothing, params
            ),
        }
    )


@cache
def labelled() -> pd.DataFrame:
    faces = load_faces(SHARED / "datasets/UTKFace")
    return faces.assign(side=split_faces(faces))


def people_of(side: str) -> pd.DataFrame:
    faces = labelled()
    return faces[(faces["side"] == side) & (faces["age"] <= 100)].sample(frac=1, random_state=0)


def filmed(folder: Path, side: str, num_people: int, num_frames: int) -> pd.DataFrame:
    path = folder / f"leaning-{side}-{num_people}-{num_frames}.parquet"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        judge(people_of(side).iloc[:num_people], num_frames, seed=len(side)).to_parquet(path)
    return pd.read_parquet(path)


def intervals(judged: pd.DataFrame, params: PersonParams, num_faces: int) -> dict[str, Any]:
    """Return how many of the people have their true age within the interval that `num_faces` of their judged faces
    give."""
    told: list[tuple[float, float, bool]] = []
    abstained = genders = right = 0
    columns = ["age", "age_std", "female_prob", "quality", "age_lean"]
    for person, rows in judged[judged["why_not"] == gate.JUDGED].groupby("person"):
        if len(rows) < num_faces * ENOUGH:
            continue
        own = rows.sample(min(num_faces, len(rows)), random_state=int(str(person)))
        ages, stds, probs, qualities, leans = own[columns].to_numpy(np.float32).T
        found = vote(ages, stds, probs, qualities, replace(params, min_faces=1, min_weight=0.0), age_leans=leans)
        truth, is_female = rows["truth"].iloc[0], rows["is_female"].iloc[0]
        if found.gender != "N":
            genders += 1
            right += (found.gender == "F") == is_female
        if found.age is None or found.age_low is None or found.age_high is None:
            abstained += 1
            continue
        told.append((found.age_high - found.age_low, abs(found.age - truth), found.age_low <= truth <= found.age_high))
    widths, errors, holds = (np.array(each, np.float64) for each in zip(*told, strict=True))
    people = len(told) + abstained
    return {
        "faces": num_faces,
        "people": people,
        "coverage": round(float(holds.mean()), 3),
        "width": round(float(np.median(widths)), 1),
        "mae": round(float(errors.mean()), 2),
        "abstained": round(abstained / people, 3),
        "gendered": round(genders / people, 3),
        "gender_right": round(right / max(genders, 1), 3),
    }


def gated(people: pd.DataFrame) -> pd.DataFrame:
    """Return for every width of a face and every blur the share of faces that is judged, and the mean error of their
    ages."""
    estimator = StarterEstimator(WEIGHTS, batch=BATCH, device="cpu", half=False)
    pictures = [decode_jpeg(Path(str(path)).read_bytes()) for path in people["path"]]
    found: list[dict[str, Any]] = []
    for side, blur in product(SIDES_PX, BLURS):
        shown = [_blurred(_resized(picture, side), blur * side) for picture in pictures]
        judged = _judged(estimator, shown, side)
        passed, errors = judged["why_not"] == gate.JUDGED, np.abs(judged["age"] - people["age"].to_numpy())
        sharp = judged["why_not"] != "blurred"
        found.append({"side": side, "blur": blur, "sharp": sharp.mean(), "judged": passed.mean(), "mae": errors.mean()})
    return pd.DataFrame(found).round(3)


def _resized(picture: Picture, side: int) -> Picture:
    return cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA).astype(np.uint8)


def _blurred(picture: Picture, blur_px: float) -> Picture:
    return cv2.GaussianBlur(picture, (0, 0), blur_px).astype(np.uint8) if blur_px else picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="folder that keeps what the estimator said")
    parser.add_argument("--side", default="test", choices=["validation", "test"])
    parser.add_argument("--people", type=int, default=1000, help="filmed in 20 frames; a tenth of them in 150")
    parser.add_argument("--correlation", type=float, help="instead of person.correlation")
    parser.add_argument("--gate", action="store_true", help="what the gate lets pass of small and blurred faces")
    asked = parser.parse_args()
    if asked.gate:
        print(gated(people_of(asked.side).iloc[: asked.people]).to_string(index=False))
        return
    params = load(profile="starter").person
    if asked.correlation is not None:
        params = replace(params, correlation=asked.correlation)
    few = filmed(asked.cache, asked.side, asked.people, 20)
    many = filmed(asked.cache, asked.side, asked.people // 10, 150)
    found = [intervals(few if num <= 20 else many, params, num) for num in NUM_FACES]
    print(pd.DataFrame(found).to_string(index=False))


if __name__ == "__main__":
    main()
