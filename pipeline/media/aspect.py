"""The pixel aspect that each frame states. Broadcasters change it inside a stream, and PyAV does not expose it."""

from fractions import Fraction
from typing import cast

from av.filter import Graph
from av.filter.context import FilterContext
from av.video.format import VideoFormat
from av.video.frame import VideoFrame

UNIT_PX = 1000
TOLERANCE = Fraction(1, 100)
"""A smaller relative difference of pixel aspects is rounding."""


class PixelAspects:
    """Measures the pixel aspects of frames. It keeps a filter for each size and format it has met."""

    def __init__(self) -> None:
        self._filters: dict[tuple[int, int, str], tuple[Graph, FilterContext, FilterContext]] = {}

    def __call__(self, frame: VideoFrame) -> Fraction:
        """Return the width of a stored pixel over its height, to 1/UNIT_PX; 1 where the frame does not state it."""
        key = frame.width, frame.height, frame.format.name
        if key not in self._filters:
            self._filters[key] = _filter(*key)
        _, source, sink = self._filters[key]
        source.push(frame)
        return Fraction(cast(VideoFrame, sink.pull()).width, UNIT_PX)


def _filter(width: int, height: int, pixel_format: str) -> tuple[Graph, FilterContext, FilterContext]:
    """Build a filter that scales a few pixels of a frame to a width that shows its pixel aspect."""
    graph = Graph()
    graph.threads = 1
    source = graph.add_buffer(width=width, height=height, format=VideoFormat(pixel_format), time_base=Fraction(1, 1000))
    few = graph.add("crop", w="16", h="16", x="0", y="0")
    scale = graph.add("scale", w=f"max(1,round({UNIT_PX}*sar))", h="16", flags="neighbor", eval="frame")
    sink = graph.add("buffersink")
    source.link_to(few)
    few.link_to(scale)
    scale.link_to(sink)
    graph.configure()
    return graph, source, sink
