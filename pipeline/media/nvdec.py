"""Decode videos on a card, with NVDEC behind FFmpeg's own demuxers, parsers and order of output.

Contract: what a card decodes is what the CPU decodes, bit for bit, with the same times and marks, because H.264 and
HEVC state every bit of a sound picture. Whatever may differ raises NotOnCard, and the CPU decodes the span. One thing
cannot be noticed: NVDEC conceals damage inside a slice and does not report it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from av.codec.hwaccel import HWAccel, hwdevices_available
from av.error import FFmpegError
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, VideoReformatter

from pipeline.media.probe import Probe

LEAST_SPAN_S = 10
"""Shorter spans are decoded on the CPU. A decoder on a card takes 50 to 70 ms to begin, as long as 50 frames."""
FROM_CARD = "nv12"
"""The pixel format in which PyAV downloads an 8-bit picture. No decoder of H.264 or HEVC on a CPU puts it out."""
EIGHT_BITS = frozenset({"yuv420p", "yuvj420p"})


@dataclass(frozen=True, slots=True)
class Reach:
    """What NVDEC decodes of a codec, on every card since 2016.

    profiles: FFmpeg's names of them. NVDEC takes a lossless H.264 video for an ordinary one, and its profile alone
        shows the difference.
    least, most: (width, height) in px.
    """

    profiles: frozenset[str]
    least: tuple[int, int]
    most: tuple[int, int]


REACH: Mapping[str, Reach] = {
    "h264": Reach(frozenset({"Baseline", "Constrained Baseline", "Main", "High"}), (48, 16), (4096, 4096)),
    "hevc": Reach(frozenset({"Main"}), (144, 144), (8192, 8192)),
}
"""By FFmpeg's name of the codec."""
NOTHING = Reach(frozenset(), (0, 0), (0, 0))


class NotOnCard(Exception):  # noqa: N818 — a limit of the card, not a mistake
    """Raised when a card cannot decode a span, or not certainly as the CPU does: decode it on the CPU."""


def why_not_on_card(probe: Probe, span_s: float) -> str | None:
    """Return why the CPU decodes a span of a video, or None if a card can do it.

    span_s: s. Length of the span.
    """
    reach = REACH.get(probe.codec, NOTHING)
    sides = zip(reach.least, probe.stored, reach.most, strict=True)
    reasons = {
        "it is neither H.264 nor HEVC": reach is NOTHING,
        "its profile is not an ordinary one": probe.profile not in reach.profiles,
        "it does not have 8 bits in 4:2:0": probe.pixel_format not in EIGHT_BITS,
        "it is interlaced": probe.interlaced,
        "its pictures are too small or too large": any(not least <= side <= most for least, side, most in sides),
        # It is decoded in one pass, all of which a failure of the card would repeat.
        "it cannot be entered midway": not probe.enterable,
        f"the piece is shorter than {LEAST_SPAN_S} s": span_s < LEAST_SPAN_S,
    }
    return next((why for why, is_so in reasons.items() if is_so), None)


def is_in_ffmpeg() -> bool:
    """Return whether PyAV's FFmpeg can decode on NVIDIA's cards."""
    return "cuda" in hwdevices_available()


class CardDecoder:
    """Decodes on the first card, for any number of threads.

    enter_context: makes the card's context, which the models use, current in the calling thread. It returns whether
        there is one. FFmpeg would make one more for each video otherwise, and their work would take turns.
    """

    def __init__(self, enter_context: Callable[[], bool]) -> None:
        self._enter_context = enter_context

    def hwaccel(self) -> HWAccel:
        """Return what av.open needs to decode on the card in this thread."""
        if not self._enter_context():
            raise NotOnCard("the card's context cannot be used")
        return HWAccel("cuda", options={"primary_ctx": "0", "current_ctx": "1"})


class HostFrames:
    """Gives the frames of a video that a card has decoded the form in which the CPU's decoder puts them out.

    stored: (width, height) in px of the frames of the CPU.
    """

    def __init__(self, stored: tuple[int, int]) -> None:
        self._stored, self._planes = stored, VideoReformatter()

    def __call__(self, frame: VideoFrame) -> VideoFrame:
        """Return the frame with a plane for each colour. Raises NotOnCard."""
        if why := self._why_not(frame):
            raise NotOnCard(why)
        pixel_format = "yuvj420p" if frame.color_range == ColorRange.JPEG else "yuv420p"
        try:
            planar = self._planes.reformat(frame, format=pixel_format, threads=1)
        except (FFmpegError, OSError):
            raise NotOnCard("FFmpeg cannot take its planes apart") from None
        planar.colorspace = frame.colorspace  # PyAV exchanges two names of BT.601
        return planar

    def _why_not(self, frame: VideoFrame) -> str | None:
        if frame.format.name != FROM_CARD:
            return "FFmpeg has gone over to the CPU"
        if (frame.width, frame.height) != self._stored:
            return "a frame has another size; a card does not cut off what is hidden at the left and top"
        if frame.interlaced_frame:
            return "a frame is interlaced"
        if Type.FILM_GRAIN_PARAMS in frame.side_data:
            return "the CPU's decoder adds film grain"
        return None
