"""`rollcall evaluate tracking`: measure how well people are tracked, against a ground truth or another output."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import typer
from numpy.typing import NDArray
from rich.table import Column, Table

from jobs.cli.console import console, say
from jobs.cli.options import ConfigFiles, Identity, Ids
from jobs.shared.extras import missing_package
from pipeline.config import load
from pipeline.cores.analysed import analysed_frames, frame_times
from pipeline.corpora.mot import MotRows, not_mot, parse_mot
from pipeline.errors import UserError
from pipeline.evaluation.tracking import Figures, Pair, score
from pipeline.storage.blobs import fetch
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.tables import row_groups

TEXT_SUFFIX = ".txt"
PLAIN_NAMES = {"gt", "det"}
"""A MOT text with such a name, or in a folder with such a name, is named after the folder above it, as in
MOTChallenge's layout."""
COLUMNS = {
    "hota": "HOTA",
    "deta": "DetA",
    "assa": "AssA",
    "idf1": "IDF1",
    "mota": "MOTA",
    "id_switches": "sw.",
    "b_cubed_precision": "B³ P",
    "b_cubed_recall": "B³ R",
}
"""Headers of the printed figures. The file of --json has all figures."""


class Frames(StrEnum):
    """The frames of outputs that are judged."""

    ANALYSED = "analysed"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Text:
    """A MOT text: the tracks of one video, in which every frame was analysed.

    place: path or URI.
    """

    place: str
    rows: MotRows

    @property
    def name(self) -> str:
        """The name of its video: of the file, or of the first folder above it that is not called gt or det."""
        path = PurePosixPath(self.place if "://" in self.place else Path(self.place).resolve().as_posix())
        names = [path.stem, *reversed(path.parent.parts)]
        return next(name for name in names if name not in PLAIN_NAMES)


@dataclass(frozen=True, slots=True)
class Output:
    """An output of `process`.

    place: path or URI.
    ids: the IDs that are compared.
    frames: the frames on which its videos are judged.
    """

    place: str
    index: OutputIndex
    ids: Identity
    frames: Frames

    def name(self, video_id: str) -> str:
        """Return the name of a video: that of its first source."""
        return self.index.file_names(video_id)[0]

    def video_of(self, text: Text) -> str:
        """Return the ID of a text's video: the video of its name, or the only one. Raises UserError."""
        done = self.index.done()
        names = {video_id: self.index.file_names(video_id) for video_id in done}
        matching = [
            video_id for video_id in done if text.name in {PurePosixPath(name).stem for name in names[video_id]}
        ]
        if len(matching) == 1 or len(done) == 1:
            return (matching or done)[0]
        raise UserError(
            f"{self.place} holds {len(done)} videos, {len(matching)} of them named {text.name}; put {text.place} into "
            "a folder with the name of its video"
        )

    def video(self, video_id: str) -> tuple[MotRows, NDArray[np.int64]]:
        """Return the rows of a video, and the frames on which it is judged."""
        columns = ["frame_num", "time_s", "interpolated", f"{self.ids}_id"]
        columns += ["bb_xmin", "bb_ymin", "bb_width", "bb_height"]
        with row_groups(self.index.store, f"detections/{video_id}.parquet") as groups:
            table = pa.concat_tables([group.select(columns) for group in groups])
        left, top, width, height = (table[name].to_numpy() for name in columns[4:])
        boxes = np.stack([left, top, left + width, top + height], axis=1).astype(np.float32)
        frames, ids = (table[name].to_numpy() for name in ("frame_num", f"{self.ids}_id"))
        rows = MotRows(frames, ids, boxes, np.ones(len(ids), np.bool_))
        if self.frames is Frames.ANALYSED:
            return rows, self._analysed(video_id, table)
        return rows, np.arange(1, self.num_frames(video_id) + 1)

    def num_frames(self, video_id: str) -> int:
        """Return the number of frames of a video."""
        return int(self.index.videos[video_id]["num_frames"])

    def _analysed(self, video_id: str, table: pa.Table) -> NDArray[np.int64]:
        """Return the frames on the grid of the run's configuration, and the frames with detected boxes."""
        row = self.index.videos[video_id]
        run: dict[str, Any] = {}
        if self.index.store.exists("run.json"):
            run = json.loads(self.index.store.read("run.json"))
        if run.get("config_id") != row["config_id"]:
            raise UserError(
                f"{self.place}: run.json is not of the run that analysed {row['uri']}, so its analysed frames are "
                "unknown; choose --frames all"
            )
        knobs = run["configuration"]
        frames = table["frame_num"].to_numpy()
        times_s = frame_times(
            frames, table["time_s"].to_numpy(), num_frames=self.num_frames(video_id), duration_s=row["duration_s"]
        )
        grid = analysed_frames(times_s, cell_seconds=knobs["chunk"]["cell_seconds"], fps=knobs["observe"]["fps"])
        return np.union1d(grid, frames[~table["interpolated"].to_numpy().astype(np.bool_)])


