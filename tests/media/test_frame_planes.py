"""Which frames stay planes, and that they are the picture that a CPU makes of them."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from av.video.frame import VideoFrame
from numpy.testing import assert_array_equal

from pipeline.arrays import Picture, Planes
from pipeline.media import frame_planes
from pipeline.media.decode import DecodedFrame, SpanDecoder
from pipeline.media.frame_planes import FramePlanes
from pipeline.media.probing import probe
from pipeline.media.screen import Screen
from tests import clips

HOW: dict[str, Any] = {"fps": 2, "cell_seconds": 1, "thumbnail_px": 64, "threads": 1}


def decoded(path: Path, *, keep_planes: bool) -> list[DecodedFrame]:
    probed = probe(lambda: str(path))
    return list(SpanDecoder(lambda: str(path), probed, 0, -1, keep_planes=keep_planes, **HOW))


def kept(path: Path) -> list[Planes | None]:
    """Return the planes of the analysed frames. Everything besides pictures is that of a decoder that keeps none."""
    frames, converted = (decoded(path, keep_planes=keeps) for keeps in (True, False))
    for frame, other in zip(frames, converted, strict=True):
        facts = [(each.time_ns, each.cell, each.analysed, each.differences, each.place) for each in (frame, other)]
        assert facts[0] == facts[1]
        if frame.analysed:
            assert other.picture is not None
            assert_array_equal(as_rgb(frame), other.picture)
        assert other.planes is None
    return [frame.planes for frame in frames if frame.analysed]


def as_rgb(frame: DecodedFrame) -> Picture:
    picture = frame.picture if frame.planes is None else frame.planes.to_rgb()
    assert picture is not None
    return picture


def test_ordinary_frames_stay_planes_and_are_the_same_picture(tmp_path: Path) -> None:
    """The decoder is closed when the planes are read: they keep their memory."""
    planes = kept(clips.make_clip(tmp_path / "a.mp4", seconds=2))
    assert len(planes) == 4
    for each in planes:
        assert each is not None
        assert (each.shape, each.u.shape, each.matrix, each.is_full) == ((96, 160, 3), (48, 80), 6, False)
        grey = each.to_rgb().astype(float) @ [0.299, 0.587, 0.114]
        assert np.abs(grey - (each.y - 16.0) * 255 / 219).mean() < 2


def test_planes_are_written_one_after_the_other(tmp_path: Path) -> None:
    (planes, *_) = kept(clips.make_clip(tmp_path / "a.mp4", seconds=1))
    assert planes is not None
    memory = np.zeros(planes.num_bytes, np.uint8)
    planes.write(memory)
    assert_array_equal(memory, np.concatenate([planes.y.ravel(), planes.u.ravel(), planes.v.ravel()]))
    assert len(memory) == 160 * 96 * 3 // 2


def test_a_full_range_and_a_stated_matrix_are_kept(tmp_path: Path) -> None:
    full = kept(clips.make_clip(tmp_path / "a.avi", seconds=1, codec="mjpeg"))
    assert [each is not None and each.is_full for each in full] == [True] * len(full)
    stated = kept(clips.make_clip(tmp_path / "b.mp4", seconds=1, colours=(1, 1, 1)))
    assert [each is not None and each.matrix for each in stated] == [1] * len(stated)


@pytest.mark.parametrize(("degrees", "mirrored"), [(90, False), (180, False), (270, True), (0, True)])
def test_turned_frames_are_upright(tmp_path: Path, degrees: int, mirrored: bool) -> None:
    source = clips.make_clip(tmp_path / "a.mp4", seconds=1)
    planes = kept(clips.rotated(source, tmp_path / "b.mp4", degrees, mirrored=mirrored))
    for each in planes:
        assert each is not None
        assert each.shape == (each.to_rgb().shape)
        grey = each.to_rgb().astype(float) @ [0.299, 0.587, 0.114]
        assert np.abs(grey - (each.y - 16.0) * 255 / 219).mean() < 2


def test_frames_that_must_be_converted_anyway_become_rgb(tmp_path: Path) -> None:
    make = clips.make_clip
    assert kept(make(tmp_path / "aspect.mp4", seconds=1, pixel_aspect=Fraction(4, 3))) == [None, None]
    source = make(tmp_path / "whole.mp4", seconds=1)
    cropped = clips.with_aperture(source, tmp_path / "cropped.mp4", left=8, top=8, width=120, height=64)
    assert kept(cropped) == [None, None]


@pytest.mark.parametrize(
    ("pixel_format", "matrix", "transfer", "stays"),
    [
        ("yuv420p", 1, 1, True),
        ("yuvj420p", 2, 2, True),
        ("yuv420p", 9, 14, True),
        ("yuv420p", 8, 1, False),  # YCgCo
        ("yuv420p", 9, 16, False),  # PQ
        ("yuv420p", 9, 18, False),  # HLG
        ("yuv420p10le", 1, 1, False),
        ("yuv422p", 1, 1, False),
        ("yuv444p", 1, 1, False),
        ("nv12", 1, 1, False),
        ("gray", 1, 1, False),
    ],
)
def test_only_8_bit_420_of_ordinary_colours_stays_planes(
    tmp_path: Path, pixel_format: str, matrix: int, transfer: int, stays: bool
) -> None:
    path = clips.make_clip(tmp_path / "a.mp4", seconds=1)
    probed = probe(lambda: str(path))
    frame = VideoFrame(160, 96, pixel_format)
    frame.colorspace, frame.color_trc = matrix, transfer
    take = FramePlanes(probed, Screen(probed, probed.stored))
    assert (take(frame) is not None) == stays


def test_a_frame_of_another_size_becomes_rgb_and_the_others_stay_planes(tmp_path: Path) -> None:
    parts = [list(clips.scene(25, width=width, height=96, seed=width)) for width in (160, 128)]
    planes = kept(clips.changing_size(tmp_path / "a.webm", parts))
    assert {each is None for each in planes} == {True, False}


def test_huge_pictures_become_rgb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_planes, "MOST_PIXELS", 160 * 96 - 1)
    assert kept(clips.make_clip(tmp_path / "a.mp4", seconds=1)) == [None, None]
