"""Make a copy of a video or picture in which something is drawn: plan it, make its pieces, and join them.

Each step is a task that any worker can do. The pieces lie in the working area, so an interrupted copy goes on.
"""

import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Protocol

from pipeline.config import digest
from pipeline.cores.plan import OPEN_END, ChunkParams, PlannedSpan, plan_spans
from pipeline.errors import DataError
from pipeline.media.canvas import Canvas
from pipeline.media.container import Opener
from pipeline.media.encoders import Encoding
from pipeline.media.joining import join_pieces
from pipeline.media.pictures import encode_picture, read_picture, resized
from pipeline.media.probe import Probe
from pipeline.media.probing import probe
from pipeline.media.rewrite import CELL_S, Paint, Piece, rewrite_span
from pipeline.storage import copies
from pipeline.storage.content_ids import unchanged_source
from pipeline.storage.copies import Mark
from pipeline.storage.source_files import opener
from pipeline.storage.store import Store, shortage_is_an_error

REVISION = 1
"""Counts up when copies of the same tables look different."""
SHORT_PIECE_S, LONG_PIECE_S, NUM_PIECES = 10, 60, 64
"""Seconds. A video is cut into about NUM_PIECES pieces within these limits: short ones spread over more workers, and
each piece reads the tables of the video once."""
COPIED_BYTES = 8 << 20


class Painting(Protocol):
    """What is drawn. It travels to the workers.

    leaves_out: whether frames may be left out; the rest then follows without pauses, and without sound.
    keeps_sound: whether the copy has the sound of the source otherwise.
    """

    @property
    def leaves_out(self) -> bool: ...

    @property
    def keeps_sound(self) -> bool: ...

    def key(self, store: Store, video_id: str) -> str:
        """Return a text that changes with everything that is drawn. Raises DataError."""
        ...

    def painter(self, store: Store, video_id: str, open_source: Opener, probe: Probe, cells: tuple[int, int]) -> Paint:
        """Return the function that draws on the frames of the cells [first, end). An end of -1 means the end of the
        video. Raises DataError."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyJob:
    """A content to copy.

    store: the output.
    row: its row of `videos`.
    uris: its sources. The first one that still has this content is read.
    names: of its copies in the output.
    """

    store: Store
    row: Mapping[str, object]
    uris: tuple[str, ...]
    names: tuple[str, ...]
    painting: Painting
    encoding: Encoding

    @property
    def video_id(self) -> str:
        """The identity of the content."""
        return str(self.row["video_id"])


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyPlan:
    """The way to a copy.

    uri: the source to read.
    probe: of the source, as JSON.
    mark: of the copy.
    spans: the pieces to make, as (first_cell, end_cell). None for a picture.
    """

    uri: str
    probe: str
    mark: Mark
    spans: tuple[tuple[int, int], ...]


def plan_copy(job: CopyJob) -> CopyPlan | None:
    """Plan a copy. Return None if it exists already. Raises DataError and PassingError."""
    mark = Mark(job.video_id, _key(job))
    if copies.is_made(job.store, job.names, mark):
        return None
    uri = unchanged_source(job.uris, job.video_id)
    probed = probe(opener(uri))
    spans = [] if probed.kind == "image" else _spans(probed)
    copies.hide(job.store, job.names)  # it shows what other tables said
    copies.drop_other_pieces(job.store, mark)
    return CopyPlan(
        uri=uri,
        probe=probed.without_keyframes().to_json(),
        mark=mark,
        spans=tuple((span.first_cell, span.end_cell) for span in spans),
    )


def make_piece(job: CopyJob, plan: CopyPlan, span: tuple[int, int]) -> int:
    """Make a piece of a copy, unless it is there. Return its number of frames. Raises DataError and PassingError."""
    name, facts = _piece_names(plan.mark, span)
    with suppress(FileNotFoundError):
        return Piece.from_json(job.store.read(facts).decode()).num_frames
    probed = Probe.from_json(plan.probe)
    paint = job.painting.painter(job.store, job.video_id, opener(plan.uri), probed, span)
    with job.store.writing(name) as file:
        piece = rewrite_span(opener(plan.uri), probed, *span, paint, job.encoding, file)
    job.store.put(facts, piece.to_json().encode())
    return piece.num_frames


def finish_copy(job: CopyJob, plan: CopyPlan) -> str | None:
    """Write the copy under all its names. Return a remark about its sound, or None. Raises DataError, PassingError."""
    probed = Probe.from_json(plan.probe)
    remark = _copy_picture(job, plan, probed) if probed.kind == "image" else _join(job, plan, probed)
    first, *others = job.names
    for name in others:
        job.store.copy(first, name)
    copies.mark_made(job.store, job.names, plan.mark)
    job.store.delete_tree(copies.work_folder(plan.mark))
    return remark


def _key(job: CopyJob) -> str:
    encoding = job.encoding
    key = job.painting.key(job.store, job.video_id)
    return digest(REVISION, key, encoding.encoder, str(encoding.scale))


def _spans(probed: Probe) -> list[PlannedSpan]:
    length = min(LONG_PIECE_S, max(SHORT_PIECE_S, probed.duration_s / NUM_PIECES))
    return plan_spans(
        duration_s=probed.duration_s,
        keyframe_ns=probed.keyframe_ns,
        enterable=probed.enterable,
        params=ChunkParams(cell_seconds=float(CELL_S), max_seconds=length),
    )


def _piece_names(mark: Mark, span: tuple[int, int]) -> tuple[str, str]:
    end = "end" if span[1] == OPEN_END else str(span[1])
    stem = f"{copies.work_folder(mark)}/{span[0]}-{end}"
    return f"{stem}.nut", f"{stem}.json"


def _join(job: CopyJob, plan: CopyPlan, probed: Probe) -> str | None:
    store = job.store
    pieces = []
    for span in plan.spans:
        name, facts = _piece_names(plan.mark, span)
        pieces.append((Piece.from_json(store.read(facts).decode()), partial(store.open, name)))
    with shortage_is_an_error(tempfile.gettempdir()), tempfile.TemporaryDirectory(prefix="rollcall-") as folder:
        path = Path(folder) / "copy.mp4"  # FFmpeg reads the file again to move its index to the front
        remark = join_pieces(
            opener(plan.uri),
            probed,
            pieces,
            path,
            closes_up=job.painting.leaves_out,
            keeps_sound=job.painting.keeps_sound,
        )
        with path.open("rb") as joined, store.writing(job.names[0]) as file:
            shutil.copyfileobj(joined, file, COPIED_BYTES)
    return remark


def _copy_picture(job: CopyJob, plan: CopyPlan, probed: Probe) -> None:
    picture = resized(read_picture(opener(plan.uri)), job.encoding.scale).copy()  # decoders may keep theirs read-only
    canvas = Canvas.of_picture(picture)
    if not job.painting.painter(job.store, job.video_id, opener(plan.uri), probed, (0, OPEN_END))(canvas, 0):
        raise DataError("there is no frame to copy")
    job.store.put(job.names[0], encode_picture(picture, PurePosixPath(job.names[0]).suffix.lower()))
