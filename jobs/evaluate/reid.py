"""`rollcall evaluate reid`: measure how well body embedders tell people apart."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.table import Table

from jobs.cli.console import console
from jobs.cli.options import STARTER, ConfigFiles, Profile, Settings
from jobs.shared.pictures import read_picture
from pipeline.arrays import Picture
from pipeline.config import load
from pipeline.corpora import cuhk03
from pipeline.corpora.frames import PICTURE_SUFFIXES
from pipeline.corpora.mot import read_mot
from pipeline.errors import UserError, absent
from pipeline.evaluation import reid as evaluation
from pipeline.interfaces import BodyEmbedder
from pipeline.media.decode import SpanDecoder
from pipeline.media.probing import probe
from pipeline.models.loading import WHOLE, load_model, naming
from pipeline.storage.blobs import fetch
from pipeline.training.loop import use_threads
from pipeline.weights import LISTED, Registry
from pipeline.weights.kinds import kinds_of

STARTER_ENTRY = "starter-body"
BATCH = 32
NS = 1e9
SHOWN = {"rank1": "rank-1", "map": "mAP", "auc": "AUC"}


def reid(
    weights: Annotated[list[str], typer.Option(help="A registry entry that embeds bodies, or starter. Repeat it.")],
    people: Annotated[Path | None, typer.Option(help="Folder of crops named person_index.jpg, as in CUHK03.")] = None,
    held_out: Annotated[
        int, typer.Option(min=0, help="Use only the people that `train reid` held out; 0: all people.")
    ] = 100,
    video: Annotated[
        list[Path] | None, typer.Option(help="A video, or a folder of frames in order of name. Repeat it.")
    ] = None,
    truth: Annotated[list[Path] | None, typer.Option(help="Tracks in MOT format, one file for each --video.")] = None,
    per_second: Annotated[float, typer.Option(min=0.001, help="Frames per second of folders of frames.")] = 1.0,
    gap_s: Annotated[float, typer.Option(min=0, help="Least seconds between two crops that are compared.")] = 1.0,
    covered: Annotated[
        float, typer.Option(min=0, max=1, help="Ignore boxes of which another box covers more than this share.")
    ] = 1.0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
    resamples: Annotated[int, typer.Option(min=0, help="Resamples of the bootstrap; 0: no intervals.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of torch.")] = 1,
    config: ConfigFiles = None,
    settings: Settings = None,
    profile: Profile = STARTER,
) -> None:
    """Rank people across two cameras, and compare crops within videos with labelled tracks."""
    use_threads(threads)
    if people is None and not video:
        raise UserError("there is nothing to measure; give --people, or --video and --truth")
    if len(video or []) != len(truth or []):
        raise UserError(f"got {len(video or [])} --video and {len(truth or [])} --truth; give one of each per video")
    registry = Registry.of(load(config or [], settings or [], profile), fetch)
    measured: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(STARTER_ENTRY if entry == "starter" else entry for entry in weights):
        entry = registry.entry(name)
        if entry.kind not in kinds_of("body"):
            kinds = " or ".join(kinds_of("body"))
            raise UserError(f"--weights must be of kind {kinds}, {name} is of kind {entry.kind}; {LISTED}")
        files = {WHOLE: registry.path(name)}
        with naming(name):
            embedder = load_model(entry.kind, files, entry.options, batch=BATCH, device="cpu", half=False)
        rng = np.random.default_rng(seed)
        figures: dict[str, Any] = {"sha256": registry.sha256(name), "pooled": {}}
        if people is not None:
            figures["cameras"] = _over_cameras(embedder, people, held_out, resamples, rng)
            figures["pooled"] |= figures["cameras"]["first_to_second"]
        video_names = [path.name for path in video or []]
        pairs = {
            f"{number}:{path.name}" if video_names.count(path.name) > 1 else path.name: _pairs(
                embedder, path, tracks, per_second, gap_s, covered
            )
            for number, (path, tracks) in enumerate(zip(video or [], truth or [], strict=True))
        }
        if pairs:
            figures["videos"] = evaluation.auc_figures(pairs, resamples=resamples, rng=rng)
            figures["pooled"] |= figures["videos"].pop("pooled")
        measured[name] = figures
    _show(measured)
    if json_file:
        first = next(iter(measured.values()))
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps({"pooled": first["pooled"], "embedders": measured}, indent=1) + "\n")


def _over_cameras(
    embedder: BodyEmbedder, folder: Path, held_out: int, resamples: int, rng: np.random.Generator
) -> dict[str, dict[str, object]]:
    crops = cuhk03.load(folder)
    if held_out:
        crops = crops[np.isin(crops.people, [*cuhk03.held_out(crops.people, held_out)])]
    pictures = (read_picture(path) for path in crops.paths)
    squashed = [
        embedder.crops(picture, np.array([[0, 0, picture.shape[1], picture.shape[0]]], np.float32))
        for picture in pictures
    ]
    vectors = embedder(np.concatenate(squashed))
    cameras = crops.cameras
    protocols = {"first_to_second": (cameras == 0, cameras == 1), "all": (cameras >= 0, cameras >= 0)}
    return {
        name: evaluation.ranking_figures(
            evaluation.rank(vectors, crops.people, cameras, queries=queries, gallery=gallery),
            resamples=resamples,
            rng=rng,
        )
        for name, (queries, gallery) in protocols.items()
    }


def _pairs(
    embedder: BodyEmbedder, video: Path, truth: Path, per_second: float, gap_s: float, covered: float
) -> evaluation.Pairs:
    rows = read_mot(truth)
    rows = rows[rows.counts]
    rows = rows[np.argsort(rows.frames, kind="stable")]
    frames, tracks, boxes = rows.frames, rows.ids, rows.boxes
    kept = evaluation.cover(frames, boxes) <= covered
    parts: list[NDArray[np.float32]] = []
    times_s = np.zeros(len(frames))
    for number, (time_s, picture) in enumerate(_frames(video, per_second), start=1):
        here = kept & (frames == number)
        if here.any():
            parts.append(embedder(embedder.crops(picture, boxes[here])))
            times_s[here] = time_s
        if number >= frames.max(initial=0):
            break
    vectors = np.concatenate([np.zeros((0, 1), np.float32), *parts]) if not parts else np.concatenate(parts)
    if len(vectors) != kept.sum():
        raise UserError(
            f"{truth} has boxes in frame {frames.max()}, and {video} has fewer frames; "
            "give the video that the tracks belong to"
        )
    return evaluation.count_pairs(vectors, tracks[kept], times_s[kept], min_gap_s=gap_s)


def _frames(video: Path, per_second: float) -> Iterator[tuple[float, Picture]]:
    """Yield each frame with its time in seconds."""
    if video.is_dir():
        for number, path in enumerate(sorted(file for file in video.iterdir() if file.suffix in PICTURE_SUFFIXES)):
            yield number / per_second, read_picture(path)
        return
    if not video.is_file():
        raise absent(video, "video")
    facts = probe(lambda: str(video))
    decoder = SpanDecoder(lambda: str(video), facts, 0, -1, fps=0, cell_seconds=1, thumbnail_px=64, threads=1)
    for frame in decoder:
        if frame.picture is not None:
            yield frame.time_ns / NS, frame.picture


def _show(measured: dict[str, dict[str, Any]]) -> None:
    """Print a row with 95 % intervals for each embedder and for each of its videos."""
    table = Table("embedder", "", *(name for name in SHOWN.values()), box=None, pad_edge=False)
    for embedder, figures in measured.items():
        for name, part in {"pooled": figures["pooled"], **figures.get("videos", {})}.items():
            table.add_row(embedder if name == "pooled" else "", name, *(_share(part, key) for key in SHOWN))
    console.print(table)


def _share(figures: dict[str, Any], key: str) -> str:
    if key not in figures:
        return ""
    low, high = figures.get(f"{key}_interval") or (None, None)
    return f"{figures[key]:.3f}" if low is None else f"{figures[key]:.3f} ({low:.3f}–{high:.3f})"
