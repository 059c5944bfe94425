"""How well SSR-Net judges UTKFace, what window of the aligned face suits it, and the constants of its estimator.

    python -m tests.bench.ssrnet_on_utkface [--sample 3000] [--json FILE]

Every face is aligned as the pipeline aligns it (five landmarks of RetinaFace onto the FFHQ template, 224 px). UTKFace's
pictures end at the face, so they are first widened by repeating their border, as IMDB-WIKI's were. Constants are fitted
on every other face and checked on the rest.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from pipeline.media.faces import TEMPLATE, align_face, similarity
from pipeline.models.aligned import Window
from pipeline.models.estimator import SsrNetEstimator
from pipeline.models.face_detector import load_face_detector
from tests.shared import SHARED

ALIGNED_PX = 224
WIDENED = 0.8
"""Of a picture's side, added on each side before alignment."""
FIT_STEPS = 15


@dataclass(frozen=True, slots=True)
class Sample:
    """faces: (N, 224, 224, 3) aligned. crops: (N, 160, 160, 3) as UTKFace has them. ages: (N,). is_female: (N,).
    corners: (N, 2, 2) where the picture's left upper and right lower corner lie in the aligned face, 0..1."""

    faces: NDArray[np.uint8]
    crops: NDArray[np.uint8]
    ages: NDArray[np.int64]
    is_female: NDArray[np.bool_]
    corners: NDArray[np.float64]


def read_sample(size: int) -> tuple[Sample, int]:
    """`size` faces of UTKFace, chosen by a fixed seed, and how many of them RetinaFace did not find."""
    paths = sorted(path for path in (SHARED / "datasets/UTKFace").iterdir() if len(path.name.split("_")) >= 3)
    chosen = np.random.default_rng(0).permutation(len(paths))[:size]
    detector = load_face_detector(
        "retinaface-mobile0.25",
        SHARED / "weights/mobilenet0.25_Final.pth",
        input_px=320,
        batch=8,
        min_score=0.5,
        device="cpu",
        half=False,
    )
    faces, crops, labels, corners = [], [], [], []
    for index in chosen:
        path = paths[index]
        crop = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        margin = round(WIDENED * len(crop))
        wide = cv2.copyMakeBorder(crop, margin, margin, margin, margin, cv2.BORDER_REPLICATE)
        found = detector([wide])[0]
        if not len(found):
            continue
        best = np.argmin(np.linalg.norm(found.landmarks.mean(axis=1) - len(wide) / 2, axis=1))
        landmarks = found.landmarks[best]
        matrix = similarity(landmarks, TEMPLATE / 512)
        ends = np.array([[margin, margin, 1], [margin + len(crop), margin + len(crop), 1]])
        corners.append(ends @ matrix.T)
        faces.append(align_face(wide, landmarks, ALIGNED_PX))
        crops.append(crop)
        labels.append([int(part) for part in path.name.split("_")[:2]])
    ages, genders = np.array(labels).T
    return Sample(np.stack(faces), np.stack(crops), ages, genders == 1, np.array(corners)), len(chosen) - len(faces)
