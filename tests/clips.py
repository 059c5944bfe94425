"""Make test videos: moving scenes with hard cuts, re-encodes of a video in many unusual ways, and damaged files.

Contract: every maker writes a small file and returns its path. The same arguments give the same frames. Nothing is
    downloaded.
"""

import io
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pillow_heif
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image

from pipeline.arrays import Picture

RATE = Fraction(25)


def scene(
    num_frames: int, *, width: int = 160, height: int = 96, cuts: Sequence[int] = (), seed: int = 0
) -> Iterator[Picture]:
    """Yield RGB pictures of a few textured blocks that move over a textured ground. A new scene begins at each frame
    in `cuts`."""
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
    pixel_format: str | None = None,
    colours: tuple[int, int, int] | None = None,
) -> Path:
    """Encode pictures of one size.

    stamps: pts of each picture in `time_base` (variable rate); None: one every 1/fps seconds.
    keyframe_every: frames. A scene cut starts no keyframe.
    sound_s: seconds of a tone beside the pictures.
    pixel_format: of the video. If it is given, `pictures` are planes in this format.
    colours: primaries, transfer and matrix by ITU-T H.273.
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
    # Otherwise Matroska's random numbers could hold the bytes by which `with_pixel_crop` finds its place.
    exact = {"fflags": "bitexact"} if path.suffix == ".mkv" else {}
    with av.open(str(path), "w", format=container, options=exact | (container_options or {})) as output:
        stream: VideoStream | None = None
        sound: AudioStream | None = None
        for index, picture in enumerate(pictures):
            if stream is None:
                added = output.add_stream(codec, rate=fps, options={**tuned, **(options or {})})
                assert isinstance(added, VideoStream)
                stream = added
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt = pixel_format or ("yuvj420p" if codec == "mjpeg" else "yuv420p")
                if pixel_format:
                    stream.height = picture.shape[0] * 2 // 3
                if colours:
                    context = stream.codec_context
                    context.color_primaries, context.color_trc, context.colorspace = colours
                    context.color_range = 1
                stream.codec_context.time_base = base
                stream.codec_context.gop_size = keyframe_every
                if codec != "mjpeg":
                    stream.codec_context.max_b_frames = b_frames
                if pixel_aspect:
                    stream.codec_context.sample_aspect_ratio = pixel_aspect
                sound = _add_sound(output) if sound_s else None
            frame = VideoFrame.from_ndarray(picture, pixel_format or "rgb24")
            if colours:
                frame.color_primaries, frame.color_trc, frame.colorspace = colours
                frame.color_range = 1
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
    """Write a scene of `seconds` seconds at how["fps"] (25); see `scene` and `write_video`."""
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
    """Encode a video again, with the same frames and times unless an argument changes them.

    limit_s: keep only these seconds from the start.
    width: px. The height follows.
    keyframe_s: approximate seconds between keyframes.
    variable: leave out every third frame, and vary the pause between frames.
    how: arguments of `write_video`.
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
            # AVI counts frames and has no time stamps. MPEG-4 needs a rate with small numbers.
            defaults |= {"stamps": None, "time_base": None, "fps": fps.limit_denominator(1001)}
        return write_video(path, pictures, **{**defaults, **how})


def two_videos(
    path: Path, *, first: tuple[int, int] = (160, 96), second: tuple[int, int] = (96, 64), seconds: float = 2
) -> Path:
    """Write a file that shows two videos side by side, of (width, height) `first` and `second`."""
    with av.open(str(path), "w") as output:
        streams = []
        for width, height in (first, second):
            added = output.add_stream("mpeg2video" if path.suffix == ".mpg" else "libx264", rate=25)
            assert isinstance(added, VideoStream)
            added.width, added.height, added.pix_fmt = width, height, "yuv420p"
            added.options = {"threads": "1"}
            added.codec_context.gop_size = 25
            streams.append(added)
        scenes = zip(
            *(scene(round(seconds * 25), width=width, height=height) for width, height in (first, second)), strict=True
        )
        for index, pictures in enumerate(scenes):
            for stream, picture in zip(streams, pictures, strict=True):
                frame = VideoFrame.from_ndarray(picture, "rgb24")
                frame.pts, frame.time_base = index, 1 / RATE
                output.mux(stream.encode(frame))
        for stream in streams:
            output.mux(stream.encode(None))
    return path


