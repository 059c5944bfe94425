"""What a card may decode, and that the CPU decodes all else. A fake card gives the frames of the CPU as a card does."""

import io
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange
from numpy.testing import assert_array_equal

from pipeline.errors import ChangedError
from pipeline.media.aspect import PixelAspects
from pipeline.media.canvas import planes_of
from pipeline.media.container import BadPacket
from pipeline.media.decode import SpanDecoder
from pipeline.media.nvdec import FROM_CARD, LEAST_SPAN_S, CardDecoder, HostFrames, NotOnCard, why_not_on_card
from pipeline.media.probe import Probe
from pipeline.media.probing import probe
from pipeline.media.shown import Damaged
from pipeline.models.gpu import has_gpu
from tests import builders, clips
from tests.builders import Film
from tests.fake_card import FakeCard
from tests.media.test_decode import FrameFacts, facts_of
from tests.odd_streams import with_film_grain

FIT = replace(builders.probe(Film(30.0, ())), stored=(1280, 720))
UNFIT: dict[str, tuple[dict[str, Any], float]] = {
    "it is neither H.264 nor HEVC": ({"codec": "vp9"}, 30),
    "its profile is not an ordinary one": ({"profile": "High 4:4:4 Predictive"}, 30),
    "it does not have 8 bits in 4:2:0": ({"pixel_format": "gray"}, 30),
    "it is interlaced": ({"interlaced": True}, 30),
    "its pictures are too small or too large": ({"stored": (4098, 720)}, 30),
    "it cannot be entered midway": ({"enterable": False}, 30),
    "the piece is shorter than 10 s": ({}, LEAST_SPAN_S - 1),
}


def test_a_card_decodes_the_ordinary_videos_that_it_decodes_exactly() -> None:
    assert why_not_on_card(FIT, LEAST_SPAN_S) is None
    hevc = replace(FIT, codec="hevc", profile="Main", pixel_format="yuvj420p", stored=(8192, 144))
    assert why_not_on_card(hevc, 30) is None
    assert why_not_on_card(replace(FIT, stored=(48, 16), insets=(0, 2, 0, 2), rotation=90), 30) is None


@pytest.mark.parametrize("why", UNFIT)
def test_all_else_is_decoded_on_the_cpu(why: str) -> None:
    facts, span_s = UNFIT[why]
    assert why_not_on_card(replace(FIT, **facts), span_s) == why


@pytest.mark.parametrize("stored", [(46, 720), (1280, 14), (720, 4098)])
def test_no_side_is_shorter_or_longer_than_a_card_decodes(stored: tuple[int, int]) -> None:
    assert why_not_on_card(replace(FIT, stored=stored), 30) == "its pictures are too small or too large"
    assert (why_not_on_card(replace(FIT, codec="hevc", profile="Main", stored=(1280, 720)), 30)) is None
    assert why_not_on_card(replace(FIT, codec="hevc", profile="Main", stored=(1280, 142)), 30) is not None


def test_pictures_are_never_decoded_on_a_card(tmp_path: Path) -> None:
    path = clips.picture_file(tmp_path / "a.jpg")
    assert why_not_on_card(probe(lambda: str(path)), 30) is not None


