"""Tests that a copy of a video shows every frame of it, once and when the source shows it."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame

from pipeline.arrays import Picture
from pipeline.cores.plan import NS, ChunkParams, plan_spans
from pipeline.errors import DataError, UserError
from pipeline.media.canvas import Canvas
from pipeline.media.container import fraction
from pipeline.media.decode import SpanDecoder
from pipeline.media.encoders import Encoding, choose_encoder
from pipeline.media.joining import join_pieces
from pipeline.media.probe import Probe
from pipeline.media.probing import probe
from pipeline.media.rewrite import Paint, Piece, rewrite_span
from tests import clips


def untouched(canvas: Canvas, time_ns: int) -> bool:
    return True


def copy(
    source: Path,
    folder: Path,
    paint: Paint = untouched,
    *,
    seconds: float = 1,
    encoding: Encoding | None = None,
    closes_up: bool = False,
) -> tuple[Path, str | None, int]:
    """Copy a video in spans of about so many seconds. Return the copy, the remark, and the number of spans."""
    open_source = lambda: str(source)  # noqa: E731
    probed = probe(open_source)
    spans = plan_spans(
        duration_s=probed.duration_s,
        keyframe_ns=probed.keyframe_ns,
        enterable=probed.enterable,
        params=ChunkParams(cell_seconds=1, max_seconds=seconds),
    )
    pieces: list[tuple[Piece, Callable[[], str]]] = []
    for span in spans:
        path = folder / f"{span.first_cell}.piece"
        how = encoding or Encoding("libx264")
        with path.open("wb") as file:
            made = rewrite_span(open_source, probed, span.first_cell, span.end_cell, paint, how, file)
        pieces.append((Piece.from_json(made.to_json()), lambda path=path: str(path)))
    target = folder / "copy.mp4"
    remark = join_pieces(open_source, probed, pieces, target, closes_up=closes_up)
    return target, remark, len(spans)


def displayed(path: Path) -> tuple[Probe, list[int], list[Picture]]:
    """Return the times in ns and the pictures of all displayed frames."""
    probed = probe(lambda: str(path))
    frames = list(
        SpanDecoder(lambda: str(path), probed, 0, -1, fps=0, cell_seconds=1, thumbnail_px=64, threads=1, careful=True)
    )
    return probed, [frame.time_ns for frame in frames], [frame.picture for frame in frames if frame.picture is not None]


def stamps(path: Path) -> list[Fraction]:
    """Return the time of each frame after the first one, in seconds as the file states them."""
    with av.open(str(path)) as container:
        times = [(frame.pts or 0) * (fraction(frame.time_base) or Fraction(1)) for frame in container.decode(video=0)]
    return [time - times[0] for time in times]


def assert_in_step(source: Path, target: Path) -> Probe:
    """Assert that the copy shows the frames of the source, each at its time."""
    (before, times, pictures), (after, times_of_copy, copied) = displayed(source), displayed(target)
    assert times_of_copy == times
    assert (after.width, after.height) == (before.width + before.width % 2, before.height + before.height % 2)
    small = [picture[::4, ::4].astype(int) for picture in pictures]
    for index, picture in enumerate(copied):
        shown = picture[: before.height : 4, : before.width : 4]
        distances = [np.abs(shown - other).mean() for other in small[max(0, index - 2) : index + 3]]
        assert distances[min(index, 2)] == min(distances), f"frame {index} shows another"
        assert min(distances) < 12, f"frame {index} shows something else"
    return after


VARIABLE = [0, 40, 75, 80, 200, 1200, 1240, 1300, 1333, 2600, 2601, 2700, 2800, 3500, 3600, 4000, 4040, 4080]
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "b-frames": ("mp4", {"b_frames": 2}),
    "open groups": ("mp4", {"open_gop": True, "sound_s": 3}),
    "variable rate": (
        "mp4",
        {"stamps": VARIABLE, "time_base": Fraction(1, 1000), "seconds": 18 / 25, "keyframe_every": 5},
    ),
    "29.97 a second": ("mp4", {"fps": Fraction(30000, 1001), "keyframe_every": 37}),
    "AVI with b-frames": ("avi", {"codec": "mpeg4", "b_frames": 2}),
    "AVI at 29.97 a second": ("avi", {"codec": "mpeg4", "b_frames": 0, "fps": Fraction(30000, 1001)}),
    "Motion JPEG": ("avi", {"codec": "mjpeg"}),
    "transport stream": ("ts", {"sound_s": 3}),
    "transport stream whose clock wraps": ("ts", {"container_options": {"output_ts_offset": "95441"}}),
    "Matroska": ("mkv", {"sound_s": 3}),
    "wide pixels": ("mp4", {"pixel_aspect": Fraction(16, 11)}),
    "odd width": ("avi", {"codec": "mpeg4", "b_frames": 0, "width": 161, "height": 97}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_shows_every_frame_when_the_source_shows_it(kind: str, tmp_path: Path) -> None:
    suffix, how = KINDS[kind]
    source = clips.make_clip(tmp_path / f"clip.{suffix}", cuts=[10, 30], **how)
    target, remark, num_spans = copy(source, tmp_path)
    assert num_spans > 1
    assert_in_step(source, target)
    if suffix == "mp4":
        assert stamps(target) == stamps(source)
    assert remark is None


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_turned_video_is_copied_upright(degrees: int, tmp_path: Path) -> None:
    plain = clips.make_clip(tmp_path / "plain.mp4", seconds=1)
    source = clips.rotated(plain, tmp_path / "turned.mp4", degrees, mirrored=degrees == 90)
    target, _, _ = copy(source, tmp_path)
    assert assert_in_step(source, target).rotation == 0


def test_a_copy_shows_only_what_the_aperture_shows(tmp_path: Path) -> None:
    plain = clips.make_clip(tmp_path / "plain.mp4", seconds=1)
    source = clips.with_aperture(plain, tmp_path / "part.mp4", left=20, top=10, width=100, height=60)
    target, _, _ = copy(source, tmp_path)
    after = assert_in_step(source, target)
    assert (after.width, after.height) == (100, 60)


def test_a_frame_that_is_not_drawn_on_keeps_its_planes(tmp_path: Path) -> None:
    source = clips.make_clip(tmp_path / "clip.mp4", seconds=1)
    lossless = []

    def keep(canvas: Canvas, time_ns: int) -> bool:
        lossless.append([plane.copy() for plane in canvas.planes])
        return True

    copy(source, tmp_path, keep)
    with av.open(str(source)) as container:
        for frame, planes in zip(container.decode(video=0), lossless, strict=True):
            stored = frame.to_ndarray()
            assert np.array_equal(stored[: frame.height], planes[0])


def test_paint_gets_the_times_of_the_tables(tmp_path: Path) -> None:
    source = clips.make_clip(tmp_path / "clip.mp4", fps=Fraction(30000, 1001), keyframe_every=10)
    times = []
    copy(source, tmp_path, lambda canvas, time_ns: times.append(time_ns) or True)
    assert times == displayed(source)[1]
    assert times[40] == int(40 * Fraction(1001, 30000) * NS)  # a whole number of frames a second would drift


def test_what_is_drawn_has_its_colour_and_its_place(tmp_path: Path) -> None:
    source = clips.make_clip(tmp_path / "clip.mp4", seconds=1)

    def draw(canvas: Canvas, time_ns: int) -> bool:
        canvas.fill(40, 20, 80, 60, (230, 159, 0))
        canvas.paste(100, 20, canvas.patch(np.full((20, 30, 3), (0, 114, 178), np.uint8)))
        return True

    target, _, _ = copy(source, tmp_path, draw)
    for picture in displayed(target)[2]:
        assert np.abs(picture[24:56, 44:76].mean(axis=(0, 1)) - (230, 159, 0)).max() < 6
        assert np.abs(picture[24:36, 104:126].mean(axis=(0, 1)) - (0, 114, 178)).max() < 6


def test_frames_that_are_left_out_leave_no_pause(tmp_path: Path) -> None:
    source = clips.make_clip(tmp_path / "clip.mp4", sound_s=3)
    target, _, _ = copy(source, tmp_path, lambda canvas, time_ns: time_ns % NS >= NS // 2, closes_up=True)
    whole = displayed(source)[1]
    kept = [time for time in whole if time % NS >= NS // 2]
    times = stamps(target)
    assert times == [Fraction(index, 25) for index in range(len(kept))]
    with av.open(str(target)) as container:
        assert not container.streams.audio
        assert container.duration == pytest.approx(len(kept) / 25 * 1e6, abs=1000)


def test_a_video_without_a_frame_to_copy_is_an_error(tmp_path: Path) -> None:
    source = clips.make_clip(tmp_path / "clip.mp4", seconds=1)
    with pytest.raises(DataError, match="no frame"):
        copy(source, tmp_path, lambda canvas, time_ns: False, closes_up=True)


def test_a_damaged_video_is_copied_as_it_is_displayed(tmp_path: Path) -> None:
    plain = clips.make_clip(tmp_path / "plain.mp4")
    source = clips.corrupt(plain, tmp_path / "damaged.mp4", first=20, share=1)
    target, _, _ = copy(source, tmp_path)
    assert displayed(target)[1] == displayed(source)[1]


def test_a_copy_is_scaled(tmp_path: Path) -> None:
    source = clips.make_clip(tmp_path / "clip.mp4", seconds=1)
    target, _, _ = copy(source, tmp_path, encoding=Encoding("libx264", scale=Fraction(1, 2)))
    after, times, _ = displayed(target)
    assert (after.width, after.height) == (80, 48)
    assert times == displayed(source)[1]


def sound_of(path: Path) -> tuple[str, list[bytes], float]:
    """Return the codec, the packets, and the start in seconds of a file's sound."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        start = min((packet.pts or 0) * (fraction(packet.time_base) or 1) for packet in packets)
        return stream.codec_context.name, [bytes(packet) for packet in packets], float(start)


