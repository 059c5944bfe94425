"""Make a video of still pictures: a camera that moves over one, and H.264 in MP4.

Contract: the same pictures give the same file, byte for byte: one encoding thread, and no date in it.
"""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import IO

import av
import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from pipeline.arrays import Picture

Window = tuple[float, float, float]
"""What the camera sees: left, top, width, in px of the picture; the height follows from the shape of the film."""


def pan(picture: Picture, start: Window, end: Window, *, num_frames: int, width: int, height: int) -> Iterator[Picture]:
    """`num_frames` RGB pictures of (height, width, 3): the camera goes evenly from window `start` to window `end`."""
    for left, top, seen in np.linspace(start, end, num_frames):
        scale = width / seen
        to_film = np.array([[scale, 0, -left * scale], [0, scale, -top * scale]])
        yield np.asarray(cv2.warpAffine(picture, to_film, (width, height), flags=cv2.INTER_CUBIC), np.uint8)


def write_mp4(file: IO[bytes], pictures: Iterable[Picture], *, fps: int, keyframe_every: int) -> None:
    """Encode RGB pictures of one even size into a seekable file, with a keyframe in every `keyframe_every` frames."""
    # mbtree: with it x264 gave a dozen versions of one small film, by what its memory held before.
    options = {"preset": "veryfast", "crf": "18", "threads": "1", "x264-params": "threads=1:mbtree=0"}
    with av.open(file, "w", format="mp4") as output:
        stream: VideoStream | None = None
        for number, picture in enumerate(pictures):
            if stream is None:
                stream = output.add_stream("libx264", rate=fps, options=options)
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt = "yuv420p"
                stream.codec_context.gop_size = keyframe_every
            frame = VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, fps)
            output.mux(stream.encode(frame))
        if stream is None:
            raise ValueError("a video must have pictures, got none")
        output.mux(stream.encode(None))
