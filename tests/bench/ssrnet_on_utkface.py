"""Measure SSR-Net on UTKFace, compare windows of the aligned face, and fit the constants of its estimator.

    python -m tests.bench.ssrnet_on_utkface [--sample 3000] [--windows] [--json FILE]

Faces are aligned as the pipeline aligns them (five landmarks of RetinaFace onto the FFHQ template, 224 px).
UTKFace's pictures end at the face, so they are first widened by repeating their border. The makers of IMDB-WIKI did
the same where a picture ended. Constants are fitted on every other face and checked on the rest.
"""

import argparse
import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from pipeline.media.faces import TEMPLATE, TEMPLATE_PX, align_face, similarity
from pipeline.media.pictures import decode_jpeg
from pipeline.models.aligned import UTKFACE, Window
from pipeline.models.estimator import SSRNET_WINDOW
from pipeline.models.loading import load_estimator, load_face_detector
from pipeline.models.networks import Runner
from pipeline.models.ssrnet import SIDE_PX, YEARS, load_ssrnet
from tests.shared import SHARED

ALIGNED_PX = 224
BATCH = 64
WIDENED = 0.8
"""Share of a picture's side that is added on each side before alignment."""
SPREAD_OF_80 = 1.2816
"""Number of standard deviations around the mean that hold 80 % of a normal distribution."""
WINDOWS = (
    Window(left=0.1, top=0.15, right=0.9, bottom=0.95),
    Window(left=0.0, top=0.0, right=1.0, bottom=1.0),
    Window(left=0.0, top=0.1, right=1.0, bottom=1.1),
    SSRNET_WINDOW,
    Window(left=-0.2, top=-0.1, right=1.2, bottom=1.3),
)


@dataclass(frozen=True, slots=True)
class Sample:
    """N faces of UTKFace.

    aligned: (N, 224, 224, 3) uint8 RGB. Faces aligned by their landmarks.
    placed: (N, 224, 224, 3) uint8 RGB. Each picture put where UTKFace's pictures mostly lie in the aligned face.
    ages: (N,) years.
    is_female: (N,) bool.
    corners: (N, 2, 2) upper left and lower right corner of a picture in the aligned face.
    """

    aligned: NDArray[np.uint8]
    placed: NDArray[np.uint8]
    ages: NDArray[np.int64]
    is_female: NDArray[np.bool_]
    corners: NDArray[np.float64]


def read_sample(size: int | None) -> Sample:
    """Return `size` faces of UTKFace (None: all), chosen by a fixed seed, without those that RetinaFace does not
    find."""
    paths = sorted(path for path in (SHARED / "datasets/UTKFace").iterdir() if path.suffix == ".jpg")
    chosen = [paths[index] for index in np.random.default_rng(0).permutation(len(paths))[:size]]
    detector = load_face_detector(
        "retinaface-mobile0.25",
        {"path": SHARED / "weights/mobilenet0.25_Final.pth"},
        input_px=320,
        batch=8,
        min_score=0.5,
        device="cpu",
        half=False,
    )
    crops, aligned, labels, corners = [], [], [], []
    for start in range(0, len(chosen), 8):
        some = chosen[start : start + 8]
        pictures = [decode_jpeg(path.read_bytes()) for path in some]
        margin = round(WIDENED * len(pictures[0]))
        wide = [np.pad(each, ((margin, margin), (margin, margin), (0, 0)), mode="edge") for each in pictures]
        for path, crop, picture, found in zip(some, pictures, wide, detector(wide), strict=True):
            if not len(found):
                continue
            middle = np.argmin(np.linalg.norm(found.landmarks.mean(axis=1) - len(picture) / 2, axis=1))
            landmarks = found.landmarks[middle]
            ends = np.array([[margin, margin, 1], [margin + len(crop), margin + len(crop), 1]])
            corners.append(ends @ similarity(landmarks, TEMPLATE / TEMPLATE_PX).T)
            aligned.append(align_face(picture, landmarks, ALIGNED_PX, bicubic=True))
            crops.append(crop)
            labels.append([int(part) for part in path.name.split("_")[:2]])
    ages, genders = np.array(labels).T
    placed = UTKFACE.fill(np.stack(crops), ALIGNED_PX)
    return Sample(np.stack(aligned), placed, ages, genders == 1, np.array(corners))