def cut_into(source: Path, folder: Path, count: int) -> list[Path]:
    """Cut a video without b-frames at keyframes into `count` MP4s of about equal length, by copying its packets."""
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
    """Write a text file under any name."""
    path.write_text("Dear diary, this is no video at all.\n" * 50)
    return path


def empty_file(path: Path) -> Path:
    """Write an empty file."""
    path.write_bytes(b"")
    return path


def without_index(source: Path, path: Path) -> Path:
    """Write an MP4 whose writing was interrupted: everything but the moov box behind the pictures."""
    whole = source.read_bytes()
    path.write_bytes(whole[: _find_box(whole, b"moov") - 4])
    return path


def cut_off(source: Path, path: Path, share: float = 0.5) -> Path:
    """Write the first part of a file."""
    whole = source.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    return path


def sound_only(path: Path, seconds: float = 1.0) -> Path:
    """Write a file with a tone and no video."""
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
    """Write random bytes over the end of `num_packets` packets, from the packet with index `first` on.

    share: of each packet's bytes. At 1 all but the first few are overwritten, and every decoder sees an error.
    keyframes: overwrite only keyframes; otherwise only other frames.
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


def rotated(source: Path, path: Path, degrees: int, *, mirrored: bool = False) -> Path:
    """Write an MP4 whose track matrix turns it counter-clockwise by 0, 90, 180 or 270 degrees.

    mirrored: left and right are exchanged before it is turned.
    """
    side = -1 if mirrored else 1
    a, b, c, d = {0: (side, 0, 0, 1), 90: (0, -side, 1, 0), 180: (-side, 0, 0, -1), 270: (0, side, -1, 0)}[degrees]
    whole = bytearray(source.read_bytes())
    at = _find_box(whole, b"tkhd") + 4 + 40
    whole[at : at + 36] = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(bytes(whole))
    return path


def with_moved_stamps(source: Path, path: Path, moves: Mapping[int, int]) -> Path:
    """Write a Matroska file with the time stamps of some packets, counted from 0, moved by the given ms."""
    whole = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    for number, ticks in moves.items():
        start = bytes(whole).find(bytes(packets[number]))
        (stamp,) = struct.unpack(">h", whole[start - 3 : start - 1])
        whole[start - 3 : start - 1] = struct.pack(">h", stamp + ticks)
    path.write_bytes(bytes(whole))
    return path


def promising(source: Path, path: Path, seconds: float) -> Path:
    """Write a Matroska file whose header states a duration of `seconds`."""
    whole = bytearray(source.read_bytes())
    at = whole.find(b"\x44\x89\x88") + 3  # Duration, in ms
    whole[at : at + 8] = struct.pack(">d", seconds * 1000)
    tag = whole.find(b"DURATION")
    if tag >= 0:
        tag = whole.find(b":", tag) - 2
        minutes = int(seconds // 60)
        stated = f"{minutes // 60:02}:{minutes % 60:02}:{seconds % 60:012.9f}".encode()
        whole[tag : tag + len(stated)] = stated
    path.write_bytes(bytes(whole))
    return path


def with_aperture(source: Path, path: Path, *, left: int, top: int, width: int, height: int) -> Path:
    """Write an MP4, with its index at the end, whose `clap` box shows only a part of the stored picture."""
    with av.open(str(source)) as container:
        stored = container.streams.video[0]
        right = Fraction(2 * left + width - stored.width, 2)
        below = Fraction(2 * top + height - stored.height, 2)
    numbers = [width, 1, height, 1, right.numerator, right.denominator, below.numerator, below.denominator]
    aperture = _box(b"clap", struct.pack(">8i", *numbers))
    whole = bytearray(source.read_bytes())
    entry = whole.find(b"avc1", _find_box(whole, b"stsd"))
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1"):
        at = entry if name == b"avc1" else _find_box(whole, name)
        (size,) = struct.unpack(">I", whole[at - 4 : at])
        whole[at - 4 : at] = struct.pack(">I", size + len(aperture))
    entry += 4 + 78
    whole[entry:entry] = aperture
    path.write_bytes(bytes(whole))
    return path


def with_pixel_crop(source: Path, path: Path, *, left: int, top: int, right: int, bottom: int) -> Path:
    """Write a Matroska file whose PixelCrop elements show only a part of the stored picture. Its first elements
    grow."""
    crops = b"".join(
        struct.pack(">HBH", kind, 0x82, px)
        for kind, px in ((0x54CC, left), (0x54BB, top), (0x54DD, right), (0x54AA, bottom))
    )
    whole = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        stored = container.streams.video[0]
        size = b"\xb0\x82" + struct.pack(">H", stored.width) + b"\xba\x82" + struct.pack(">H", stored.height)
    at = whole.find(size)
    if at < 0:
        size = b"\xb0\x81" + bytes([stored.width]) + b"\xba\x81" + bytes([stored.height])
        at = whole.find(size)
    # A Void element of at least as many bytes stands before or after the tracks. The sizes of the parents must grow.
    for marker in (b"\x16\x54\xae\x6b", b"\xae", b"\xe0"):
        place = whole.rfind(marker, 0, at) + len(marker)
        length = 9 - whole[place].bit_length()
        number = int.from_bytes(whole[place : place + length], "big") + len(crops)
        whole[place : place + length] = number.to_bytes(length, "big")
    whole[at:at] = crops
    place = whole.find(b"\x18\x53\x80\x67") + 4
    length = 9 - whole[place].bit_length()
    number = int.from_bytes(whole[place : place + length], "big") + len(crops)
    whole[place : place + length] = number.to_bytes(length, "big")
    path.write_bytes(bytes(whole))
    return path


def in_hdr(pictures: Iterable[Picture], transfer: int) -> Iterator[NDArray[np.uint16]]:
    """Yield RGB pictures as yuv420p10le planes in HDR with BT.2020 colours and white at 203 cd/m2.

    transfer: 16 PQ, 18 HLG.
    """
    to_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
    for picture in pictures:
        shown = picture / 255.0
        light = np.where(shown <= 0.04045, shown / 12.92, ((shown + 0.055) / 1.055) ** 2.4) @ to_2020.T
        if transfer == 16:
            power = np.clip(light * 0.0203, 0, 1) ** 0.1593017578125
            coded = ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375
        else:
            luminance = np.maximum(light @ [0.2627, 0.6780, 0.0593], 1e-6)[..., None] * 0.203
            scene = light * 0.203 * luminance ** (1 / 1.2 - 1)
            bright = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
            coded = np.where(scene <= 1 / 12, np.sqrt(3 * scene), bright)
        luma = coded @ [0.2627, 0.6780, 0.0593]
        chroma = (coded[..., 2] - luma) / 1.8814, (coded[..., 0] - luma) / 1.4746
        halved = [cv2.resize(plane, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for plane in chroma]
        planes = [64 + 876 * luma, *(512 + 896 * plane for plane in halved)]
        whole = np.concatenate([np.clip(np.round(plane), 4, 1019).astype(np.uint16).ravel() for plane in planes])
        yield whole.reshape(-1, picture.shape[1])


def changing_size(path: Path, parts: Sequence[Sequence[Picture]], *, codec: str = "libvpx") -> Path:
    """Write one video stream whose parts have different sizes, as in a recorded call, at 25 frames a second."""
    with av.open(str(path), "w") as output:
        added = output.add_stream(codec, rate=25)
        assert isinstance(added, VideoStream)
        added.height, added.width = parts[0][0].shape[:2]
        added.pix_fmt = "yuv420p"
        first = 0
        for pictures in parts:
            context = av.CodecContext.create(codec, "w")
            assert isinstance(context, VideoCodecContext)
            context.height, context.width = pictures[0].shape[:2]
            context.pix_fmt, context.time_base, context.framerate = "yuv420p", Fraction(1, 25), Fraction(25)
            context.bit_rate = 2_000_000
            context.gop_size = 25
            context.options = {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0", "threads": "1"}
            for number, picture in enumerate(pictures):
                frame = VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuv420p")
                frame.pts, frame.time_base = first + number, Fraction(1, 25)
                _mux(output, added, context.encode(frame))
            _mux(output, added, context.encode(None))
            first += len(pictures)
    return path


def _mux(output: OutputContainer, stream: VideoStream, packets: Iterable[Packet]) -> None:
    for packet in packets:
        packet.stream = stream
        output.mux(packet)


def tiled_picture(
    path: Path, picture: Picture, *, tile_px: int | None = None, properties: Sequence[bytes] = ()
) -> Path:
    """Write a HEIF (.heic) or AVIF (.avif) picture, of square tiles if `tile_px` is given.

    properties: boxes that change how it is displayed, in this order; see `turned_by`, `mirrored_by` and
        `of_colours`.
    """
    height, width = picture.shape[:2]
    across, down = tile_px or width, tile_px or height
    columns, rows = -(-width // across), -(-height // down)
    filled = np.pad(picture, ((0, rows * down - height), (0, columns * across - width), (0, 0)), "edge")
    tiles = [
        filled[y : y + down, x : x + across]
        for y in range(0, rows * down, down)
        for x in range(0, columns * across, across)
    ]
    payloads, setup = zip(*(_encoded_item(tile, path.suffix) for tile in tiles), strict=True)
    kind, brand = (b"av01", b"avif") if path.suffix == ".avif" else (b"hvc1", b"heic")
    grid = struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, width, height)
    is_grid = tile_px is not None
    data = [grid, *payloads] if is_grid else list(payloads)
    kinds = [b"grid", *[kind] * len(tiles)] if is_grid else [kind]
    boxes = [
        _box(b"ispe", struct.pack(">III", 0, width, height)),
        _box(b"ispe", struct.pack(">III", 0, across, down)),
        setup[0],
        _box(b"pixi", struct.pack(">IBBBB", 0, 3, 8, 8, 8)),
        *properties,
    ]
    shown = [4 + 1 + number for number in range(len(properties))]
    links = [[1, 4, *shown], *[[2, 3, 4]] * len(tiles)] if is_grid else [[1, 3, 4, *shown]]
    # The decoder's configuration and the properties that turn the picture must be marked essential.
    essential = {3, *(number for number in shown if boxes[number - 1][4:8] in (b"irot", b"imir", b"clap"))}
    association = struct.pack(">II", 0, len(links)) + b"".join(
        struct.pack(">HB", number, len(ids)) + bytes(index | 0x80 if index in essential else index for index in ids)
        for number, ids in enumerate(links, 1)
    )
    items = struct.pack(">IH", 0, len(kinds)) + b"".join(
        _box(b"infe", struct.pack(">IHH4sB", 2 << 24 | int(number > 1), number, 0, item, 0))
        for number, item in enumerate(kinds, 1)
    )
    references = struct.pack(">I", 0) + _box(
        b"dimg", struct.pack(f">HH{len(tiles)}H", 1, len(tiles), *range(2, 2 + len(tiles)))
    )

    def meta(offset: int) -> bytes:
        places = struct.pack(">IBBH", 0, 0x44, 0, len(data))
        for number, item_bytes in enumerate(data, 1):
            places += struct.pack(">HHHII", number, 0, 1, offset, len(item_bytes))
            offset += len(item_bytes)
        return _box(
            b"meta",
            struct.pack(">I", 0)
            + _box(b"hdlr", struct.pack(">II4s12sB", 0, 0, b"pict", b"", 0))
            + _box(b"pitm", struct.pack(">IH", 0, 1))
            + _box(b"iloc", places)
            + _box(b"iinf", items)
            + (_box(b"iref", references) if is_grid else b"")
            + _box(b"iprp", _box(b"ipco", b"".join(boxes)) + _box(b"ipma", association)),
        )

    head = _box(b"ftyp", brand + struct.pack(">I", 0) + brand + b"mif1miaf")
    start = len(head) + len(meta(0)) + 8
    path.write_bytes(head + meta(start) + _box(b"mdat", b"".join(data)))
    return path


def turned_by(quarters: int) -> bytes:
    """Return the property that turns the displayed picture counter-clockwise."""
    return _box(b"irot", bytes([quarters]))


def mirrored_by(axis: int) -> bytes:
    """Return the property that shows a picture upside down (0), or with left and right exchanged (1)."""
    return _box(b"imir", bytes([axis]))


def of_colours(primaries: int, transfer: int, matrix: int) -> bytes:
    """Return the property that states a picture's colours, by ITU-T H.273."""
    return _box(b"colr", b"nclx" + struct.pack(">HHHB", primaries, transfer, matrix, 0x80))


