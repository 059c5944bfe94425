"""Make a video of still pictures: a camera that moves over a picture, and H.264 in MP4.

The same pictures give the same file, byte for byte: there is one encoding thread, and no date in the file.
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
"""The camera's view: left, top, width, in px of the picture. The height follows from the film's aspect ratio."""


def pan(picture: Picture, start: Window, end: Window, *, num_frames: int, width: int, height: int) -> Iterator[Picture]:
    """Yield `num_frames` RGB pictures (height, width, 3) while the camera moves evenly from window `start` to `end`."""
    for left, top, window_px in np.linspace(start, end, num_frames):
        scale = width / window_px
        to_film = np.array([[scale, 0, -left * scale], [0, scale, -top * scale]])
        yield np.asarray(cv2.warpAffine(picture, to_film, (width, height), flags=cv2.INTER_CUBIC), np.uint8)


def write_mp4(file: IO[bytes], pictures: Iterable[Picture], *, fps: int, keyframe_every: int) -> None:
    """Encode RGB pictures of one even size into a seekable file, with a keyframe every `keyframe_every` frames."""
    # With mbtree, x264 gave a dozen versions of one small film, depending on the previous content of its memory.
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
