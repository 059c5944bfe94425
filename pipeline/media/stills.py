"""Single frames of a source, as they were analysed."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from pipeline.arrays import Picture
from pipeline.cores.plan import OPEN_END
from pipeline.errors import DataError
from pipeline.media.container import Opener
from pipeline.media.decode import SpanDecoder
from pipeline.media.probe import Probe
from pipeline.media.shown import Damaged

THUMBNAIL_PX = 64
ROUNDED_S = 1e-6


def analysed_stills(
    open_source: Opener, probe: Probe, times_s: Sequence[float], *, fps: float, cell_seconds: float
) -> Iterator[tuple[float, Picture]]:
    """Yield the analysed frames that begin at some of `times_s`, rounded to microseconds, in order of time.

    Only the cells with these times are decoded, if the video can be entered there. Raises DataError.

    fps, cell_seconds: as in the run that analysed the source.
    """
    wanted = set(times_s)
    # A time that was rounded up to the beginning of a cell belongs to the one before.
    cells = sorted({max(0, int((time_s - early_s) / cell_seconds)) for time_s in times_s for early_s in (0, ROUNDED_S)})
    for first, end in _runs(cells) if probe.enterable else [(0, OPEN_END)]:
        is_careful = False
        while True:
            try:
                for time_s, picture in _decode(open_source, probe, first, end, fps, cell_seconds, is_careful):
                    if time_s in wanted:
                        wanted.discard(time_s)
                        yield time_s, picture
                break
            except Damaged:
                if is_careful:
                    raise
                is_careful = True


def still_at(open_source: Opener, probe: Probe, time_s: float) -> Picture:
    """Return the frame that is displayed at a moment: the first one before the video begins, the last one after its
    end. Raises DataError."""
    end = max(0, int(time_s + ROUNDED_S)) + 1
    # A frame that is displayed for long may have begun in an earlier second.
    for first in (end - 1, 0) if probe.enterable else (0,):
        try:
            shown = _last_until(time_s, open_source, probe, first, end, is_careful=False)
        except Damaged:
            shown = _last_until(time_s, open_source, probe, first, end, is_careful=True)
        if shown is not None:
            return shown
    raise DataError("no frame of it can be decoded")


def _last_until(
    time_s: float, open_source: Opener, probe: Probe, first: int, end: int, *, is_careful: bool
) -> Picture | None:
    """Return the last frame of the seconds [first, end) that begins by a moment. In a video's first second, this is
    at least the first frame."""
    shown: Picture | None = None
    for begin_s, picture in _decode(open_source, probe, first, end, fps=0, cell_seconds=1, is_careful=is_careful):
        if begin_s > time_s + ROUNDED_S and (shown is not None or first > 0):
            break
        shown = picture
    return shown


def _decode(
    open_source: Opener, probe: Probe, first: int, end: int, fps: float, cell_seconds: float, is_careful: bool
) -> Iterator[tuple[float, Picture]]:
    decoder = SpanDecoder(
        open_source,
        probe,
        first,
        end,
        fps=fps,
        cell_seconds=cell_seconds,
        thumbnail_px=THUMBNAIL_PX,
        threads=1,
        careful=is_careful,
    )
    for frame in decoder:
        if frame.picture is not None:
            yield round(frame.time_ns / 1e9, 6), frame.picture


def _runs(cells: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield runs of consecutive cells as [first, end)."""
    starts = [0, *(place for place, (a, b) in enumerate(pairwise(cells), start=1) if b != a + 1), len(cells)]
    yield from ((cells[start], cells[end - 1] + 1) for start, end in pairwise(starts) if end > start)