def _encoded_item(picture: Picture, suffix: str) -> tuple[bytes, bytes]:
    """Return a picture as AV1 or HEVC, and the box with the configuration of its decoder."""
    whole = io.BytesIO()
    if suffix == ".avif":
        Image.fromarray(picture).save(whole, "AVIF", quality=90, subsampling="4:2:0", speed=10, range="full")
        setup = b"av1C"
    else:
        pillow_heif.from_pillow(Image.fromarray(picture)).save(whole, quality=90)
        setup = b"hvcC"
    encoded = whole.getvalue()
    at = encoded.find(setup) - 4
    (size,) = struct.unpack(">I", encoded[at : at + 4])
    data = encoded.find(b"mdat") + 4
    return encoded[data:], encoded[at : at + size]


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def with_edit_list(source: Path, path: Path, *, skipped_s: float) -> Path:
    """Write an MP4 whose edit list starts `skipped_s` later, and lasts that much less than what is stored."""
    whole = bytearray(source.read_bytes())
    scale = struct.unpack(">I", whole[(at := _find_box(whole, b"mdhd") + 4 + 12) : at + 4])[0]
    movie_scale = struct.unpack(">I", whole[(at := _find_box(whole, b"mvhd") + 4 + 12) : at + 4])[0]
    at = _find_box(whole, b"elst") + 4 + 8
    duration, start = struct.unpack(">Ii", whole[at : at + 8])
    whole[at : at + 8] = struct.pack(">Ii", duration - round(skipped_s * movie_scale), start + round(skipped_s * scale))
    path.write_bytes(bytes(whole))
    return path


def picture_file(path: Path, *, width: int = 160, height: int = 96, orientation: int | None = None) -> Path:
    """Write an image of the kind that the suffix names.

    orientation: of EXIF, 1..8, in a JPEG.
    """
    picture = next(iter(scene(1, width=width, height=height)))
    encoded = cv2.imencode(path.suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()
    if orientation is not None:
        tag = b"Exif\0\0" + b"MM\0*\0\0\0\x08" + struct.pack(">HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0)
        encoded = encoded[:2] + b"\xff\xe1" + struct.pack(">H", len(tag) + 2) + tag + encoded[2:]
    path.write_bytes(encoded)
    return path


def as_file(path: Path) -> io.BytesIO:
    """Return the bytes of a file as a seekable file object, as fsspec does."""
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
