"""Choose and set up a video encoder. Its packets can follow those of another encoder with the same settings.

No frame refers to a later one, so packets come in the order of time. Every keyframe carries the stream's parameters.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
from av.codec.codec import Codec, UnknownCodecError
from av.codec.context import CodecContext
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from pipeline.errors import UserError, nearest
from pipeline.media.canvas import Coding

HARDWARE_QUALITY = {
    "h264_nvenc": {"preset": "p4", "rc": "vbr", "cq": "23", "b": "0"},
    "hevc_nvenc": {"preset": "p4", "rc": "vbr", "cq": "25", "b": "0"},
    "h264_videotoolbox": {"q": "60"},
    "hevc_videotoolbox": {"q": "60"},
    "h264_amf": {"rc": "cqp", "qp_i": "21", "qp_p": "23"},
    "hevc_amf": {"rc": "cqp", "qp_i": "23", "qp_p": "25"},
}
SOFTWARE_QUALITY = {
    "libx264": {"preset": "veryfast", "crf": "21"},
    "libx265": {"preset": "veryfast", "crf": "23", "x265-params": "log-level=error:open-gop=0:repeat-headers=1"},
}
QUALITY: Mapping[str, Mapping[str, str]] = HARDWARE_QUALITY | SOFTWARE_QUALITY
"""The options of every encoder that can be chosen, best first within a codec."""
CODECS = {
    codec: [name for name in QUALITY if name.startswith((f"{codec}_", software))]
    for codec, software in (("h264", "libx264"), ("hevc", "libx265"))
}
"""The encoders of each codec, in the order in which they are tried."""
TRIAL_PX = 256
KEYFRAME_S = 2
"""Seconds between keyframes, so that a viewer can jump."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """The way in which frames are encoded.

    encoder: FFmpeg's name of it, from `choose_encoder`.
    scale: size of the pictures, as a share of the displayed size.
    threads: of the encoder and the decoder.
    """

    encoder: str
    scale: Fraction = Fraction(1)
    threads: int = 1


def choose_encoder(wanted: str = "h264") -> str:
    """Return the encoder for a codec, in hardware where it works, or the encoder `wanted` itself.

    Raises UserError if there is no such codec or encoder, or if it does not work on this machine.
    """
    if wanted not in CODECS and wanted not in QUALITY:
        known = [*CODECS, *QUALITY]
        raise UserError(f"--codec {wanted}: there is no such encoder{nearest(wanted, known, f'there are {known}')}")
    for name in CODECS.get(wanted, [wanted]):
        if works(name):
            return name
    raise UserError(f"--codec {wanted}: it does not work on this machine; leave out --codec, or choose libx264")


@cache
def works(name: str) -> bool:
    """Return whether an encoder can encode a frame on this machine."""
    with suppress(FFmpegError, UnknownCodecError, ValueError):
        frame = VideoFrame.from_ndarray(np.zeros((TRIAL_PX * 3 // 2, TRIAL_PX), np.uint8), "yuv420p")
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        settings = Encoding(name)
        coding = Coding(2, False, 2, 2)
        context = make_encoder(settings, (TRIAL_PX, TRIAL_PX), Fraction(25), Fraction(1, 25), coding)
        return bool([*context.encode(frame), *context.encode(None)])
    return False


def make_encoder(
    encoding: Encoding, size: tuple[int, int], fps: Fraction, time_base: Fraction, coding: Coding
) -> VideoCodecContext:
    """Return an encoder for yuv420p frames of `size`, (width, height) px."""
    context: Any = CodecContext.create(Codec(encoding.encoder, "w"))
    context.width, context.height = size
    context.pix_fmt = "yuv420p"
    context.framerate, context.time_base = fps, time_base
    context.gop_size = max(1, round(fps * KEYFRAME_S))
    context.max_b_frames = 0
    context.thread_count = encoding.threads
    context.colorspace, context.color_primaries, context.color_trc = coding.matrix, coding.primaries, coding.transfer
    context.color_range = 2 if coding.is_full else 1
    context.options = dict(QUALITY[encoding.encoder])
    return context
