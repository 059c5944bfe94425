"""Measure which part of an aligned face MobileFaceNet should see, and in which colour order, by how well it
verifies.

    python -m tests.bench.mobilefacenet_view [--json FILE]

The faces come from ten clips beside the repository. RetinaFace finds them, and overlap from frame to frame tracks
them. Pairs of the same person are two faces of one track a second or more apart. Pairs of different people are two
faces of one frame or of two clips. The place of SphereFace's template on the aligned face is computed.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.boxes import pairwise_iou
from pipeline.chunk.aligned import ALIGNED_PX
from pipeline.corpora.frames import read_frames
from pipeline.evaluation.reid import normalised
from pipeline.media.faces import TEMPLATE, TEMPLATE_PX, align_face, similarity
from pipeline.models.aligned import UTKFACE, Window
from pipeline.models.face_embedder import FaceEmbedder, View
from pipeline.models.loading import load_face_detector
from pipeline.models.mobilefacenet import HEIGHT_PX, WIDTH_PX
from tests.shared import SHARED

WEIGHTS = SHARED / "weights/MobileFaceNet_Xiaoccer_068.ckpt"
SPHEREFACE = np.array(
    [[30.2946, 51.6963], [65.5318, 51.5014], [48.0252, 71.7366], [33.5493, 92.3655], [62.7299, 92.2041]]
)
"""(5, 2) px of 96x112: eyes, nose, corners of the mouth (github.com/wy1iu/sphereface, preprocess)."""
CLIPS = {
    "meeting.mp4": 2, "talkshow.mp4": 8, "two-friends.mp4": 3, "children.mp4": 4, "dance.avi": 4,
    "multishot-vfr.mp4": 3,
    "arcade.mp4": 4, "street-backlit.mp4": 3, "one-by-one.mp4": 0.7, "multishot-anamorphic.mp4": 2,
}  # fmt: skip
"""Frames per second, by clip."""
MIN_EYES_PX = 14
MIN_IOU = 0.3


def faces_of_clips() -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return (N, 224, 224, 3) aligned faces, and their clips, tracks and times in s."""
    path = SHARED / "weights/mobilenet0.25_Final.pth"
    detector = load_face_detector(
        "retinaface-mobile0.25", {"path": path}, input_px=960, batch=1, min_score=0.8, device="cpu", half=False
    )
    aligned, rows, num_tracks = [], [], 0
    for clip, (name, per_second) in enumerate(CLIPS.items()):
        boxes, tracks = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
        for number, picture in enumerate(read_frames(SHARED / "clips" / name, per_second=per_second, long_side=1280)):
            (found,) = detector([picture])
            found = found[np.linalg.norm(found.landmarks[:, 0] - found.landmarks[:, 1], axis=1) >= MIN_EYES_PX]
            overlaps = pairwise_iou(found.boxes, boxes)
            same = overlaps.max(axis=1, initial=0) > MIN_IOU
            now = np.array([tracks[row.argmax()] if known else -1 for row, known in zip(overlaps, same, strict=True)])
            now[~same] = num_tracks + np.arange((~same).sum())
            num_tracks += int((~same).sum())
            boxes, tracks = found.boxes, now.astype(np.int64)
            aligned += [align_face(picture, landmark, ALIGNED_PX, bicubic=True) for landmark in found.landmarks]
            rows += [(clip, track, number / per_second) for track in tracks]
    clips, tracks, times_s = np.array(rows).T
    return np.stack(aligned), clips.astype(np.int64), tracks.astype(np.int64), times_s


def area_under_curve(
    vectors: NDArray[np.float32], clips: NDArray[np.int64], tracks: NDArray[np.int64], times_s: NDArray[np.float64]
) -> float:
    """Return the probability that two faces of one person are more similar than two faces of two people."""
    one, other = np.triu_indices(len(vectors), 1)
    alike = np.sum(vectors[one] * vectors[other], axis=1)
    one_clip = clips[one] == clips[other]
    same = one_clip & (tracks[one] == tracks[other]) & (np.abs(times_s[one] - times_s[other]) >= 1)
    different = ~one_clip | ((times_s[one] == times_s[other]) & (tracks[one] != tracks[other]))
    return float(np.searchsorted(np.sort(alike[different]), alike[same]).mean() / different.sum())


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--json", type=Path)
    chosen = options.parse_args()
    torch.set_num_threads(1)
    faces, clips, tracks, times_s = faces_of_clips()
    corners = np.array([[0, 0, 1], [WIDTH_PX, HEIGHT_PX, 1]]) @ similarity(SPHEREFACE, TEMPLATE / TEMPLATE_PX).T
    left, top, right, bottom = corners.ravel().tolist()
    wide, high = 0.05 * (right - left), 0.05 * (bottom - top)
    windows = {
        "template": Window(left, top, right, bottom),
        "a tenth more": Window(left - wide, top - high, right + wide, bottom + high),
        "a tenth less": Window(left + wide, top + high, right - wide, bottom - high),
        "up": Window(left, top - 0.04, right, bottom - 0.04),
        "down": Window(left, top + 0.04, right, bottom + 0.04),
        "UTKFace's": UTKFACE,
    }
    result: dict[str, object] = {"faces": len(faces), "template": corners.round(3).tolist()}
    for name, window in windows.items():
        embedder = FaceEmbedder(WEIGHTS, batch=32, device="cpu", half=False, view=View(window, 128.0))
        for order, shown in (("RGB", faces), ("BGR", np.ascontiguousarray(faces[..., ::-1]))):
            result[f"{name}, {order}"] = round(area_under_curve(normalised(embedder(shown)), clips, tracks, times_s), 4)
    text = json.dumps(result, indent=1)
    print(text)
    if chosen.json:
        chosen.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