def test_sound_is_copied(tmp_path: Path) -> None:
    source = clips.make_clip(tmp_path / "clip.mp4", sound_s=3)
    target, remark, _ = copy(source, tmp_path)
    assert remark is None
    codec, packets, start_s = sound_of(target)
    assert (codec, packets) == sound_of(source)[:2]
    assert start_s == pytest.approx(sound_of(source)[2], abs=0.001)


def test_sound_that_mp4_does_not_take_is_encoded_again(tmp_path: Path) -> None:
    plain = clips.make_clip(tmp_path / "plain.mp4", sound_s=3)
    source = with_raw_sound(plain, tmp_path / "raw.mkv")
    target, remark, _ = copy(source, tmp_path)
    assert "pcm_s16le" in (remark or "")
    with av.open(str(target)) as container:
        stream = container.streams.audio[0]
        samples = sum(frame.samples for frame in container.decode(stream))
        assert stream.codec_context.name == "aac"
        assert samples / stream.rate == pytest.approx(3, abs=0.1)


def with_raw_sound(source: Path, path: Path) -> Path:
    """Write a file with the video of `source` and its sound as plain samples."""
    with av.open(str(source)) as container, av.open(str(path), "w") as output:
        video = output.add_stream_from_template(container.streams.video[0])
        sound = output.add_stream("pcm_s16le", rate=container.streams.audio[0].rate, layout="mono")
        resampler = av.AudioResampler(format="s16", layout="mono", rate=sound.rate)
        for packet in container.demux():
            if packet.stream.type == "video" and packet.size:
                packet.stream = video
                output.mux(packet)
            elif packet.stream.type == "audio":
                for frame in cast(list[AudioFrame], packet.decode()):
                    output.mux([made for part in resampler.resample(frame) for made in sound.encode(part)])
    return path


