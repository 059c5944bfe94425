"""Find the cuts between shots that show one place."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from pipeline.columns import items_of
from pipeline.cores.place import Scenes, Seam, cells, closest, is_grey, seam
from pipeline.video.blocks import BlockReader
from pipeline.video.job import VideoChunks
from pipeline.video.timeline import Timeline

SEAM_FRAMES = (4, 8)
"""Number of analysed frames before and after a cut that are compared. Several are needed, because flashes, and the
pictures of a camera that switches to infrared, resemble nothing before or after."""


def find_scenes(job: VideoChunks, timeline: Timeline, shots: Sequence[tuple[int, int]], boxes: BlockReader) -> Scenes:
    """Return the nature of the cuts between the shots, from the sketches of the frames around them."""
    analysed = np.flatnonzero(timeline.analysed)
    around: list[tuple[list[int], list[int]]] = []
    for (first, cut), (_, end) in pairwise(shots):
        before, after = analysed[(analysed >= first) & (analysed < cut)], analysed[(analysed >= cut) & (analysed < end)]
        around.append((before[-SEAM_FRAMES[0] :].tolist(), after[: SEAM_FRAMES[1]].tolist()))
    sketches = _read_sketches(job, timeline, sorted({frame for sides in around for side in sides for frame in side}))
    seams = []
    shown = [[frame for side in sides for frame in side if frame in sketches] for sides in _of_shots(around)]
    greys = [2 * sum(is_grey(sketches[frame]) for frame in frames) > len(frames) for frames in shown]
    for sides in around:
        before, after = ([frame for frame in side if frame in sketches] for side in sides)
        if not before or not after:
            seams.append(Seam())
            continue
        i, j = closest([sketches[frame] for frame in before], [sketches[frame] for frame in after])
        pair = (before[i], after[j])
        people = np.concatenate([boxes.between(frame, frame + 1)["box"] for frame in pair])
        seams.append(seam(sketches[pair[0]], sketches[pair[1]], cells(people, timeline.width, timeline.height)))
    return Scenes.of(seams, greys)


def _of_shots(around: Sequence[tuple[list[int], list[int]]]) -> list[list[list[int]]]:
    """Return the frames at the cuts on either side of each shot."""
    sides: list[list[list[int]]] = [[] for _ in range(len(around) + 1)]
    for shot, (before, after) in enumerate(around):
        sides[shot].append(before)
        sides[shot + 1].append(after)
    return sides


def _read_sketches(job: VideoChunks, timeline: Timeline, frames: Sequence[int]) -> dict[int, bytes]:
    """Return the sketches of rising `frames`. Chunks of an earlier version have none."""
    sketches: dict[int, bytes] = {}
    for chunk, span in enumerate(job.chunks):
        first, end = timeline.first_frames[chunk : chunk + 2].tolist()
        wanted = [frame for frame in frames if first <= frame < end]
        if not wanted:
            continue
        table = job.ledger.observed(job.video_id, span, ["frames.list.element.place"])
        if "frames" not in table.column_names:
            continue
        column = items_of(table, "frames").field("place")
        stored = {frame: column[frame - first].as_py() for frame in wanted}
        sketches |= {frame: sketch for frame, sketch in stored.items() if sketch is not None}
    return sketches