def tracking(
    result: Annotated[list[str], typer.Option(help="An output, or a MOT text (.txt). Repeat it.", show_default=False)],
    reference: Annotated[
        list[str],
        typer.Option(help="The truth: a MOT text (gt.txt) or an output, one for each --result.", show_default=False),
    ],
    ids: Ids = Identity.PERSON,
    frames: Annotated[
        Frames,
        typer.Option(
            help="Frames of outputs to judge. all: interpolated boxes count too. analysed: only frames that both sides "
            "analysed (observe.fps)."
        ),
    ] = Frames.ALL,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
    config: ConfigFiles = None,
) -> None:
    """Compare tracks with a ground truth or another output: HOTA, DetA, AssA, IDF1, MOTA, B-cubed.

    Frame k of a MOT text is the k-th displayed frame of the video, from 1. Rows of a reference with a 0 in the
    seventh column do not count, and boxes that match them are left out. A text is compared with the output's video
    of the same name as the text or its folder, or with its only video. Two outputs are compared on the videos that
    both hold.
    """
    load(config or [])  # only checked here: every evaluation takes --config
    if len(result) != len(reference):
        raise UserError(f"got {len(result)} --result and {len(reference)} --reference; give as many of each")
    pairs: dict[str, Pair] = {}
    for number, (result_place, reference_place) in enumerate(zip(result, reference, strict=True), start=1):
        for name, pair in _compared(_opened(result_place, ids, frames), _opened(reference_place, ids, frames)):
            pairs[f"{number}:{name}" if name in pairs else name] = pair
    try:
        figures = score(pairs)
    except ImportError as error:
        raise missing_package(error) from error
    pooled = figures.pop("pooled")
    _show({**figures, "pooled": pooled})
    if json_file:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        options = {"ids": ids, "frames": frames}
        json_file.write_text(json.dumps({**options, "pooled": pooled, "videos": figures}, indent=1) + "\n")


def _opened(place: str, ids: Identity, frames: Frames) -> Text | Output:
    """Open a MOT text or an output. Raises UserError."""
    if not place.lower().endswith(TEXT_SUFFIX) and not os.path.isfile(place):
        return Output(place, OutputIndex.open(place), ids, frames)
    try:
        return Text(place, parse_mot(b"".join(fetch(place)).decode()))
    except (OSError, ValueError) as error:
        raise not_mot(place, error) from None


def _compared(result: Text | Output, reference: Text | Output) -> Iterator[tuple[str, Pair]]:
    """Yield each video that both sides hold, with its name. Raises UserError."""
    if isinstance(result, Text):
        _check(result.place, result.rows)
    if isinstance(reference, Text):
        counting = reference.rows[reference.rows.counts]
        _check(reference.place, counting)
        if not len(counting):
            raise UserError(f"{reference.place} has no row that counts; rows that count need a 1 in the seventh column")
    match result, reference:
        case Text(), Text():
            yield reference.name, Pair.of_all_frames(result.rows, reference.rows)
        case Output(), Text():
            name, rows, frames = _of_text(result, reference)
            yield name, Pair(rows, reference.rows, frames)
        case Text(), Output():
            name, rows, frames = _of_text(reference, result)
            yield name, Pair(result.rows, rows, frames)
        case Output(), Output():
            yield from _common(result, reference)


def _check(place: str, rows: MotRows) -> None:
    keys, counts = np.unique(np.stack([rows.frames, rows.ids]), axis=1, return_counts=True)
    if (counts > 1).any():
        frame, name = keys[:, counts > 1][:, 0]
        raise UserError(f"{place} has the id {name} twice in frame {frame}; give every box of a frame a different id")


def _of_text(output: Output, text: Text) -> tuple[str, MotRows, NDArray[np.int64]]:
    """Return name, rows and frames of a text's video in an output. Raises UserError."""
    video_id = output.video_of(text)
    last, num_frames = text.rows.frames.max(initial=0), output.num_frames(video_id)
    if last > num_frames:
        raise UserError(
            f"{text.place} has boxes in frame {last}, {output.name(video_id)} in {output.place} only {num_frames} "
            "frames; they do not belong together"
        )
    return output.name(video_id), *output.video(video_id)


def _common(result: Output, reference: Output) -> Iterator[tuple[str, Pair]]:
    ours, theirs = set(result.index.done()), set(reference.index.done())
    if not ours & theirs:
        raise UserError(f"{result.place} and {reference.place} have no video in common; process the same files to both")
    if ours ^ theirs:
        say(f"left out: {len(ours ^ theirs)} videos that only one of {result.place} and {reference.place} holds")
    for video_id in sorted(ours & theirs, key=result.name):
        (tracks, frames), (truth, truth_frames) = result.video(video_id), reference.video(video_id)
        yield result.name(video_id), Pair(tracks, truth, np.intersect1d(frames, truth_frames))


def _show(figures: Mapping[str, Figures]) -> None:
    narrow = (Column(header, no_wrap=True) for header in (*COLUMNS.values(), "ids"))
    table = Table(Column("video", overflow="fold"), *narrow, box=None, pad_edge=False)
    for name, values in figures.items():
        cells = [str(values[key]) if isinstance(values[key], int) else _share(values[key]) for key in COLUMNS]
        table.add_row(name, *cells, f"{values['num_ids_found']}/{values['num_ids_there']}")
    console.print(table)


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
