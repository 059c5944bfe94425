"""Find out how a stored frame is displayed: what is cropped, and how it is mirrored and turned."""

import math
import struct

from av.container import InputContainer
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from pipeline.media import iso, matroska
from pipeline.media.container import (
    Opener,
    opened_file,
)
from pipeline.media.iso import WHOLE, Insets


def orientation_of(frame: VideoFrame) -> tuple[bool, int]:
    """Return how to make a stored picture upright: whether to mirror it, then by how many degrees to turn it.

    The degrees are one of 0, 90, 180, 270, counter-clockwise.
    """
    matrix = side_data(frame, Type.DISPLAYMATRIX)
    if matrix is None or len(matrix) < 20:
        return False, 0
    a, b, _, c, d = struct.unpack("=5i", matrix[:20])
    mirrored = a * d - b * c < 0
    a, b = (-a, -b) if mirrored else (a, b)
    return mirrored, round(math.degrees(math.atan2(c - b, a + d)) / 90) % 4 * 90


def insets_of(open_source: Opener, container: InputContainer, stream: VideoStream, frame: VideoFrame) -> Insets:
    """Return what the container crops from the stored picture. FFmpeg reports it only to its own command."""
    insets = WHOLE
    with opened_file(open_source) as file:
        if "mov" in container.format.name:
            insets = iso.track_insets(file, stream.id, frame.width, frame.height)
        elif "matroska" in container.format.name:
            insets = matroska.track_insets(file, [video.index for video in container.streams.video].index(stream.index))
    left, top, right, bottom = insets
    return insets if left + right < frame.width and top + bottom < frame.height else WHOLE


def side_data(frame: VideoFrame, kind: Type) -> bytes | None:
    """Return the side data of a kind that a frame carries, None if it carries none."""
    try:
        return bytes(frame.side_data[kind])  # pyright: ignore[reportGeneralTypeIssues, reportArgumentType]
    except KeyError:
        return None
