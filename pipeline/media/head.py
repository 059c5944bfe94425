"""Decode the first frames of a video: they give time zero, and show whether its time stamps can be used."""

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from pipeline.cores.stamps import FellBack, Stamped, in_line, is_lone_start
from pipeline.media.container import (
    BadPacket,
    decode,
    demux,
)
from pipeline.media.sizes import DECODER_OPTIONS

HEAD_FRAMES = 64
"""Number of frames decoded to check that time stamps rise. H.264 and HEVC reorder at most 16 frames."""
HEAD_PACKETS = 2000
"""Most packets to read in search of the first frame that can be decoded."""
MAX_WRONG_SHARE, MAX_WRONG_STAMPS = Fraction(1, 8), 2
"""Most wrong time stamps, as a share and as a number of the first frames. If more are wrong, no stamp is believed."""


class FrameStamp(NamedTuple):
    """The time stamp of a frame, and whether it is a keyframe. A frame itself may take 200 MB."""

    pts: int | None
    key_frame: bool


def decode_head(container: InputContainer, stream: VideoStream) -> tuple[int, VideoFrame | None, list[FrameStamp]]:
    """Return the delay of the first keyframe from decoding to display, in pts, the first frame, and the time stamps of
    the first frames in order of output.

    One thread decodes. Damage before and between the frames is skipped.
    """
    stream.codec_context.options = DECODER_OPTIONS
    stream.codec_context.thread_count = 1
    stream.codec_context.thread_type = "NONE"
    delays: list[int] = []
    first: VideoFrame | None = None
    head: list[FrameStamp] = []

    for num_read, packet in enumerate(demux(container, stream)):
        if (
            not isinstance(packet, BadPacket)
            and packet.is_keyframe
            and packet.pts is not None
            and packet.dts is not None
        ):
            delays.append(packet.pts - packet.dts)
        for frame in decode(iter([packet]), stream):
            if isinstance(frame, VideoFrame):
                first = first or frame
                head.append(FrameStamp(frame.pts, bool(frame.key_frame)))
        if len(head) >= HEAD_FRAMES or (not head and num_read > HEAD_PACKETS):
            break
    return (delays[0] if delays else 0), first, head[:HEAD_FRAMES]


def find_start(head: Sequence[FrameStamp], time_base: Fraction) -> tuple[int, bool]:
    """Return the time stamp of time zero, and whether too many of the first frames' stamps are wrong."""
    stamped = [Stamped(frame.pts, frame.pts, frame.key_frame) for frame in head if frame.pts is not None]
    try:
        good = list(in_line(stamped, time_base))
    except FellBack:
        return head[0].pts or 0, True
    if not good or len(head) - len(good) > max(MAX_WRONG_STAMPS, MAX_WRONG_SHARE * len(head)):
        return head[0].pts or 0, True
    return good[1 if is_lone_start([stamp.ticks * time_base for stamp in good]) else 0].item, False
