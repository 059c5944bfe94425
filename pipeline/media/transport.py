"""Read an MPEG transport stream whose video continues under another packet ID as if the ID never changed.

Contract: a `Joined` file has the bytes of the underlying file except for the heads of video packets. So positions,
seeking and decoding are as in a recording that was never interrupted. The new value of a byte does not depend on
where reading began.
"""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import BinaryIO, Self, cast

import numpy as np
from numpy.typing import NDArray

from pipeline.media.container import Opener

SYNC = 0x47
PACKET_BYTES = (188, 192, 204)
"""Bytes of a packet: in plain streams, in streams with a time code before each packet (M2TS), and in streams with a
    checksum after each."""
HEAD_BYTES = 1 << 20
VIDEO_KINDS = {0x01: "mpeg1", 0x02: "mpeg2", 0x10: "mpeg4", 0x1B: "h264", 0x24: "hevc", 0x33: "vvc", 0xEA: "vc1"}
"""Kinds of video by the stream type in a program map."""
WHOLE_BYTES = 64 << 20
"""Files up to this size are scanned whole. Larger ones are scanned at NUM_WINDOWS places of WINDOW_BYTES."""
NUM_WINDOWS = 24
WINDOW_BYTES = 1 << 20
MIN_RUN = 8
"""Least average number of frames of one ID before a frame of another. Streams that alternate more often are shown
side by side."""


@dataclass(slots=True)
class _Scanned:
    """The videos that a scan of a transport stream has met.

    kinds: packet ID -> kind of the video.
    maps: packet IDs of the program maps.
    starts: packet IDs of the frames that begin, in the order of the file.
    """

    kinds: dict[int, str] = field(default_factory=dict)
    maps: set[int] = field(default_factory=set)
    starts: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Layout:
    """The packets of a transport stream and the IDs of its video.

    packet_bytes: from one sync byte to the next.
    ids: packet IDs of the video in order of time. With one or none, the ID never changes.
    aside: packet IDs of further videos that are shown beside it.
    """

    packet_bytes: int
    ids: tuple[int, ...]
    aside: tuple[int, ...]


def read_layout(file: BinaryIO, first_id: int) -> Layout | None:
    """Return how the video with the packet ID `first_id` continues, None if the file is no transport stream."""
    size = file.seek(0, 2)
    file.seek(0)
    packet_bytes = _packet_bytes(np.frombuffer(file.read(HEAD_BYTES), np.uint8))
    if packet_bytes is None:
        return None
    scanned = _Scanned()
    if size <= WHOLE_BYTES:
        places = range(0, size, WINDOW_BYTES)
    else:
        places = sorted({round(at) for at in np.linspace(0, size - WINDOW_BYTES, NUM_WINDOWS)})
    carry, expected = b"", 0
    for place in places:
        file.seek(place)
        block = (carry if place == expected else b"") + file.read(WINDOW_BYTES)
        rest = _scan(block, packet_bytes, scanned)
        carry, expected = block[rest:], place + WINDOW_BYTES
    kind = scanned.kinds.get(first_id)
    ids, aside = [first_id], []
    for other in [packet_id for packet_id in dict.fromkeys(scanned.starts) if packet_id != first_id]:
        follows = scanned.kinds.get(other) == kind and _take_turns_seldom(scanned.starts, {*ids, other}, other)
        (ids if follows else aside).append(other)
    return Layout(packet_bytes, tuple(ids), tuple(aside))