def test_the_index_stands_before_the_pictures(tmp_path: Path) -> None:
    target, _, _ = copy(clips.make_clip(tmp_path / "clip.mp4", seconds=1), tmp_path)
    whole = target.read_bytes()
    assert whole.find(b"moov") < whole.find(b"mdat")


def test_pieces_of_another_codec_join_too(tmp_path: Path) -> None:
    source = clips.make_clip(tmp_path / "clip.mp4")
    target, _, num_spans = copy(source, tmp_path, encoding=Encoding("libx265"))
    assert num_spans > 1
    assert_in_step(source, target)
    with av.open(str(target)) as container:
        assert container.streams.video[0].codec_context.codec_tag == "hvc1"


def test_a_codec_that_does_not_exist_is_named() -> None:
    assert choose_encoder("libx264") == "libx264"
    with pytest.raises(UserError, match="did you mean libx26"):
        choose_encoder("libx246")


def test_hdr_is_copied_as_an_ordinary_screen_shows_it(tmp_path: Path) -> None:
    plain = list(clips.scene(25))
    source = clips.write_video(
        tmp_path / "hdr.mp4",
        clips.in_hdr(plain, 16),  # type: ignore[arg-type]
        codec="libx265",
        pixel_format="yuv420p10le",
        colours=(9, 16, 9),
        keyframe_every=25,
        options={"crf": "8"},
    )
    target, _, _ = copy(source, tmp_path)
    assert_in_step(source, target)
    with av.open(str(target)) as container:
        frame = next(container.decode(video=0))
        assert (frame.color_trc, frame.colorspace, frame.format.name) == (1, 1, "yuv420p")


def test_frames_of_another_size_are_copied_as_they_are_displayed(tmp_path: Path) -> None:
    parts = [list(clips.scene(30)), list(clips.scene(30, width=80, height=96, seed=1))]
    source = clips.changing_size(tmp_path / "call.webm", parts)
    target, _, _ = copy(source, tmp_path)
    assert_in_step(source, target)


@pytest.mark.parametrize("codec", ["mjpeg", "mpeg4"])
def test_colours_stay_whatever_range_they_are_coded_in(codec: str, tmp_path: Path) -> None:
    source = clips.make_clip(tmp_path / "clip.avi", codec=codec, seconds=1, b_frames=0)
    target, _, _ = copy(source, tmp_path)
    for picture, copied in zip(displayed(source)[2], displayed(target)[2], strict=True):
        assert np.abs(picture.mean(axis=(0, 1)) - copied.mean(axis=(0, 1))).max() < 3
