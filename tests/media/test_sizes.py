"""Pictures and videos that claim a size which would fill all memory are refused before they are decoded."""

import io
import resource
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from jobs.shared.pictures import read_picture as read_named
from pipeline.corpora.frames import read_rgb
from pipeline.errors import DataError, UserError
from pipeline.media import iso, sizes
from pipeline.media.pictures import decode_picture, read_picture
from pipeline.media.probing import probe
from pipeline.media.sizes import MAX_FRAME_PIXELS, MAX_PICTURE_PIXELS, HugeError, refuse, refuse_huge

SIDE = 60_000


def png(side: int = SIDE) -> bytes:
    def part(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = part(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + part(b"IDAT", zlib.compress(bytes(9))) + part(b"IEND", b"")


def jpeg() -> bytes:
    encoded = small("JPEG")
    start = encoded.index(b"\xff\xc0") + 5
    return encoded[:start] + struct.pack(">HH", SIDE, SIDE) + encoded[start + 4 :]


def tiff() -> bytes:
    tags = [(256, SIDE), (257, SIDE), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, SIDE), (279, 10)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


def bmp() -> bytes:
    encoded = bytearray(small("BMP"))
    encoded[18:26] = struct.pack("<ii", SIDE, SIDE)
    return bytes(encoded)


def avif() -> bytes:
    encoded = small("AVIF")
    at = encoded.index(b"ispe") + 8
    return encoded[:at] + struct.pack(">II", SIDE, SIDE) + encoded[at + 8 :]


def small(kind: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (32, 32)).save(file, kind)
    return file.getvalue()


HUGE: dict[str, Callable[[], bytes]] = {
    "a.png": png,
    "a.jpg": jpeg,
    "a.tiff": tiff,
    "a.bmp": bmp,
    "a.avif": avif,
    "a.ppm": lambda: b"P6 60000 60000 255\n" + bytes(99),
}


@pytest.fixture
def memory() -> Callable[[], int]:
    """Return a function that returns by how many MB the peak of this process has grown."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return lambda: (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10


@pytest.mark.parametrize("name", HUGE)
def test_no_way_to_read_a_picture_decodes_a_huge_one(tmp_path: Path, name: str, memory: Callable[[], int]) -> None:
    path = tmp_path / name
    path.write_bytes(HUGE[name]())
    for read in (probe, read_picture):
        with pytest.raises(DataError, match=r"^too large to be decoded: it is 60,000 x 60,000 px.* 268 million px"):
            read(lambda: str(path))
    with pytest.raises(HugeError):
        decode_picture(path.read_bytes())
    for read_file in (read_named, read_rgb):
        with pytest.raises(UserError, match=r"too large|60,000"):
            read_file(path)
    assert memory() < 200


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.y4m", b"YUV4MPEG2 W12000 H12000 F25:1 C420\nFRAME\n" + bytes(99)),
        ("a.gif", b"GIF89a" + struct.pack("<HHBBB", 12_000, 12_000, 0, 0, 0) + small("GIF")[13:]),
    ],
)
def test_a_video_that_claims_huge_frames_is_refused(
    tmp_path: Path, name: str, content: bytes, memory: Callable[[], int]
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=r"^too large to be decoded: it is 12,000 x 12,000 px.* 134 million px"):
        probe(lambda: str(tmp_path / name))
    assert memory() < 200


def test_larger_frames_than_ffmpeg_itself_takes_are_refused(tmp_path: Path, memory: Callable[[], int]) -> None:
    (tmp_path / "a.gif").write_bytes(b"GIF89a" + struct.pack("<HHBBB", 60_000, 60_000, 0, 0, 0) + small("GIF")[13:])
    with pytest.raises(DataError, match="no frame of its gif video can be decoded"):
        probe(lambda: str(tmp_path / "a.gif"))
    assert memory() < 200


def test_a_larger_frame_than_the_limit_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"YUV4MPEG2 W64 H64 F25:1 C420\n" + (b"FRAME\n" + bytes(64 * 96)) * 3
    (tmp_path / "a.y4m").write_bytes(content)
    assert probe(lambda: str(tmp_path / "a.y4m")).width == 64
    monkeypatch.setitem(sizes.DECODER_OPTIONS, "max_pixels", "4000")
    with pytest.raises(DataError, match="no frame of its rawvideo video can be decoded"):
        probe(lambda: str(tmp_path / "a.y4m"))


def test_the_largest_pictures_and_frames_pass() -> None:
    refuse(16_384, 16_384, MAX_PICTURE_PIXELS)
    refuse(15_360, 8_640, MAX_FRAME_PIXELS)
    with pytest.raises(HugeError):
        refuse(16_384, 16_385, MAX_PICTURE_PIXELS)
    refuse_huge(io.BytesIO(png(16_384)))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tiff", ".bmp", ".jp2", ".ppm"])
def test_the_size_is_the_one_in_the_header(suffix: str) -> None:
    encoded = cv2.imencode(suffix, np.zeros((40, 70, 3), np.uint8))[1].tobytes()
    assert sizes._stated_size(io.BytesIO(encoded)) == (70, 40)


def test_a_heif_states_the_size_of_its_largest_picture() -> None:
    assert iso.picture_size(io.BytesIO(small("AVIF"))) == (32, 32)


def test_a_picture_file_has_a_limit_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "MAX_PICTURE_BYTES", 100)
    with pytest.raises(HugeError, match="the file has"):
        refuse_huge(io.BytesIO(bytes(101)))


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"nothing", b"\xff\xd8\xff\xe0\0"])
def test_damaged_headers_are_left_to_the_decoder(content: bytes) -> None:
    refuse_huge(io.BytesIO(content))
