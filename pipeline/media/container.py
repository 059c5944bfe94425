"""Open a container, choose its video stream, and read and decode its packets.

Never call av.logging.set_level here: with frame threads and an early end of decoding it hangs forever.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, BinaryIO

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from pipeline.cores.stamps import LOOK_AHEAD
from pipeline.errors import ChangedError, DataError, blame_machine
from pipeline.media.nvdec import CardDecoder, NotOnCard

Opener = Callable[[], str | BinaryIO]
"""Returns a fresh path or a fresh seekable binary file at each call. The caller closes the file."""
MAX_READ_ERRORS = 32
"""Number of successive read errors that are skipped in a damaged file. Behind a cut-off end there are only errors."""
END_FRAMES = 4 + LOOK_AHEAD
"""Number of frames to decode behind the end of a span. The next frame is compared with the last one inside. It may
come one or two frames later where time stamps are wrong, and the frames after it decide which stamps are wrong."""


DELETED = "it is not there any more"
REPLACED = "it can no longer be opened ({}), so it was replaced after it had been listed; the next run takes it"


@contextmanager
def opened_file(open_source: Opener) -> Iterator[BinaryIO]:
    """Yield the source as a binary file and close it at the end. Raises DataError where it cannot be opened, and
    ChangedError where it is gone, because it was there when it was listed."""
    try:
        source = open_source()
        file = open(source, "rb") if isinstance(source, str) else source  # noqa: SIM115
    except FileNotFoundError:
        raise ChangedError(DELETED) from None
    except OSError as error:  # the file is gone, or its store does not answer
        blame_machine(error)
        raise DataError(f"cannot be read: {error.strerror or error}") from None
    with file:
        yield file


@contextmanager
def opened(open_source: Opener) -> Iterator[InputContainer]:
    """Yield the container in the source and close it with its file at the end.

    Every source is read as a file. So FFmpeg never takes a name for a protocol or a pattern of pictures, and a
    playlist cannot make it read other files.
    """
    with opened_file(open_source) as file, _container_in(file) as container:
        yield container


@contextmanager
def reopened(open_source: Opener, card: CardDecoder | None = None) -> Iterator[InputContainer]:
    """Yield the container in a source that was probed before, as `opened` does.

    card: decodes its video. None for the CPU.

    Raises ChangedError where it cannot be opened any more, and NotOnCard where the card may be at fault.
    """
    with opened_file(open_source) as file:
        try:
            container = _container_in(file, card and card.hwaccel())
        except (FFmpegError, OSError) as error:
            if card is not None:
                raise NotOnCard(f"FFmpeg cannot begin on the card ({error.strerror or error})") from None
            if isinstance(error, MemoryError):
                raise
            blame_machine(error)
            raise ChangedError(REPLACED.format(error.strerror or error)) from None
        with container:
            yield container


def _container_in(file: BinaryIO, hwaccel: HWAccel | None = None) -> InputContainer:
    options = {"protocol_whitelist": "none"}
    return av.open(file, "r", options=options, metadata_errors="replace", hwaccel=hwaccel)


def fraction(value: Any) -> Fraction | None:
    """Return a rational number of PyAV as a Fraction, None for None or 0. PyAV's own type differs between its
    versions."""
    return Fraction(value.numerator, value.denominator) if value else None


def video_streams(container: InputContainer) -> list[VideoStream]:
    """Return the video streams that are not cover pictures."""
    pictures = Disposition.attached_pic | Disposition.timed_thumbnails
    return [stream for stream in container.streams.video if not stream.disposition & pictures]


def video_stream(container: InputContainer) -> VideoStream | None:
    """Return the video stream to process. Return None if there are only sound, subtitles and cover pictures."""
    streams = video_streams(container)
    best = container.streams.best("video")
    return best if isinstance(best, VideoStream) and best in streams else (streams[0] if streams else None)


@dataclass(frozen=True, slots=True)
class BadPacket:
    """A packet or frame that could not be read or decoded without errors.

    pts: in the stream's time base. None if it is not known.
    """

    pts: int | None


def demux(container: InputContainer, stream: VideoStream | None) -> Iterator[Packet | BadPacket]:
    """Yield the packets of `stream`, or of all streams for None. Empty packets at the end flush the decoder.

    Yields a BadPacket for each place where the container cannot be read.
    """
    errors = 0
    while errors < MAX_READ_ERRORS:
        try:
            for packet in container.demux(stream) if stream else container.demux():
                errors = 0
                yield packet
            return
        except FFmpegError:
            errors += 1
            yield BadPacket(None)


def decode(
    packets: Iterable[Packet | BadPacket], stream: VideoStream, *, end_pts: int | None = None
) -> Iterator[VideoFrame | BadPacket]:
    """Yield the frames in the decoder's order of output, and a BadPacket for each decoding error.

    Frames before `end_pts` may refer to frames behind it. So at the end the decoder is flushed, and damage among the
    flushed frames is yielded before the frames.

    end_pts: stop when END_FRAMES frames in a row lie at or after it, because a single time stamp may be wrong.
    """
    beyond, codec = 0, stream.codec_context
    for packet in packets:
        if isinstance(packet, BadPacket):
            yield packet
            continue
        try:
            frames = codec.decode(packet if packet.size else None)
        except FFmpegError:
            yield BadPacket(packet.pts if packet.pts is not None else packet.dts)
            continue
        if packet.is_corrupt:
            yield BadPacket(packet.pts if packet.pts is not None else packet.dts)
        if end_pts is not None:
            for frame in frames:
                beyond = beyond + 1 if frame.pts is not None and frame.pts >= end_pts else 0
        if beyond >= END_FRAMES:
            if packet.size:
                frames += codec.decode(None)
            yield from [BadPacket(frame.pts) for frame in frames if frame.is_corrupt]
            yield from frames
            return
        yield from frames
