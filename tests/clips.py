"""Makers of test videos: moving scenes with hard cuts, re-encodes of a video in every awkward way, and damaged files.

Contract: every maker writes one small file and returns its path; the same arguments give the same frames. Nothing is
downloaded.
"""

import io
import struct
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from pipeline.arrays import Picture

RATE = Fraction(25)


def scene(
    num_frames: int, *, width: int = 160, height: int = 96, cuts: Sequence[int] = (), seed: int = 0
) -> Iterator[Picture]:
    """RGB pictures of a few textured blocks that move over a textured ground; a wholly new picture at each frame in
    `cuts`."""
    shot, start = 0, 0
    for index in range(num_frames):
        if index in cuts:
            shot, start = shot + 1, index
        random = np.random.default_rng([seed, shot])
        ground = random.integers(0, 256, (6, 8, 3), np.uint8)
        picture = cv2.resize(ground, (width, height), interpolation=cv2.INTER_CUBIC)
        for _ in range(5):
            colour = random.integers(0, 256, 3).tolist()
            x, y = random.integers(0, width), random.integers(0, height)
            dx, dy = random.integers(-4, 5), random.integers(-3, 4)
            left, top = int(x + dx * (index - start)) % width, int(y + dy * (index - start)) % height
            cv2.rectangle(picture, (left, top), (left + width // 6, top + height // 4), colour, -1)
        yield np.asarray(picture, np.uint8)


def write_video(
    path: Path,
    pictures: Iterable[Picture],
    *,
    codec: str = "libx264",
    container: str | None = None,
    fps: Fraction = RATE,
    stamps: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    keyframe_every: int = 12,
    open_gop: bool = False,
    b_frames: int = 2,
    pixel_aspect: Fraction | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    sound_s: float = 0.0,
) -> Path:
    """Encode pictures of one size. stamps: pts of each in `time_base` (variable rate); None: one every 1/fps s.

    keyframe_every: frames; a scene cut starts no keyframe. sound_s: seconds of a tone beside the pictures.
    """
    tuned = {"threads": "1"}
    if codec == "libx264":
        tuned |= {
            "preset": "veryfast",
            "crf": "20",
            "x264-params": f"scenecut=0:open-gop={int(open_gop)}:keyint={keyframe_every}",
        }
        tuned["x264-params"] += f":min-keyint={keyframe_every}:bframes={b_frames}:threads=1"
    elif codec == "libx265":
        tuned |= {"preset": "ultrafast", "x265-params": f"scenecut=0:open-gop={int(open_gop)}:keyint={keyframe_every}"}
        tuned["x265-params"] += f":min-keyint={keyframe_every}:bframes={b_frames}:pools=1:frame-threads=1:log-level=0"
    base = time_base or 1 / fps
    with av.open(str(path), "w", format=container, options=container_options or {}) as output:
        stream: VideoStream | None = None
        sound: AudioStream | None = None
        for index, picture in enumerate(pictures):
            if stream is None:
                added = output.add_stream(codec, rate=fps, options={**tuned, **(options or {})})
                assert isinstance(added, VideoStream)
                stream = added
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
                stream.codec_context.time_base = base
                stream.codec_context.gop_size = keyframe_every
                if codec != "mjpeg":
                    stream.codec_context.max_b_frames = b_frames
                if pixel_aspect:
                    stream.codec_context.sample_aspect_ratio = pixel_aspect
                sound = _add_sound(output) if sound_s else None
            frame = VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts, frame.time_base = stamps[index] if stamps else index, base
            output.mux(stream.encode(frame))
        assert stream is not None, "a video needs pictures"
        output.mux(stream.encode(None))
        if sound is not None:
            _write_sound(output, sound, sound_s)
    return path


def make_clip(
    path: Path, *, seconds: float = 3, cuts: Sequence[int] = (), width: int = 160, height: int = 96, **how: Any
) -> Path:
    """A scene of so many seconds at how["fps"] (25); see `scene` and `write_video`."""
    fps = how.get("fps", RATE)
    assert isinstance(fps, Fraction)
    return write_video(path, scene(round(seconds * fps), width=width, height=height, cuts=cuts), **how)


def re_encode(
    source: Path,
    path: Path,
    *,
    limit_s: float | None = None,
    width: int | None = None,
    keyframe_s: float = 1.0,
    variable: bool = False,
    **how: Any,
) -> Path:
    """Encode a video again; the same frames with the same times, unless told otherwise.

    limit_s: only so much from its start. width: px, the height follows. variable: every third frame is left out, and
    the pause between frames grows and shrinks. keyframe_s: about so many seconds between keyframes. For the rest see
    `write_video`.
    """
    with av.open(str(source)) as container:
        stream = container.streams.video[0]
        fps, base = Fraction(stream.average_rate or RATE), Fraction(stream.time_base or 1 / RATE)
        frames = list(_first_frames(container.decode(stream), limit_s))
        scale = Fraction(width, frames[0].width) if width else Fraction(1)
        size = round(frames[0].width * scale / 2) * 2, round(frames[0].height * scale / 2) * 2
        pictures = (
            np.asarray(frame.to_ndarray(format="rgb24", width=size[0], height=size[1]), np.uint8) for frame in frames
        )
        stamps = [int(frame.pts or 0) - int(frames[0].pts or 0) for frame in frames]
        if variable:
            kept = [index for index in range(len(frames)) if index % 3 != 2]
            jitter = max(1, stamps[1] // 5)
            stamps = [stamps[index] + jitter * (index % 2) for index in kept]
            wanted = set(kept)
            pictures = (picture for index, picture in enumerate(pictures) if index in wanted)
        every = max(1, round(keyframe_s * len(stamps) * base.denominator / max(1, stamps[-1] * base.numerator)))
        defaults: dict[str, Any] = {"fps": fps, "keyframe_every": every, "stamps": stamps, "time_base": base}
        if how.get("container") == "avi" or path.suffix == ".avi":
            # AVI counts frames and has no stamps; MPEG-4 wants a rate of small numbers.
            defaults |= {"stamps": None, "time_base": None, "fps": fps.limit_denominator(1001)}
        return write_video(path, pictures, **{**defaults, **how})


def cut_into(source: Path, folder: Path, count: int) -> list[Path]:
    """So many MP4s of about one length, of a video without b-frames: its packets, copied, cut at keyframes."""
    paths = [folder / f"{source.stem}-{number + 1}.mp4" for number in range(count)]
    with av.open(str(source)) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        keys = [number for number, packet in enumerate(packets) if packet.is_keyframe]
        borders = [min(keys, key=lambda key: abs(key - len(packets) * part / count)) for part in range(count)]
        for path, start, end in zip(paths, borders, [*borders[1:], len(packets)], strict=True):
            first = packets[start].pts or 0
            with av.open(str(path), "w") as output:
                copied = output.add_stream_from_template(stream)
                for packet in packets[start:end]:
                    packet.pts = packet.dts = (packet.pts or 0) - first
                    packet.stream = copied
                    output.mux(packet)
    return paths


def text_named_video(path: Path) -> Path:
    """A text file under whatever name."""
    path.write_text("Dear diary, this is no video at all.\n" * 50)
    return path


def empty_file(path: Path) -> Path:
    """No byte at all."""
    path.write_bytes(b"")
    return path


def without_index(source: Path, path: Path) -> Path:
    """An MP4 whose writing was interrupted: everything but the moov box behind the pictures."""
    whole = source.read_bytes()
    path.write_bytes(whole[: _find_box(whole, b"moov") - 4])
    return path


def cut_off(source: Path, path: Path, share: float = 0.5) -> Path:
    """The first part of a file."""
    whole = source.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    return path


def sound_only(path: Path, seconds: float = 1.0) -> Path:
    """A tone and nothing to see."""
    with av.open(str(path), "w") as output:
        _write_sound(output, _add_sound(output), seconds)
    return path


def corrupt(
    source: Path,
    path: Path,
    *,
    first: int,
    num_packets: int = 3,
    share: float = 0.5,
    seed: int = 0,
    keyframes: bool = False,
) -> Path:
    """Random bytes in so much of the end of packets first, first + 1, …; only keyframes, or only others, are hit.

    share: at 1 all but the first few bytes are hit, and every decoder sees that something is wrong.
    """
    whole = bytearray(source.read_bytes())
    random = np.random.default_rng(seed)
    with av.open(str(source)) as container:
        packets = [p for p in container.demux(container.streams.video[0]) if p.size and p.pos is not None]
        for packet in [p for p in packets[first:] if p.is_keyframe == keyframes][:num_packets]:
            start, end = int(packet.pos or 0), int(packet.pos or 0) + packet.size
            start = min(end - 1, max(start + 5, end - int(packet.size * share)))
            whole[start:end] = random.integers(0, 256, end - start, np.uint8).tobytes()
    path.write_bytes(bytes(whole))
    return path


def rotated(source: Path, path: Path, degrees: int) -> Path:
    """An MP4 that is displayed turned counter-clockwise by 90, 180 or 270 degrees: the matrix of its track says so."""
    one, minus = 1 << 16, -(1 << 16)
    a, b, c, d = {90: (0, minus, one, 0), 180: (minus, 0, 0, minus), 270: (0, one, minus, 0)}[degrees]
    whole = bytearray(source.read_bytes())
    at = _find_box(whole, b"tkhd") + 4 + 40
    whole[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(bytes(whole))
    return path


def with_edit_list(source: Path, path: Path, *, skipped_s: float) -> Path:
    """An MP4 that stores more than it displays: its edit list starts `skipped_s` later, and lasts so much less."""
    whole = bytearray(source.read_bytes())
    scale = struct.unpack(">I", whole[(at := _find_box(whole, b"mdhd") + 4 + 12) : at + 4])[0]
    movie_scale = struct.unpack(">I", whole[(at := _find_box(whole, b"mvhd") + 4 + 12) : at + 4])[0]
    at = _find_box(whole, b"elst") + 4 + 8
    duration, start = struct.unpack(">Ii", whole[at : at + 8])
    whole[at : at + 8] = struct.pack(">Ii", duration - round(skipped_s * movie_scale), start + round(skipped_s * scale))
    path.write_bytes(bytes(whole))
    return path


def picture_file(path: Path, *, width: int = 160, height: int = 96, orientation: int | None = None) -> Path:
    """An image of the kind that the suffix names. orientation: of EXIF, 1..8, in a JPEG."""
    picture = next(iter(scene(1, width=width, height=height)))
    encoded = cv2.imencode(path.suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()
    if orientation is not None:
        tag = b"Exif\0\0" + b"MM\0*\0\0\0\x08" + struct.pack(">HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0)
        encoded = encoded[:2] + b"\xff\xe1" + struct.pack(">H", len(tag) + 2) + tag + encoded[2:]
    path.write_bytes(encoded)
    return path


def as_file(path: Path) -> io.BytesIO:
    """The bytes of a file as a seekable file object, as fsspec gives one."""
    return io.BytesIO(path.read_bytes())


def _first_frames(frames: Iterator[VideoFrame], limit_s: float | None) -> Iterator[VideoFrame]:
    start: float | None = None
    for frame in frames:
        start = frame.time if start is None else start
        if limit_s is not None and frame.time - start >= limit_s:
            return
        yield frame


def _add_sound(output: OutputContainer) -> AudioStream:
    sound = output.add_stream("aac", rate=16000)
    assert isinstance(sound, AudioStream)
    sound.layout = "mono"
    return sound


def _write_sound(output: OutputContainer, sound: AudioStream, seconds: float) -> None:
    for start in range(0, int(seconds * 16000), 1024):
        tone = np.sin(np.arange(start, start + 1024) / 16)[None].astype(np.float32)
        frame = AudioFrame.from_ndarray(tone, "fltp", "mono")
        frame.sample_rate, frame.pts = 16000, start
        output.mux(sound.encode(frame))
    output.mux(sound.encode(None))


def _find_box(whole: bytes | bytearray, name: bytes) -> int:
    at = whole.rfind(name) if name in (b"moov",) else whole.find(name)
    assert at >= 4, f"the file must have a box {name!r}"
    return at
