"""Show HDR as an ordinary screen does: tone-map PQ and HLG pictures of BT.2020 colours to sRGB.

Contract: below KNEE of the reference white, brightness is kept. Above it, brightness is compressed and the hue kept.
The result depends on the frame alone.

A cube of colours is computed once, and FFmpeg's lut3d looks pixels up in it. FFmpeg's scaler could convert too, but
takes 7 to 9 s to start for each size.
"""

import tempfile
from fractions import Fraction
from pathlib import Path
from typing import cast

import numpy as np
from av.filter import Graph
from av.filter.context import FilterContext
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import ColorTrc
from numpy.typing import NDArray

from pipeline.arrays import Picture

PQ, HLG = int(ColorTrc.SMPTE2084), int(ColorTrc.ARIB_STD_B67)
STRANGE = {
    int(ColorTrc.LINEAR): "linear light",
    int(ColorTrc.LOG): "logarithmic",
    int(ColorTrc.LOG_SQRT): "logarithmic",
    int(ColorTrc.SMPTE428): "cinema XYZ",
}
"""Names of transfer functions that are neither ordinary nor tone-mapped."""
ICTCP = 14
UNSPECIFIED = 2
DEEP = "gbrp16le"
"""The pixel format of `ToneMapper`'s input and output."""

WHITE_NITS = 203
"""Reference white of HDR programmes, by ITU-R BT.2408."""
HLG_PEAK_NITS = 1000
KNEE = 0.7
CUBE_SIDE = 33
BT2020_LUMINANCE = np.array([0.2627, 0.6780, 0.0593])
BT2020_TO_BT709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])
TICK = Fraction(1, 1000)


def transfer_of(frame: VideoFrame, stated: int) -> int:
    """Return the frame's transfer function by ITU-T H.273, or `stated`, the container's, if the frame has none."""
    return stated if frame.color_trc in (0, UNSPECIFIED) else int(frame.color_trc)


def why_not_shown(transfer: int, matrix: int, *, is_dolby_vision: bool) -> str | None:
    """Return why the colours or the brightness differ from those that a viewer sees, None if they do not."""
    if transfer in STRANGE:
        return f"its {STRANGE[transfer]} picture is not tone-mapped: brightness and colours are not as they are seen"
    if matrix == ICTCP or (is_dolby_vision and transfer not in (PQ, HLG, 1, 14, 15)):
        return "its Dolby Vision or ICtCp colours cannot be converted: brightness and colours are not as they are seen"
    return None


class ToneMapper:
    """Maps frames of format DEEP to sRGB. It keeps a filter for each transfer function and size it has met."""

    def __init__(self) -> None:
        self._filters: dict[tuple[int, int, int], tuple[Graph, FilterContext, FilterContext]] = {}
        self._count = 0

    def __call__(self, frame: VideoFrame, transfer: int) -> VideoFrame:
        """Return the frame tone-mapped from `transfer`, PQ or HLG."""
        key = transfer, frame.width, frame.height
        if key not in self._filters:
            self._filters[key] = _filter(*key)
        _, source, sink = self._filters[key]
        frame.pts, frame.time_base = self._count, TICK
        self._count += 1
        source.push(frame)
        return cast(VideoFrame, sink.pull())


def tone_map(picture: Picture, transfer: int) -> Picture:
    """Return an 8-bit RGB picture tone-mapped from `transfer`."""
    deep = VideoFrame.from_ndarray(picture, "rgb24").reformat(format=DEEP, threads=1)
    return np.asarray(ToneMapper()(deep, transfer).to_ndarray(format="rgb24"), np.uint8)


def _filter(transfer: int, width: int, height: int) -> tuple[Graph, FilterContext, FilterContext]:
    graph = Graph()
    graph.threads = 1
    with tempfile.TemporaryDirectory(prefix="rollcall-") as folder:
        path = Path(folder) / "tone.cube"  # FFmpeg reads a cube only from a file
        with path.open("w") as file:
            file.write(f"LUT_3D_SIZE {CUBE_SIDE}\n")
            np.savetxt(file, _cube(transfer), fmt="%.6f")
        source = graph.add_buffer(width=width, height=height, format=VideoFormat(DEEP), time_base=TICK)
        escaped = str(path).replace("\\", "\\\\").replace(":", "\\:").replace("'", "\\'")
        lookup, sink = graph.add("lut3d", file=escaped, interp="tetrahedral"), graph.add("buffersink")
        source.link_to(lookup)
        lookup.link_to(sink)
        graph.configure()
    return graph, source, sink


def _cube(transfer: int) -> NDArray[np.float64]:
    """Return (CUBE_SIDE ** 3, 3) sRGB, 0..1, for an even grid of coded colours. Red changes fastest."""
    steps = np.linspace(0, 1, CUBE_SIDE)
    blue, green, red = np.meshgrid(steps, steps, steps, indexing="ij")
    coded = np.stack([red, green, blue], axis=-1).reshape(-1, 3)
    light = np.maximum((_pq_light if transfer == PQ else _hlg_light)(coded) / WHITE_NITS @ BT2020_TO_BT709.T, 0)
    brightest = np.maximum(light.max(axis=1, keepdims=True), 1e-9)
    above = np.maximum(brightest - KNEE, 0)
    compressed = KNEE + (1 - KNEE) * above / (above + 1 - KNEE)
    light *= np.where(brightest > KNEE, compressed / brightest, 1)
    return np.clip(np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055), 0, 1)


def _pq_light(coded: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return light in cd/m2 by SMPTE ST 2084."""
    power = coded ** (32 / 2523)
    return 10000 * (np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)) ** (16384 / 2610)


def _hlg_light(coded: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return light in cd/m2 on a display of HLG_PEAK_NITS, by ITU-R BT.2100."""
    scene = np.where(coded <= 0.5, coded**2 / 3, (np.exp((coded - 0.55991073) / 0.17883277) + 0.28466892) / 12)
    luminance = np.maximum(scene @ BT2020_LUMINANCE, 1e-9)[:, None]
    return HLG_PEAK_NITS * scene * luminance**0.2
