"""Facts about ISO media files (MP4, MOV, HEIF, AVIF) that the interfaces of FFmpeg and Pillow hide.

Contract: the files are untrusted. Whatever their boxes state, only a few kB are read and nothing is raised.
"""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO

STILL_BRANDS = frozenset({b"avif", b"heic", b"heix", b"heim", b"heis", b"mif1", b"mif2", b"miaf"})
"""Brands of files whose primary item is a single picture."""
MAX_BOXES = 4096
"""Most boxes to read inside one box."""
MAX_HEAD_BYTES = 1 << 20
SAMPLE_ENTRY_BYTES = 8 + 78
"""Size of a VisualSampleEntry before the boxes inside it."""

Insets = tuple[int, int, int, int]
"""Px of the stored picture that are not shown: left, top, right, bottom."""
WHOLE: Insets = (0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Box:
    """A box of a file.

    kind: its four-letter type.
    start, end: bytes from the start of the file. The content without the box's header.
    """

    kind: bytes
    start: int
    end: int


def boxes(file: BinaryIO, start: int, end: int) -> Iterator[Box]:
    """Yield the boxes in bytes [start, end) of a file, one after the other."""
    for _ in range(MAX_BOXES):
        if end - start < 8:
            return
        file.seek(start)
        head = file.read(16)
        if len(head) < 8:
            return
        size, kind = struct.unpack(">I4s", head[:8])
        length = 8
        if size == 1 and len(head) == 16:
            (size,), length = struct.unpack(">Q", head[8:]), 16
        elif size == 0:
            size = end - start
        if size < length:
            return
        yield Box(kind, start + length, min(end, start + size))
        start += size


def is_still(file: BinaryIO) -> bool:
    """Return whether the file is a HEIF or AVIF picture, and not a video or a sequence of pictures."""
    end = file.seek(0, 2)
    first = next(boxes(file, 0, end), None)
    if first is None or first.kind != b"ftyp":
        return False
    brands = _read(file, first)
    if brands[:4] in STILL_BRANDS:
        return True
    others = {brands[at : at + 4] for at in range(8, len(brands) - 3, 4)}
    return bool(others & STILL_BRANDS) and not any(box.kind == b"moov" for box in boxes(file, 0, end))


def track_insets(file: BinaryIO, track_id: int, width: int, height: int) -> Insets:
    """Return the part outside a track's clean aperture, for a stored picture of width x height px."""
    end = file.seek(0, 2)
    for movie in _inside(file, [Box(b"file", 0, end)], b"moov"):
        for track in _inside(file, [movie], b"trak"):
            header = next(_inside(file, [track], b"tkhd"), None)
            if header is None:
                continue
            content = _read(file, header)
            at = 20 if content[:1] == b"\1" else 12
            if content[at : at + 4] != struct.pack(">I", track_id):
                continue
            tables = _inside(file, _inside(file, _inside(file, [track], b"mdia"), b"minf"), b"stbl")
            for table in _inside(file, tables, b"stsd"):
                for entry in boxes(file, table.start + 8, table.end):
                    inner = Box(entry.kind, entry.start - 8 + SAMPLE_ENTRY_BYTES, entry.end)
                    for aperture in _inside(file, [inner], b"clap"):
                        return clean_aperture(_read(file, aperture), width, height)
    return WHOLE


def picture_size(file: BinaryIO) -> tuple[int, int]:
    """Return width and height of the largest picture that a HEIF or AVIF file states, (0, 0) if it states none."""
    sizes = [struct.unpack(">II", content[4:12]) for content in _properties(file, b"ispe") if len(content) >= 12]
    return max(sizes, key=lambda size: size[0] * size[1], default=(0, 0))


def picture_insets(file: BinaryIO, width: int, height: int) -> Insets:
    """Return the part outside the clean aperture of a HEIF or AVIF picture of width x height stored px."""
    return next((clean_aperture(content, width, height) for content in _properties(file, b"clap")), WHOLE)


def picture_transfer(file: BinaryIO) -> int | None:
    """Return the transfer function of a HEIF or AVIF picture by ITU-T H.273, None if the file does not state it."""
    for content in _properties(file, b"colr"):
        if content[:4] == b"nclx" and len(content) >= 8:
            return int(struct.unpack(">H", content[6:8])[0])
    return None


def is_picture_cut_off(file: BinaryIO) -> bool:
    """Return whether parts of a HEIF or AVIF picture lie behind the end of the file."""
    end = file.seek(0, 2)
    for meta in _inside(file, [Box(b"file", 0, end)], b"meta"):
        for places in _inside(file, [Box(b"meta", meta.start + 4, meta.end)], b"iloc"):
            return any(stop > end for stop in _item_ends(_read(file, places)))
    return True


def _item_ends(content: bytes) -> Iterator[int]:
    """Yield where in the file each part of each item ends, by an `iloc` box."""
    reader = io.BytesIO(content)

    def number(num_bytes: int) -> int:
        return int.from_bytes(reader.read(num_bytes), "big")

    version, _, sizes, more_sizes = number(1), number(3), number(1), number(1)
    offset_bytes, length_bytes, base_bytes = sizes >> 4, sizes & 15, more_sizes >> 4
    index_bytes = more_sizes & 15 if version else 0
    for _ in range(min(number(4 if version == 2 else 2), MAX_BOXES * 16)):
        number(4 if version == 2 else 2)
        method = number(2) & 15 if version else 0
        number(2)
        base = number(base_bytes)
        for _ in range(number(2)):
            number(index_bytes)
            offset, length = number(offset_bytes), number(length_bytes)
            if method == 0 and reader.tell() <= len(content) and length:
                yield base + offset + length


def clean_aperture(content: bytes, width: int, height: int) -> Insets:
    """Return the insets that a `clap` box describes, none if its values make no sense."""
    if len(content) < 32:
        return WHOLE
    numbers = struct.unpack(">8i", content[:32])
    if any(denominator <= 0 for denominator in numbers[1::2]):
        return WHOLE
    across, down, right, below = (Fraction(n, d) for n, d in zip(numbers[::2], numbers[1::2], strict=True))
    left, top = round((width - across) / 2 + right), round((height - down) / 2 + below)
    insets = (left, top, width - left - round(across), height - top - round(down))
    return insets if across >= 1 and down >= 1 and min(insets) >= 0 else WHOLE


def _properties(file: BinaryIO, kind: bytes) -> Iterator[bytes]:
    """Yield the contents of a HEIF or AVIF picture's properties of a kind. Those of thumbnails and masks come last."""
    end = file.seek(0, 2)
    for meta in _inside(file, [Box(b"file", 0, end)], b"meta"):
        whole = [Box(b"meta", meta.start + 4, meta.end)]
        for box in _inside(file, _inside(file, _inside(file, whole, b"iprp"), b"ipco"), kind):
            yield _read(file, box)


def _inside(file: BinaryIO, parents: Iterator[Box] | list[Box], kind: bytes) -> Iterator[Box]:
    for parent in parents:
        yield from (box for box in boxes(file, parent.start, parent.end) if box.kind == kind)


def _read(file: BinaryIO, box: Box) -> bytes:
    file.seek(box.start)
    return file.read(min(box.end - box.start, MAX_HEAD_BYTES))
