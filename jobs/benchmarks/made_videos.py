"""Videos that the benches make: scenes in several codecs and sizes, crowds of a known number of people, and long videos
from short ones."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import cv2
import numpy as np
from av.codec import Codec
from av.codec.codec import UnknownCodecError
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from pipeline.arrays import Picture
from pipeline.errors import UserError, lack_of
from pipeline.media.container import video_stream
from pipeline.media.film import pan
from pipeline.media.pictures import read_picture
from pipeline.weights import local_path

FPS = 25
KEYFRAME_EVERY = 2 * FPS
STREET = "package:ultralytics/assets/bus.jpg"
PEOPLE = ((48, 398, 246, 905), (222, 404, 345, 862))
"""Boxes of the two whole people on STREET: left, top, right, bottom in px."""
FRAMES_AHEAD = 16
"""Most frames that a decoder holds back to put them in order."""
GRAIN = 4.0
"""Standard deviation of the grain, in grey values. Without it, a moving photograph needs hardly any bits."""


@dataclass(frozen=True, slots=True)
class Format:
    """A codec and the encoders that write it, the first of which is the fastest.

    encoders: options by FFmpeg's name of the encoder.
    suffix: of the file.
    """

    encoders: Mapping[str, Mapping[str, str]]
    suffix: str = ".mp4"


FORMATS = {
    "h264": Format({"libx264": {"preset": "veryfast", "crf": "23"}, "libopenh264": {}}),
    "hevc": Format({"libx265": {"preset": "ultrafast", "crf": "26", "x265-params": "log-level=error"}}),
    "vp9": Format({"libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "34", "b": "0"}}, ".webm"),
    "av1": Format({"libsvtav1": {"preset": "12", "crf": "38"}, "libaom-av1": {"usage": "realtime", "cpu-used": "10"}}),
}


def encoder_of(codec: str) -> str | None:
    """Return the encoder of a codec of FORMATS on this machine, or None if there is none."""
    return next((name for name in FORMATS[codec].encoders if _is_there(name)), None)


def write_video(path: Path, pictures: Iterable[Picture], codec: str = "h264") -> int:
    """Encode RGB pictures of one even size, FPS a second, and return their number."""
    encoder = encoder_of(codec)
    if encoder is None:
        raise ValueError(f"codec must have an encoder on this machine, got {codec}")
    options = dict(FORMATS[codec].encoders[encoder])
    os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 writes its settings to stderr otherwise
    count = 0
    with av.open(str(path), "w") as output:
        stream: VideoStream | None = None
        for picture in pictures:
            if stream is None:
                stream = output.add_stream(encoder, rate=FPS, options=options)  # pyright: ignore[reportAssignmentType]
                assert stream is not None
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt = "yuv420p"
                stream.codec_context.gop_size = KEYFRAME_EVERY
            frame = VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts, frame.time_base = count, Fraction(1, FPS)
            output.mux(stream.encode(frame))
            count += 1
        if stream is None:
            raise ValueError("a video must have pictures, got none")
        output.mux(stream.encode(None))
    return count


def scene(width: int, height: int, num_frames: int) -> Iterator[Picture]:
    """Yield RGB pictures of a camera that moves over a street, with grain."""
    street = _street()
    window = min(street.shape[1] * 0.8, street.shape[0] * 0.8 * width / height)
    right, bottom = street.shape[1] - window, street.shape[0] - window * height / width
    moved = pan(street, (0, 0, window), (right, bottom, window), num_frames=num_frames, width=width, height=height)
    grain = _Grain(width, height)
    for picture in moved:
        yield grain.over(picture)


def crowd(people: int, width: int, height: int, num_frames: int) -> Iterator[Picture]:
    """Yield RGB pictures of an empty place in which `people` people stand in rows and sway."""
    grain, ground = _Grain(width, height), _ground(width, height)
    columns = max(1, round((people * 2.2 * width / height) ** 0.5))
    rows = max(1, -(-people // columns))
    cell_w, cell_h = width / columns, height / rows
    figures = [_figure(number, min(cell_h * 0.92, cell_w * 2.3)) for number in range(people)]
    for step in range(num_frames):
        picture = ground.copy()
        for number, figure in enumerate(figures):
            row, column = divmod(number, columns)
            tall, wide = figure.shape[:2]
            sway = 0.04 * cell_w * np.sin(step / 12 + number)
            left = int(np.clip((column + 0.5) * cell_w - wide / 2 + sway, 0, width - wide))
            top = int(np.clip((row + 0.5) * cell_h - tall / 2, 0, height - tall))
            picture[top : top + tall, left : left + wide] = figure
        yield grain.over(picture)


def repeat_video(video: Path, target: Path, seconds: float, number: int = 0) -> Path:
    """Write the packets of `video` again and again until `seconds` are full, and return `target`. Raises UserError if
    they cannot be copied.

    number: becomes part of the title, so that each copy has other bytes and so is another video.
    """
    try:
        try:
            _repeat(video, target, seconds, number, None)
        except (ValueError, FFmpegError):  # the name need not say what the file is
            _repeat(video, target, seconds, number, "matroska")
    except (ValueError, FFmpegError) as error:
        if lack := lack_of(error):
            raise lack from error
        raise UserError(
            f"{video} cannot be cut or repeated: {error}; name another video, or convert it to MP4"
        ) from error
    return target


def _repeat(video: Path, target: Path, seconds: float, number: int, container: str | None) -> None:
    """Write the copy in the format `container`, or else in that of the suffix of `target`."""
    with av.open(str(target), "w", format=container) as output:
        output.metadata["title"] = f"copy {number}"
        with av.open(str(video)) as source:
            copied = output.add_stream_from_template(_stream(source))
        offset, last_dts, base, delay = 0, None, Fraction(1), None
        while offset * base < seconds:
            start, end = None, 0
            with av.open(str(video)) as source:
                stream = _stream(source)
                base = Fraction(stream.time_base or 1)
                for packet in source.demux(stream):
                    if packet.pts is None:
                        continue
                    start = packet.pts if start is None else start  # the clock of a recording need not begin at 0
                    end = max(end, packet.pts - start + (packet.duration or 0))
                    pts = packet.pts - start + offset
                    # Matroska does not say when the first packets are decoded
                    dts = pts - FRAMES_AHEAD if packet.dts is None else packet.dts - start + offset
                    if last_dts is not None:
                        dts = last_dts + 1 if packet.dts is None else max(dts, last_dts + 1)
                    delay = pts - dts if delay is None else delay  # frames are not stored in order
                    if (dts + delay) * base >= seconds:
                        return
                    packet.pts, packet.dts, last_dts = pts, dts, dts
                    packet.stream = copied
                    output.mux(packet)
            if not end:
                raise ValueError("its packets have no time stamps")
            offset += end


def _stream(source: InputContainer) -> VideoStream:
    stream = video_stream(source)
    if stream is None:
        raise ValueError("it holds no video")
    return stream


@dataclass(slots=True)
class _Grain:
    """Adds grain that looks different in every frame: one noisy tile, shifted."""

    width: int
    height: int
    _random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    _tile: NDArray[np.int16] = field(init=False)

    def __post_init__(self) -> None:
        size = (self.height + 64, self.width + 64, 1)
        self._tile = np.round(self._random.normal(0, GRAIN, size)).astype(np.int16)

    def over(self, picture: Picture) -> Picture:
        top, left = self._random.integers(0, 64, 2)
        noise = self._tile[top : top + self.height, left : left + self.width]
        return np.clip(picture + noise, 0, 255).astype(np.uint8)


@cache
def _street() -> Picture:
    return read_picture(lambda: str(local_path(STREET)))


def _ground(width: int, height: int) -> Picture:
    coarse = np.random.default_rng(1).integers(90, 170, (6, 8, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.uint8)


def _figure(number: int, height: float) -> Picture:
    """Return one of the people of the street, `height` px tall; every second time mirrored, and each a bit brighter or
    darker."""
    left, top, right, bottom = PEOPLE[number % len(PEOPLE)]
    crop = _street()[top:bottom, left:right]
    tall = max(8, round(height))
    wide = max(4, round(tall * (right - left) / (bottom - top)))
    small = cv2.resize(crop, (wide, tall), interpolation=cv2.INTER_AREA)
    light = 0.8 + 0.4 * (number * 37 % 100) / 100
    shaded = np.clip(small * light, 0, 255).astype(np.uint8)
    return shaded[:, ::-1] if number // len(PEOPLE) % 2 else shaded


@cache
def _is_there(encoder: str) -> bool:
    with suppress(FFmpegError, UnknownCodecError, ValueError):
        return Codec(encoder, "w").is_encoder
    return False
