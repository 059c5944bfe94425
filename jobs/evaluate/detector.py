"""`rollcall evaluate detector`: measure how well a detector finds labelled people or faces."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.progress import track
from rich.table import Table

from jobs.cli.console import console, say
from jobs.cli.options import STARTER, ConfigFiles, Profile, Settings
from jobs.shared.checks import decide_device
from pipeline.arrays import Detections, Picture
from pipeline.config import load
from pipeline.corpora.frames import frames_of, list_pictures, read_rgb
from pipeline.corpora.people import Truth, read_truth_csv, read_truth_mot
from pipeline.errors import UserError, absent
from pipeline.evaluation.detector import Matches, curve, figures, intervals, match
from pipeline.models.loading import Loader
from pipeline.storage.blobs import fetch
from pipeline.weights import Registry
from pipeline.weights.kinds import kinds_of

STARTER_ENTRY = "starter-person"
AP_MIN_SCORE = 0.01
"""Boxes with a lower score do not count, not even for average precision."""

Find = Callable[[Picture], Detections]


def detector(
    images: Annotated[
        Path, typer.Option(help="Folder of pictures, or a video with a --gt in MOT format.", show_default=False)
    ],
    gt: Annotated[
        Path, typer.Option(help="A CSV with image,xmin,ymin,xmax,ymax; or a .txt in MOT format.", show_default=False)
    ],
    detector: Annotated[
        list[str],
        typer.Option(help="A registry entry that detects people or faces, or starter. Repeat it.", show_default=False),
    ],
    threshold: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="The working threshold. Default: track.min_score, for faces faces.min_score."),
    ] = None,
    every: Annotated[int, typer.Option(min=1, help="Use every N-th frame of a --gt in MOT format.")] = 1,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
    resamples: Annotated[
        int, typer.Option(min=0, help="Resamples of the bootstrap over pictures; 0: no intervals.")
    ] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 0,
    config: ConfigFiles = None,
    settings: Settings = None,
    profile: Profile = STARTER,
) -> None:
    """Detect people or faces in labelled pictures, and measure how many boxes are right or missed at IoU 0.5.

    Pictures without rows in --gt are empty: every detection in them is wrong.
    """
    names, pictures, truth = _labelled(images, gt, every)
    results: dict[str, Any] = {}
    for name in dict.fromkeys(STARTER_ENTRY if entry == "starter" else entry for entry in detector):
        find, default = _finder(name, config, settings, profile)
        working = default if threshold is None else threshold
        matches, frames_per_s = _measure(
            find,
            track(_checked(pictures(), names, truth, gt), name, len(truth), console=console, transient=True),
            truth,
        )
        results[name] = {
            "threshold": working,
            "pooled": {**asdict(figures(matches, working)), "frames_per_s": round(frames_per_s, 2)},
        }
        results[name]["curve"] = curve(matches)
        if resamples:
            results[name]["intervals"] = intervals(matches, working, resamples=resamples, seed=seed)
    _show(results, len(names), sum(len(labels.boxes) for labels in truth))
    if json_file:
        counts = {"pictures": len(names), "boxes": sum(len(labels.boxes) for labels in truth)}
        first, *others = results
        report = {"detector": first, **counts, **results[first]}
        report |= {"others": {name: results[name] for name in others}} if others else {}
        json_file.write_text(json.dumps(report, indent=1) + "\n")


def _labelled(images: Path, gt: Path, every: int) -> tuple[list[str], Callable[[], Iterator[Picture]], list[Truth]]:
    """Return the names of every `every`-th picture or frame, a function that reads them one by one, and the labels of
    each."""
    for path, option in ((images, "--images"), (gt, "--gt")):
        if not path.exists():
            raise absent(path, "file or folder", f"correct {option}")
    in_mot_form = gt.suffix.lower() == ".txt"
    if images.is_dir():
        paths = list_pictures(images)
        if not in_mot_form:
            truth = read_truth_csv(gt, [path.name for path in paths])
        else:
            truth = _of_length(read_truth_mot(gt), len(paths), gt, images)[::every]
            paths = paths[::every]
        return [path.name for path in paths], lambda: (read_rgb(path) for path in paths), truth
    if not in_mot_form:
        raise UserError(f"{images} is no folder; --images must be a folder of pictures if --gt is a CSV")
    count = sum(1 for _ in frames_of(images))
    truth = _of_length(read_truth_mot(gt), count, gt, images)[::every]
    names = [str(index) for index in range(1, count + 1, every)]
    return names, lambda: islice(frames_of(images), 0, None, every), truth


def _of_length(truth: list[Truth], count: int, gt: Path, images: Path) -> list[Truth]:
    if len(truth) > count:
        raise UserError(
            f"{gt} has boxes in frame {len(truth)}, {images} only {count} frames; they do not belong together"
        )
    empty = Truth(np.zeros((0, 4), np.float32), np.zeros((0, 4), np.float32))
    return [*truth, *[empty] * (count - len(truth))]


def _finder(name: str, config: ConfigFiles, settings: Settings, profile: Profile) -> tuple[Find, float]:
    """Return a detector of the registry as a function, and its working threshold in the pipeline."""
    entry = Registry.of(load(config or [], settings or [], profile), fetch).entry(name)
    face_kinds = kinds_of("look")
    is_of_faces = entry.kind in face_kinds
    person_kinds = kinds_of("detector")
    if not is_of_faces and entry.kind not in person_kinds:
        raise UserError(
            f"--detector must be of kind {' or '.join(person_kinds)}, or of a kind that detects faces "
            f"({', '.join(face_kinds)}); {name} is of kind {entry.kind}"
        )
    usual = load(config or [], settings or [], profile)
    role = "candidates.look" if is_of_faces else "observe.detector.weights"
    score = "candidates.look_score" if is_of_faces else "observe.detector.min_score"
    # A face detector gets whole pictures at the input size of the person detector.
    knobs = [f"{role}={name}", f"{score}={AP_MIN_SCORE}", f"candidates.look_px={usual.observe.detector.image_size}"]
    chosen = decide_device(load(config or [], [*(settings or []), *knobs], profile))
    loader = Loader(chosen, Registry.of(chosen, fetch))
    if not is_of_faces:
        people = loader.person_detector()
        return lambda picture: people([picture], alone=True)[0], usual.track.min_score
    face_detector = loader.face_check()
    assert face_detector is not None

    def find(picture: Picture) -> Detections:
        faces = face_detector([picture])[0]
        return Detections(faces.boxes, faces.scores)

    return find, usual.faces.min_score


def _checked(pictures: Iterable[Picture], names: Sequence[str], truth: Sequence[Truth], gt: Path) -> Iterator[Picture]:
    """Yield the pictures. Raises UserError for a labelled box outside of its picture, which nobody could find."""
    for picture, name, labels in zip(pictures, names, truth, strict=True):
        height, width = picture.shape[:2]
        left, top, right, bottom = labels.boxes.T
        if ((left >= width) | (top >= height) | (right <= 0) | (bottom <= 0)).any():
            raise UserError(
                f"{gt} has a box outside of the picture {name}, which has {width}x{height} px; correct it, or give the "
                "pictures that were labelled"
            )
        yield picture


def _measure(find: Find, pictures: Iterable[Picture], truth: Sequence[Truth]) -> tuple[list[Matches], float]:
    """Match the detections in each picture with its labels, and measure pictures a second, without reading and
    warm-up."""
    matches: list[Matches] = []
    seconds = 0.0
    for picture, labels in zip(pictures, truth, strict=True):
        if not matches:
            find(picture)  # the first call with a shape is slow
        start = time.perf_counter()
        detections = find(picture)
        seconds += time.perf_counter() - start
        matches.append(match(detections, labels.boxes, labels.ignored))
    return matches, len(matches) / seconds


def _show(results: dict[str, Any], num_pictures: int, num_boxes: int) -> None:
    say(f"{num_pictures} pictures, {num_boxes} boxes")
    table = Table("detector", "threshold", "AP50", "AP", "precision", "recall", "frames/s", box=None, pad_edge=False)
    for name, result in results.items():
        cells = [name, f"{result['threshold']:g}"]
        for key in ("ap50", "ap", "precision", "recall"):
            low_high = result.get("intervals", {}).get(key)
            interval = f" [{low_high[0]:.3f}, {low_high[1]:.3f}]" if low_high else ""
            cells.append(f"{result['pooled'][key]:.3f}{interval}")
        table.add_row(*cells, f"{result['pooled']['frames_per_s']:.1f}")
    console.print(table)
