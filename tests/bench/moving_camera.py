"""Measure the value of giving the camera's motion to the tracker, on MOT sequences filmed again by a moving camera.

    python -m tests.bench.moving_camera [--config FILE …] [--set KEY=VALUE …] [--cache DIR] [--cameras NAME …]

A window of .6 of the picture's width moves over the picture. The observations in the whole picture (--cache of
tests.bench.tracking_on_mot) and the truth are seen through the window. Boxes of which less than .4 is inside are
left out. The camera's motion is estimated from the pixels in the window, as observe does. "whole" is the picture as
it is.
"""

import argparse
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.config import load
from pipeline.cores.plan import NS, analysed, exact
from pipeline.corpora.mot import MotRows, read_mot
from pipeline.evaluation.tracking import Pair, score
from pipeline.media.camera import camera_motion
from tests.bench.tracking_on_mot import (
    MOT,
    TRACKERS,
    Observed,
    counted,
    follow,
    kept,
    line,
    of_tracker_alone,
    size_of,
)

VIEW, LEAST_INSIDE = 0.6, 0.4
Motions = list[list[float] | None]
CAMERAS = ("whole", "still", "slow pan", "fast pan", "shake", "zoom", "all")


def matrices(camera: str, times_s: NDArray[np.float64], width: int, height: int) -> NDArray[np.float64]:
    """Return (F, 2, 3) transforms from px of the picture to px of the window."""
    if camera == "whole":
        return np.tile(np.eye(2, 3), (len(times_s), 1, 1))
    rng = np.random.default_rng(1)

    def shake(size: float, fastest_hz: float) -> NDArray[np.float64]:
        waves = rng.uniform(0.3, fastest_hz, (12, 1)) * times_s * 2 * np.pi + rng.uniform(0, 2 * np.pi, (12, 1))
        return size * np.sqrt(2 / 12) * np.sin(waves).sum(axis=0)

    period_s = {"slow pan": 20, "all": 20, "fast pan": 4}.get(camera)
    x = 0.9 * np.sin(2 * np.pi * times_s / period_s) if period_s else 0 * times_s
    shakes = camera in ("shake", "all")
    x, y, angle = (x + shake(0.1, 3), shake(0.1, 3), np.deg2rad(shake(1, 2))) if shakes else (x, 0 * x, 0 * x)
    zoom = 1.25 + 0.25 * np.sin(2 * np.pi * times_s / 8) if camera in ("zoom", "all") else 1 + 0 * x
    turn = zoom * np.exp(1j * angle)
    free = (1 - VIEW) / 2 * 0.95
    centre = width * (0.5 + free * np.clip(x, -1, 1)) + 1j * height * (0.5 + free * np.clip(y, -1, 1))
    shift = VIEW * complex(width, height) / 2 - turn * centre
    rows = [[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]]
    return np.moveaxis(np.array(rows), 2, 0)


def seen(boxes: NDArray[np.float32], moves: NDArray[np.float64], size: tuple[int, int]) -> tuple[NDArray, NDArray]:
    """Return (N, 4) boxes as seen through the windows of `moves`, (N, 2, 3), and which of them are inside."""
    centres, halves = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    halves = halves * np.sqrt(np.linalg.det(moves[:, :, :2]))[:, None]
    centres = np.einsum("nij,nj->ni", moves[:, :, :2], centres) + moves[:, :, 2]
    whole = np.concatenate([centres - halves, centres + halves], axis=1)
    inside = whole.clip(0, [*size, *size])
    areas = [(each[:, 2] - each[:, 0]) * (each[:, 3] - each[:, 1]) for each in (inside, whole)]
    return inside.astype(np.float32), areas[0] >= LEAST_INSIDE * areas[1]


def motions(video: Path, moves: NDArray[np.float64], size: tuple[int, int], grid: set[int], px: int) -> Motions:
    """Return (F,) motions as in rows.FRAME, and print the cost of an estimate."""
    capture, scale = cv2.VideoCapture(str(video)), px / max(size)
    found: Motions = [None] * len(moves)
    costs, earlier = [], None
    for frame, matrix in enumerate(moves):
        picture = capture.read()[1]
        if frame not in grid:
            continue
        view = cv2.resize(cv2.warpAffine(picture, matrix, size), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        later = np.ascontiguousarray(cv2.cvtColor(view, cv2.COLOR_BGR2HSV)[..., 2])
        if earlier is not None:
            begun_s = time.thread_time()
            similarity = camera_motion(earlier, later)
            costs.append(1e3 * (time.thread_time() - begun_s))
            if similarity is not None:
                found[frame - 1] = [*similarity[:, 0].tolist(), *(similarity[:, 2] / scale).tolist()]
        earlier = later
    print(
        f"{video.stem}: {np.mean(costs):.1f} ms a pair, {sum(move is not None for move in found)} of {len(costs)} move"
    )
    return found


def main() -> None:
    """Print a row for each camera and tracker, without and with the camera's motion."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, action="append")
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--cameras", nargs="+", choices=CAMERAS, default=CAMERAS)
    parser.add_argument("--trackers", nargs="+", choices=TRACKERS, default=["occluboost", "bytetrack"])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    files = arguments.config or [Path(__file__).parents[1] / "conf" / "shared-weights.yaml"]
    config = load(files, arguments.settings)
    fps, px = config.observe.fps, config.observe.thumbnail_px
    for camera in arguments.cameras:
        views: dict[str, tuple[Observed, MotRows, tuple[int, int], Motions]] = {}
        for video in sorted(MOT.glob("*/*.mp4")):
            observed = kept(video, config, arguments.cache)
            truth = counted(read_mot(video.parent / "gt.txt"))
            width, height = size_of(video)
            moves = matrices(camera, observed.times_ns / 1e9, width, height)
            size = (width, height) if camera == "whole" else (round(VIEW * width), round(VIEW * height))
            times_s = [Fraction(int(time_ns), NS) for time_ns in observed.times_ns]
            grid = set(analysed(times_s, exact(config.chunk.cell_seconds), exact(fps)))
            moved = motions(video, moves, size, grid, px)
            boxes, inside = seen(observed.boxes, moves[observed.frames], size)
            through = replace(observed, boxes=boxes)
            columns = {name: getattr(through, name)[inside] for name in ("frames", "boxes", "scores", "bodies")}
            boxes, inside = seen(truth.boxes, moves[truth.frames - 1], size)
            views[video.stem] = replace(through, **columns), replace(truth, boxes=boxes)[inside], size, moved
        for tracker in arguments.trackers:
            own = [f"track.tracker={tracker}", f"track.min_score={TRACKERS[tracker]}"]
            chosen = load(files, [*own, *arguments.settings])
            for told in (False, True):
                kinds = {"bare": of_tracker_alone(chosen), "linked": chosen}
                for kind, config in kinds.items():
                    pairs = {}
                    for name, (observed, truth, size, moved) in views.items():
                        found, tracklets, _ = follow(observed, size, config, fps, moved if told else None)
                        found = replace(found, ids=tracklets) if kind == "bare" else found
                        pairs[name] = Pair.of_all_frames(found, truth)
                    pooled = line(score(pairs)["pooled"])
                    print(f"{camera:9s} {tracker:10s} {'told' if told else 'untold':6s} {kind:6s} {pooled}", flush=True)


if __name__ == "__main__":
    main()
