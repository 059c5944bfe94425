"""Edited films: segments of several videos with hard cuts between them, and the origin of each frame.

Contract: a film has one size and rate, whatever its videos have. The same segments give the same frames. A film of
    one segment is its video uncut, in the same size, rate and encoding. People found in it are the truth for films
    cut from it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Self

import av
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from pipeline.arrays import Picture
from tests.clips import RATE, write_video

STAMP_ERROR_S = Fraction(1, 1000)
"""Containers round the times of frames to milliseconds."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a video in whole frames of the film's rate.

    video: the file.
    start_s: s from the video's first frame. The part begins there.
    end_s: s from the video's first frame. The part ends before it.
    """

    video: Path
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True, eq=False)
class FrameMap:
    """The origin of the F frames of a film.

    segments: (F,) index of the segment.
    frames: (F,) number of the frame in its video from 0, counted at the film's rate.
    sources: (F,) index of the frame in the video's file.
    """

    segments: NDArray[np.int64]
    frames: NDArray[np.int64]
    sources: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.segments)

    @property
    def cuts(self) -> list[int]:
        """Return the first frames of all segments but the first."""
        return (1 + np.flatnonzero(np.diff(self.segments))).tolist()

    def save(self, path: Path) -> None:
        np.savez(path, segments=self.segments, frames=self.frames, sources=self.sources)

    @classmethod
    def load(cls, path: Path) -> Self:
        with np.load(path) as arrays:
            return cls(**arrays)


@dataclass(frozen=True, slots=True)
class Placement:
    """The position of a picture in a film: scaled evenly, centred, with black around it.

    width: px of the scaled picture.
    height: px of the scaled picture.
    left: px. Left edge of the scaled picture in the film.
    top: px. Upper edge of the scaled picture in the film.
    """

    width: int
    height: int
    left: int
    top: int

    @classmethod
    def of(cls, shape: tuple[float, float], film: tuple[int, int]) -> Self:
        """Place a picture of `shape` in a film. Both are (width, height); `shape` is as displayed."""
        scale = min(film[0] / shape[0], film[1] / shape[1])
        width, height = round(shape[0] * scale), round(shape[1] * scale)
        return cls(width, height, (film[0] - width) // 2, (film[1] - height) // 2)

    def boxes(self, boxes: NDArray[np.float32], shape: tuple[float, float]) -> NDArray[np.float32]:
        """Convert (N, 4) xyxy `boxes` from px of a picture of `shape` to px of the film."""
        scale = np.array([self.width / shape[0], self.height / shape[1]] * 2)
        return (boxes * scale + [self.left, self.top] * 2).astype(np.float32)


def make_film(
    path: Path, segments: Sequence[Segment], *, width: int = 960, height: int = 540, fps: Fraction = RATE
) -> FrameMap:
    """Encode the segments one after the other, with a keyframe every second and none for a cut.

    Raises ValueError if a video ends before its segment.
    """
    rows: list[tuple[int, int, int]] = []

    def pictures() -> Iterator[Picture]:
        for index, segment in enumerate(segments):
            place = Placement.of(displayed_shape(segment.video), (width, height))
            wanted = range(round(segment.start_s * fps), round(segment.end_s * fps))
            num_frames = 0
            for number, source, frame in _resampled(segment.video, wanted, fps):
                rows.append((index, number, source))
                num_frames += 1
                yield _letterboxed(frame, place, width, height)
            if num_frames < len(wanted):
                raise ValueError(f"{segment.video} ends before {segment.end_s} s")

    write_video(path, pictures(), fps=fps, keyframe_every=round(fps))
    return FrameMap(*np.array(rows, np.int64).T)


def displayed_shape(video: Path) -> tuple[float, float]:
    """Return width and height in px of a video's displayed pictures."""
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        return float(stream.width * (stream.sample_aspect_ratio or 1)), float(stream.height)


def _resampled(video: Path, wanted: range, fps: Fraction) -> Iterator[tuple[int, int, VideoFrame]]:
    """Yield each number k of `wanted` with the frame shown k / fps seconds after the first, and that frame's file
    index."""
    number = wanted.start
    for index, frame, end_s in _with_ends(video):
        while number < wanted.stop and number / fps + STAMP_ERROR_S < end_s:
            yield number, index, frame
            number += 1
        if number == wanted.stop:
            return


def _with_ends(video: Path) -> Iterator[tuple[int, VideoFrame, Fraction]]:
    """Yield all frames with their index and the end of their display time. The last lasts as long as the one before
    it."""
    index, shown, start_s, time_s, lasts_s = -1, None, Fraction(0), Fraction(0), Fraction(0)
    with av.open(str(video)) as container:
        for frame in container.decode(video=0):
            next_s = int(frame.pts or 0) * Fraction(frame.time_base or 1)
            if shown is None:
                start_s = next_s
            else:
                lasts_s = next_s - start_s - time_s
                yield index, shown, next_s - start_s
            index, shown, time_s = index + 1, frame, next_s - start_s
        if shown is not None:
            yield index, shown, time_s + lasts_s


def _letterboxed(frame: VideoFrame, place: Placement, width: int, height: int) -> Picture:
    scaled = frame.reformat(width=place.width, height=place.height, format="rgb24", interpolation="AREA")
    canvas = np.zeros((height, width, 3), np.uint8)
    canvas[place.top : place.top + place.height, place.left : place.left + place.width] = scaled.to_ndarray()
    return canvas