def raw_outputs(variant: str, faces: NDArray[np.uint8], window: Window) -> tuple[NDArray[np.float32], ...]:
    """Return the outputs of the age and the gender network of `variant`: (N,) years and (N,) 0 (woman) .. 1 (man)."""
    age = load_ssrnet(SHARED / f"weights/ssrnet_{variant}.h5", YEARS)
    gender = load_ssrnet(SHARED / f"weights/ssrnet_{variant}_gender_models.h5", 1)

    def forward(crops: torch.Tensor) -> tuple[torch.Tensor, ...]:
        samples = crops.flip(-1).permute(0, 3, 1, 2).float()
        return age(samples), gender(samples)

    return Runner(forward, batch=BATCH, device="cpu", half=False)(window.cut(faces, SIDE_PX))


def expected_calibration_error(probs: NDArray[np.floating], truth: NDArray[np.bool_], num_bins: int = 15) -> float:
    """Return the mean distance between stated probabilities and frequencies, over bins of equal width."""
    bins = np.minimum((probs * num_bins).astype(int), num_bins - 1)
    gaps = [abs(probs[bins == k].mean() - truth[bins == k].mean()) * np.mean(bins == k) for k in np.unique(bins)]
    return float(np.sum(gaps))


def score(years: NDArray[np.floating], female_probs: NDArray[np.floating], sample: Sample) -> dict[str, float]:
    errors = np.abs(years - sample.ages)
    right = (female_probs > 0.5) == sample.is_female
    adult = sample.ages >= 18
    return {
        "mae": float(errors.mean()),
        "bias": float((years - sample.ages).mean()),
        "cs5": float((errors <= 5).mean()),
        "gender_accuracy": float(right.mean()),
        "adults_mae": float(errors[adult].mean()),
        "adults_gender_accuracy": float(right[adult].mean()),
        "ece": expected_calibration_error(female_probs, sample.is_female),
    }


def fit_constants(sample: Sample) -> dict[str, Any]:
    """Fit the spread of the age error and the calibration of gender, over both variants, on every other face."""
    outputs = [raw_outputs(variant, sample.aligned, SSRNET_WINDOW) for variant in ("imdb", "wiki")]
    years, masculinity = (np.concatenate(each) for each in zip(*outputs, strict=True))
    errors = np.abs(years - np.tile(sample.ages, 2))
    is_female = np.tile(sample.is_female, 2)
    fitted = np.tile(np.arange(len(sample.ages)) % 2 == 0, 2)

    def surprise(line: NDArray[np.floating]) -> float:
        logits = line[0] * (0.5 - masculinity[fitted]) + line[1]
        return float(np.mean(np.logaddexp(0, -(2 * is_female[fitted] - 1) * logits)))

    slope, offset = minimize(surprise, [4.0, 0.0]).x
    calibrated = expit(slope * (0.5 - masculinity) + offset)
    borders = (0, 25, 30, 40, 50, 60, YEARS)
    return {
        "age_std": float(np.quantile(errors[fitted], 0.8) / SPREAD_OF_80),
        "age_std_by_predicted_age": {
            f"{low}..{high}": float(np.quantile(errors[(years >= low) & (years < high)], 0.8) / SPREAD_OF_80)
            for low, high in pairwise(borders)
        },
        "gender_line": [float(slope), float(offset)],
        "ece_before": expected_calibration_error(np.clip(1 - masculinity, 0, 1)[~fitted], is_female[~fitted]),
        "ece_after": expected_calibration_error(calibrated[~fitted], is_female[~fitted]),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--sample", type=int, default=3000, help="faces; 0: all")
    options.add_argument("--windows", action="store_true", help="also compare windows of the aligned face")
    options.add_argument("--json", type=Path)
    chosen = options.parse_args()
    torch.set_num_threads(1)
    sample = read_sample(chosen.sample or None)
    result: dict[str, Any] = {"faces": len(sample.ages), "place": np.median(sample.corners, axis=0).tolist()}
    for variant in ("imdb", "wiki"):
        parts = {
            "age": SHARED / f"weights/ssrnet_{variant}.h5",
            "gender": SHARED / f"weights/ssrnet_{variant}_gender_models.h5",
        }
        estimator = load_estimator("ssrnet", parts, batch=BATCH, device="cpu", half=False)
        for name, faces in {"aligned": sample.aligned, "placed": sample.placed}.items():
            judged = estimator(faces)
            scores = score(judged.ages, judged.female_probs, sample)
            inside = np.abs(judged.ages - sample.ages) <= SPREAD_OF_80 * judged.age_stds
            result[f"{variant}, {name}"] = scores | {"coverage80": float(inside.mean())}
        for window in WINDOWS if chosen.windows else ():
            years, masculinity = raw_outputs(variant, sample.aligned, window)
            result[f"{variant}, {window}"] = score(years, np.clip(1 - masculinity, 0, 1), sample)
    result["constants"] = fit_constants(sample)
    text = json.dumps(result, indent=2)
    print(text)
    if chosen.json:
        chosen.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
