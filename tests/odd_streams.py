"""Make H.264 streams that state what no encoder here writes: film grain, and borders that are not displayed."""

from fractions import Fraction
from pathlib import Path

import av
from av.bitstream import BitStreamFilterContext

from tests import clips

GRAIN = "0" + "00" + "0" + "00" + "0010" + "100" + "0" * 8 + "010" + "0" * 8 + "1" * 8
"""The fields of a message on film grain (H.264, D.1.20), up to three values for brightness from 0 to 255."""
VALUES = f"{200:015b}" + f"{16:09b}" * 2
"""100, 8 and 8 as signed Exp-Golomb codes: strength and frequencies."""
FOR_ONE_PICTURE = "010"


def with_film_grain(path: Path, *, seconds: float = 1) -> Path:
    """Write a bare stream. FFmpeg's decoder on the CPU adds film grain to its first picture."""
    plain = clips.make_clip(path.with_suffix(".plain.h264"), seconds=seconds, container="h264", b_frames=0).read_bytes()
    bits = GRAIN + VALUES + FOR_ONE_PICTURE + "1"
    bits += "0" * (-len(bits) % 8)
    message = int(bits, 2).to_bytes(len(bits) // 8, "big")
    first = plain.index(b"\0\0\1\x65")
    path.write_bytes(plain[:first] + b"\0\0\1" + bytes([6, 19, len(message)]) + message + b"\x80" + plain[first:])
    return path


def in_transport_stream(bare: Path, path: Path) -> Path:
    """Give a bare stream without B-frames times, 25 frames a second."""
    with av.open(str(bare), "r", format="h264") as source, av.open(str(path), "w") as target:
        stream = source.streams.video[0]
        written = target.add_stream_from_template(stream)
        for number, packet in enumerate(packet for packet in source.demux(stream) if packet.size):
            packet.stream, packet.time_base = written, Fraction(1, 25)
            packet.pts = packet.dts = number
            target.mux(packet)
    return path


def with_hidden_border(path: Path, *, left: int, top: int) -> Path:
    """Write a video of 320x192 px of which so many at the left and top are not displayed."""
    plain = clips.make_clip(path.with_name("plain.ts"), seconds=3, width=320, height=192)
    with av.open(str(plain)) as source, av.open(str(path), "w") as target:
        stream = source.streams.video[0]
        crop = BitStreamFilterContext(f"h264_metadata=crop_left={left}:crop_top={top}", stream)
        written = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            for changed in crop.filter(packet if packet.size else None):
                changed.stream = written
                target.mux(changed)
    return path
