"""Find the cuts between shots that show one place, and the changes of light inside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from pipeline.columns import items_of
from pipeline.cores.place import Scenes, Seam, cells, closest, fades, is_grey, seam
from pipeline.video.blocks import BlockReader
from pipeline.video.job import VideoChunks
from pipeline.video.timeline import Timeline

SEAM_FRAMES = (4, 8)
"""Number of analysed frames before and after a cut that are compared. Several are needed, because flashes, and the
pictures of a camera that switches to infrared, resemble nothing before or after."""


@dataclass(frozen=True, slots=True)
class _Border:
    """A cut, or a quick change of light.

    before, after: the analysed frames on either side that are compared.
    opens, settles: as in cores.place.Scenes.
    """

    before: Sequence[int]
    after: Sequence[int]
    opens: int
    settles: int
    is_cut: bool

    @property
    def frames(self) -> list[int]:
        return [*self.before, *self.after]


def find_scenes(job: VideoChunks, timeline: Timeline, shots: Sequence[tuple[int, int]], boxes: BlockReader) -> Scenes:
    """Return the nature of the cuts between the shots and of quick changes of light inside them, from the sketches of
    the frames around them."""
    borders = _cuts(timeline, shots) + [border for shot in shots for border in _fades(timeline, *shot)]
    borders.sort(key=lambda border: border.settles)
    sketches = _read_sketches(job, timeline, sorted({frame for border in borders for frame in border.frames}))
    kept, seams = [], []
    for border in borders:
        nature = _seam(border, sketches, timeline, boxes)
        if border.is_cut or nature.hides_looks:
            kept.append(border)
            # Inside a shot no time is left out.
            seams.append(nature if border.is_cut else replace(nature, is_jump=False))
    sides = [[border.before, border.after] for border in kept]
    shown = [[frame for side in frames for frame in side if frame in sketches] for frames in _of_shots(sides)]
    greys = [2 * sum(is_grey(sketches[frame]) for frame in frames) > len(frames) for frames in shown]
    return Scenes.of(seams, greys, [(border.opens, border.settles) for border in kept])


def _cuts(timeline: Timeline, shots: Sequence[tuple[int, int]]) -> list[_Border]:
    analysed = np.flatnonzero(timeline.analysed)
    cuts = []
    for (first, cut), (_, end) in pairwise(shots):
        before, after = analysed[(analysed >= first) & (analysed < cut)], analysed[(analysed >= cut) & (analysed < end)]
        nearest = before[-SEAM_FRAMES[0] :].tolist(), after[: SEAM_FRAMES[1]].tolist()
        cuts.append(_Border(*nearest, cut - 1, cut, is_cut=True))
    return cuts


def _fades(timeline: Timeline, first: int, end: int) -> list[_Border]:
    """Return the quick changes of light inside a shot."""
    frames = first + np.flatnonzero(timeline.analysed[first:end])
    return [
        _Border([int(frames[last])], [int(frames[next_])], int(frames[last]), int(frames[next_]), is_cut=False)
        for last, next_ in fades(timeline.times_ns[frames], timeline.light[frames])
    ]


def _seam(border: _Border, sketches: Mapping[int, bytes], timeline: Timeline, boxes: BlockReader) -> Seam:
    before, after = ([frame for frame in side if frame in sketches] for side in (border.before, border.after))
    if not before or not after:
        return Seam()
    i, j = closest([sketches[frame] for frame in before], [sketches[frame] for frame in after])
    pair = (before[i], after[j])
    people = np.concatenate([boxes.between(frame, frame + 1)["box"] for frame in pair])
    return seam(sketches[pair[0]], sketches[pair[1]], cells(people, timeline.width, timeline.height))


def _of_shots(around: Sequence[Sequence[Sequence[int]]]) -> list[list[Sequence[int]]]:
    """Return the frames at the borders on either side of each part."""
    sides: list[list[Sequence[int]]] = [[] for _ in range(len(around) + 1)]
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