def _take_turns_seldom(starts: Sequence[int], ids: set[int], other: int) -> bool:
    """Return whether the frames of `other` stand in long runs between those of the other `ids`."""
    is_other = [packet_id == other for packet_id in starts if packet_id in ids]
    runs = 1 + sum(a != b for a, b in pairwise(is_other))
    return min(is_other.count(True), is_other.count(False)) >= MIN_RUN * max(1, runs // 2)


def _packet_bytes(block: NDArray[np.uint8]) -> int | None:
    for length in PACKET_BYTES:
        starts = _packets(block, length)
        if len(starts) >= min(5, len(block) // length) and len(starts) * length > 0.8 * len(block) - 2 * length:
            return length
    return None


def _packets(block: NDArray[np.uint8], length: int) -> NDArray[np.int64]:
    """Return where packets begin: at a sync byte that is one of three in a row at the right distance."""
    margin = 2 * length
    sync = np.zeros(len(block) + 2 * margin, np.bool_)
    sync[margin : margin + len(block)] = block == SYNC
    at = np.flatnonzero(sync)
    before, behind = sync[at - length], sync[at + length]
    in_row = (before & behind) | (before & sync[at - margin]) | (behind & sync[at + margin])
    return at[in_row] - margin


def _scan(block: bytes, length: int, scanned: _Scanned) -> int:
    """Add the facts in a block's whole packets to `scanned`. Return where the first incomplete packet begins."""
    starts = _packets(np.frombuffer(block, np.uint8), length).tolist()
    end = 0
    for at in starts:
        if at < end or at + 188 > len(block):
            continue
        end = at + length
        if not block[at + 1] & 0x40:  # no table and no frame begins in this packet
            continue
        packet_id = (block[at + 1] & 0x1F) << 8 | block[at + 2]
        control = block[at + 3] >> 4 & 3
        payload = at + 4 + (1 + block[at + 4] if control & 2 else 0)
        if not control & 1 or payload >= at + 188:
            continue
        body = block[payload : at + 188]
        if packet_id == 0:
            scanned.maps |= set(_programs(body))
        elif packet_id in scanned.maps:
            scanned.kinds |= _videos(body)
        elif packet_id in scanned.kinds and body[:3] == b"\0\0\1":
            scanned.starts.append(packet_id)
    return end or max(0, len(block) - 3 * length)


def _section(body: bytes, table: int) -> bytes:
    start = 1 + body[0]
    if len(body) < start + 12 or body[start] != table:
        return b""
    length = (body[start + 1] & 0x0F) << 8 | body[start + 2]
    return body[start : start + 3 + length - 4]


def _programs(body: bytes) -> Iterable[int]:
    section = _section(body, 0)
    for at in range(8, len(section) - 3, 4):
        if section[at : at + 2] != b"\0\0":
            yield (section[at + 2] & 0x1F) << 8 | section[at + 3]


def _videos(body: bytes) -> dict[int, str]:
    section = _section(body, 2)
    if not section:
        return {}
    kinds = {}
    at = 12 + ((section[10] & 0x0F) << 8 | section[11])
    while at + 5 <= len(section):
        if section[at] in VIDEO_KINDS:
            kinds[(section[at + 1] & 0x1F) << 8 | section[at + 2]] = VIDEO_KINDS[section[at]]
        at += 5 + ((section[at + 3] & 0x0F) << 8 | section[at + 4])
    return kinds


def joined(open_source: Opener, packet_bytes: int, ids: Sequence[int]) -> Opener:
    """Return an opener of the transport stream as `Joined` if there is more than one ID, else `open_source`."""
    if len(ids) < 2:
        return open_source

    def open_joined() -> BinaryIO:
        source = open_source()
        return cast(BinaryIO, Joined(open(source, "rb") if isinstance(source, str) else source, packet_bytes, ids))

    return open_joined


class Joined(io.RawIOBase):
    """A transport stream in which the packets of all `ids` have the first ID, with a restarted packet count at
    keyframes."""

    def __init__(self, file: BinaryIO, packet_bytes: int, ids: Sequence[int]) -> None:
        super().__init__()
        self._file, self._length = file, packet_bytes
        self._ids = tuple(ids)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        base = (0, self._at, self._file.seek(0, 2) if whence == io.SEEK_END else 0)[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        # A packet is recognised by the sync bytes around it: read three packets more before and after the requested
        #     bytes.
        before = min(self._at, 3 * self._length)
        self._file.seek(self._at - before)
        block = np.frombuffer(self._file.read(before + len(buffer) + 3 * self._length), np.uint8).copy()
        at = _packets(block, self._length)
        at = at[at + 5 < len(block)]
        ids = (block[at + 1].astype(np.int64) & 0x1F) << 8 | block[at + 2]
        old = at[np.isin(ids, self._ids[1:])]
        block[old + 1] = block[old + 1] & 0xE0 | self._ids[0] >> 8
        block[old + 2] = self._ids[0] & 0xFF
        # Mark a discontinuity where decoding may begin, so that the restarted packet count does not look like a loss.
        is_entry = (
            (block[at + 1] & 0x40 > 0) & (block[at + 3] & 0x20 > 0) & (block[at + 4] > 0) & (block[at + 5] & 0x40 > 0)
        )
        block[at[is_entry & np.isin(ids, self._ids)] + 5] |= 0x80
        wanted = block[before : before + len(buffer)]
        buffer[: len(wanted)] = wanted.tobytes()
        self._at += len(wanted)
        return len(wanted)

    def close(self) -> None:
        self._file.close()
        super().close()

    def __enter__(self) -> Self:
        return self