WAYS: dict[str, tuple[dict[str, Any], str | None]] = {
    "H.264": ({}, None),
    "HEVC": ({"codec": "libx265", "width": 160, "height": 160}, None),
    "no loss": ({"options": {"x264-params": "qp=0"}}, "its profile is not an ordinary one"),
    "10 bits": ({"pixel_format": "yuv420p10le"}, "its profile is not an ordinary one"),
    "interlaced": ({"options": {"x264-params": "tff=1"}}, "it is interlaced"),
    "VP8": ({"codec": "libvpx"}, "it is neither H.264 nor HEVC"),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_probe_tells_what_a_card_must_not_decode(tmp_path: Path, way: str) -> None:
    how, why = WAYS[way]
    path = tmp_path / "a.mkv"
    if how.get("pixel_format"):
        deep = np.full((96 * 3 // 2, 160), 300, np.uint16)
        clips.write_video(path, [deep] * 30, keyframe_every=10, **how)  # pyright: ignore[reportArgumentType]
    else:
        clips.make_clip(path, seconds=2, **how)
    assert why_not_on_card(probe(lambda: str(path)), 30) == why


def downloaded(width: int, height: int, *, is_full: bool = False, matrix: int = 1) -> VideoFrame:
    """Return a frame of noise as PyAV downloads it from a card."""
    frame, random = VideoFrame(width, height, FROM_CARD), np.random.default_rng(0)
    for plane in frame.planes:
        values = np.frombuffer(plane, np.uint8)  # type: ignore[call-overload]
        values[:] = random.integers(0, 256, values.size, np.uint8)
    frame.color_range, frame.colorspace = ColorRange.JPEG if is_full else ColorRange.MPEG, matrix
    frame.color_trc, frame.color_primaries, frame.pts, frame.time_base = 16, 9, 7, Fraction(1, 25)
    return frame


@pytest.mark.parametrize("size", [(1280, 720), (641, 359), (50, 17)])
@pytest.mark.parametrize(("is_full", "matrix"), [(False, 1), (True, 5), (False, 2), (False, 9)])
def test_the_planes_of_a_card_are_taken_apart_bit_for_bit(size: tuple[int, int], is_full: bool, matrix: int) -> None:
    frame = downloaded(*size, is_full=is_full, matrix=matrix)
    planar = HostFrames(size)(frame)
    assert planar.format.name == ("yuvj420p" if is_full else "yuv420p")
    brightness, colours = (
        np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height]  # type: ignore[call-overload]
        for plane in frame.planes
    )
    across = (size[0] + 1) // 2
    y, u, v = planes_of(planar)
    assert_array_equal(y, brightness[:, : size[0]])
    assert_array_equal(u, colours[:, 0 : 2 * across : 2])
    assert_array_equal(v, colours[:, 1 : 2 * across : 2])
    states = ("pts", "time_base", "colorspace", "color_range", "color_trc", "color_primaries", "width", "height")
    assert [getattr(planar, name) for name in states] == [getattr(frame, name) for name in states]


def test_a_frame_that_may_differ_from_that_of_the_cpu_is_refused(tmp_path: Path) -> None:
    host = HostFrames((64, 48))
    with pytest.raises(NotOnCard, match="FFmpeg has gone over to the CPU"):
        host(VideoFrame(64, 48, "yuv420p"))
    with pytest.raises(NotOnCard, match="another size"):
        host(downloaded(72, 48))
    with pytest.raises(NotOnCard, match="cannot take its planes apart"):
        host(downloaded(64, 48, matrix=14))
    path = clips.make_clip(tmp_path / "a.mkv", seconds=1, options={"x264-params": "tff=1"})
    with av.open(str(path)) as container, pytest.raises(NotOnCard, match="interlaced"):
        HostFrames((160, 96))(next(container.decode(video=0)).reformat(format=FROM_CARD))


def test_film_grain_that_only_the_cpu_adds_is_left_to_it(tmp_path: Path) -> None:
    """With this option, FFmpeg leaves the grain out and says so on the frame, as it does on a card."""
    content = with_film_grain(tmp_path / "a.h264").read_bytes()
    frames: list[VideoFrame] = []
    for options in ({}, {"export_side_data": "film_grain"}):
        with av.open(io.BytesIO(content), "r", format="h264") as container:
            container.streams.video[0].codec_context.options = options
            frames.append(next(container.decode(video=0)))
    grainy, clean = frames
    assert np.abs(planes_of(grainy)[0].astype(int) - planes_of(clean)[0]).max() > 10
    assert Type.FILM_GRAIN_PARAMS not in grainy.side_data
    with pytest.raises(NotOnCard, match="film grain"):
        HostFrames((160, 96))(clean.reformat(format=FROM_CARD))


def decode(
    path: Path, probed: Probe, card: CardDecoder | None, first: int = 0, end: int = -1, **how: Any
) -> list[FrameFacts]:
    knobs: dict[str, Any] = {"fps": 5, "cell_seconds": 1, "thumbnail_px": 64, "threads": 2, "camera_motion": True}
    return [facts_of(frame) for frame in SpanDecoder(lambda: str(path), probed, first, end, card=card, **knobs, **how)]


KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "open groups": ("mp4", {"open_gop": True}),
    "HEVC, open groups": ("mp4", {"codec": "libx265", "open_gop": True}),
    "transport stream": ("ts", {"b_frames": 3}),
    "stated colours": ("mkv", {"colours": (5, 6, 5)}),
    "other pixels": ("mp4", {"pixel_aspect": Fraction(4, 3)}),
    "pixels that the frames state": ("ts", {"pixel_aspect": Fraction(4, 3)}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_all_that_comes_after_the_decoder_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    suffix, how = KINDS[kind]
    path = clips.make_clip(tmp_path / f"a.{suffix}", seconds=4, cuts=(50,), keyframe_every=25, **how)
    probed = probe(lambda: str(path))
    card = FakeCard(monkeypatch)
    for first, end in ((0, -1), (1, 3)):
        assert decode(path, probed, card, first, end) == decode(path, probed, None, first, end)
    assert card.num_frames > 150


def test_frames_say_their_pixel_aspect_behind_a_card_too(tmp_path: Path) -> None:
    path = clips.make_clip(tmp_path / "a.ts", seconds=1, pixel_aspect=Fraction(4, 3))
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    planar = HostFrames((160, 96))(frame.reformat(format=FROM_CARD))
    assert PixelAspects()(planar) == PixelAspects()(frame) == Fraction(1333, 1000)


def bad_after(count: int) -> Callable[[int, VideoFrame], VideoFrame | BadPacket]:
    return lambda number, frame: BadPacket(frame.pts) if number == count else frame


def test_a_card_that_fails_midway_gives_the_span_to_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in the frames before the span, which nobody sees."""
    path = clips.make_clip(tmp_path / "a.mp4", seconds=4, keyframe_every=50)
    probed = probe(lambda: str(path))
    for failing in (0, 20, 40):
        with pytest.raises(NotOnCard, match="damaged, or the card has failed"):
            decode(path, probed, FakeCard(monkeypatch, bad_after(failing)), 1, 3)


def test_damage_is_looked_at_by_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = clips.make_clip(tmp_path / "a.mp4", seconds=4, keyframe_every=25)
    path = clips.corrupt(whole, tmp_path / "b.mp4", first=40, share=1)
    with pytest.raises(Damaged):
        decode(path, probe(lambda: str(path)), None)
    with pytest.raises(NotOnCard, match="damaged, or the card has failed"):
        decode(path, probe(lambda: str(path)), FakeCard(monkeypatch))


def test_careful_decoding_never_asks_a_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = clips.make_clip(tmp_path / "a.mp4", seconds=2)
    card = FakeCard(monkeypatch)
    decode(path, probe(lambda: str(path)), card, careful=True)
    assert card.num_frames == 0


@pytest.mark.skipif(has_gpu(), reason="needs a machine without a GPU")
def test_where_there_is_no_card_ffmpeg_says_so_and_nothing_else_is_blamed(tmp_path: Path) -> None:
    path = clips.make_clip(tmp_path / "a.mp4", seconds=2)
    probed = probe(lambda: str(path))
    with pytest.raises(NotOnCard, match="FFmpeg cannot begin on the card"):
        decode(path, probed, CardDecoder(lambda: True))
    with pytest.raises(NotOnCard, match="the card's context cannot be used"):
        decode(path, probed, CardDecoder(lambda: False))
    path.unlink()
    with pytest.raises(ChangedError):
        decode(path, probed, CardDecoder(lambda: True))


def test_frames_of_a_card_that_nobody_needs_are_not_taken_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The span begins at the 75th frame, and decoding at the 50th."""
    path = clips.make_clip(tmp_path / "a.mp4", seconds=4, keyframe_every=50)
    taken: list[int | None] = []
    apart = HostFrames.__call__
    monkeypatch.setattr(HostFrames, "__call__", lambda host, frame: taken.append(frame.pts) or apart(host, frame))
    card = FakeCard(monkeypatch)
    decode(path, probe(lambda: str(path)), card, 3)
    assert (len(taken), card.num_frames) == (25, 50)
