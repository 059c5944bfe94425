"""Tests that a chunk yields, bit for bit, what a decode of the whole file yields there, for any file and chunk
length."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline.cores.plan import ChunkParams, plan_spans
from pipeline.errors import DataError
from pipeline.media import entry
from pipeline.media.container import Opener
from pipeline.media.decode import DecodedFrame, SpanDecoder
from pipeline.media.probe import Probe
from pipeline.media.probing import probe
from pipeline.media.screen import GREY
from pipeline.media.shown import Damaged
from pipeline.media.warnings import DAMAGED, Note, describe_warnings, read_notes
from tests import clips
from tests.shared import SHARED, needs_shared

FrameFacts = tuple[int, int, bool, tuple[int, int, int] | None, str | None, tuple[float, ...] | None, bytes | None]


def facts_of(frame: DecodedFrame) -> FrameFacts:
    picture = None if frame.picture is None else hashlib.sha256(frame.picture.tobytes()).hexdigest()
    return frame.time_ns, frame.cell, frame.analysed, frame.differences, picture, frame.motion, frame.place


def decode(
    source: Path | Opener, probed: Probe, first: int = 0, end: int = -1, *, fps: float = 5, threads: int = 2
) -> tuple[list[FrameFacts], list[Note]]:
    """Decode a span; return its frames and notes. A damaged span is decoded again carefully, as observe does."""
    open_source = source if callable(source) else (lambda: str(source))
    for careful in (False, True):
        decoder = SpanDecoder(
            open_source,
            probed,
            first,
            end,
            fps=fps,
            cell_seconds=1,
            thumbnail_px=64,
            threads=threads,
            camera_motion=True,
            careful=careful,
        )
        try:
            return [facts_of(frame) for frame in decoder], read_notes([decoder.warning])
        except Damaged:
            assert not careful
    raise AssertionError("careful decoding must not raise Damaged")


def in_chunks(path: Path, probed: Probe, seconds: float, **how: float) -> tuple[list[FrameFacts], list[Note], int]:
    spans = plan_spans(
        duration_s=probed.duration_s,
        keyframe_ns=probed.keyframe_ns,
        enterable=probed.enterable,
        params=ChunkParams(cell_seconds=1, max_seconds=seconds),
    )
    frames, all_notes = [], []
    for span in spans:
        span_frames, span_notes = decode(path, probed.without_keyframes(), span.first_cell, span.end_cell, **how)  # type: ignore[arg-type]
        frames += span_frames
        all_notes += span_notes
    return frames, all_notes, len(spans)


def assert_exact(path: Path, *, several: bool = True, lengths: tuple[float, ...] = (1, 2, 4)) -> list[FrameFacts]:
    probed = probe(lambda: str(path))
    assert probed.enterable == several
    whole, whole_notes = decode(path, probed)
    assert all(a[0] < b[0] for a, b in pairwise(whole))
    for seconds in lengths:
        frames, chunk_notes, num_chunks = in_chunks(path, probed, seconds)
        assert num_chunks > 1 or not several
        assert frames == whole, f"chunks of {seconds} s differ"
        assert sorted(chunk_notes) == whole_notes
    return whole


KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "mp4": ("mp4", {}),
    "open groups": ("mp4", {"open_gop": True}),
    "HEVC, open groups": ("mp4", {"codec": "libx265", "open_gop": True}),
    "29.97 a second": ("mp4", {"fps": Fraction(30000, 1001), "keyframe_every": 37}),
    "borders between two ticks of the clock": ("avi", {"codec": "mpeg4", "b_frames": 0, "fps": Fraction(30000, 1001)}),
    "fragmented": ("mp4", {"container_options": {"movflags": "frag_keyframe+empty_moov"}}),
    "transport stream": ("ts", {}),
    "transport stream, open groups": ("ts", {"open_gop": True}),
    "transport stream, clock wraps": ("ts", {"container_options": {"output_ts_offset": "95441"}}),
    "program stream": ("mpg", {"codec": "mpeg2video"}),
    "mkv": ("mkv", {}),
    "webm": ("webm", {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}}),
    "avi, MPEG-4": ("avi", {"codec": "mpeg4", "b_frames": 0}),
    "avi, MPEG-4 with b-frames": ("avi", {"codec": "mpeg4", "b_frames": 2}),
    "avi, Motion JPEG": ("avi", {"codec": "mjpeg"}),
    "flv": ("flv", {"codec": "flv", "b_frames": 0}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_are_exact(tmp_path: Path, kind: str) -> None:
    suffix, how = KINDS[kind]
    path = clips.make_clip(tmp_path / f"a.{suffix}", seconds=6, cuts=(50, 110), **{"keyframe_every": 25, **how})
    assert len(assert_exact(path)) == round(6 * Fraction(str(how.get("fps", 25))))


def test_a_chunk_is_entered_in_the_middle_and_not_read_from_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = clips.make_clip(tmp_path / "a.ts", seconds=6, keyframe_every=25)
    probed = probe(lambda: str(path))

    def refuse(*_: object, **__: object) -> Iterator[None]:
        raise AssertionError("the chunk must be entered at a keyframe")

    monkeypatch.setattr(entry, "decode_whole", refuse)
    assert len(decode(path, probed, 4, 5)[0]) == 25


def test_codecs_that_cannot_be_trusted_with_several_threads_take_one(tmp_path: Path) -> None:
    how = {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}}
    for path, num_threads in (
        (clips.make_clip(tmp_path / "a.mp4", keyframe_every=25), 1),
        (clips.make_clip(tmp_path / "a.webm", keyframe_every=25, **how), 3),
    ):
        probed = probe(lambda path=path: str(path))
        target_pts = int(2 / probed.time_base)
        with entry.opened_at(lambda path=path: str(path), 0, target_pts, 0, threads=3, strict=True) as entered:
            assert entered is not None
            assert entered[2].codec_context.thread_count == num_threads


def test_chunks_of_a_variable_rate_are_exact(tmp_path: Path) -> None:
    even = clips.make_clip(tmp_path / "a.mp4", seconds=6, cuts=(50, 110))
    assert_exact(clips.re_encode(even, tmp_path / "b.mp4", variable=True, keyframe_s=1))


def test_chunks_around_a_hole_in_time_are_exact(tmp_path: Path) -> None:
    stamps = [index + (80 if index >= 60 else 0) for index in range(120)]
    path = clips.write_video(tmp_path / "a.mp4", clips.scene(120), stamps=stamps, keyframe_every=20)
    assert_exact(path)


def test_a_cut_exactly_on_a_chunk_border_belongs_to_the_earlier_chunk(tmp_path: Path) -> None:
    path = clips.make_clip(tmp_path / "a.mp4", seconds=4, cuts=(50,), keyframe_every=25)
    frames = assert_exact(path, lengths=(2,))
    sums = [sum(frame[3] or ()) for frame in frames]
    assert int(np.argmax(sums)) == 49
    assert frames[-1][3] is None


@pytest.mark.parametrize(("degrees", "step"), [(0, -20 + 0j), (90, 0 + 20j), (180, 20 + 0j), (270, 0 - 20j)])
def test_the_motion_of_the_camera_is_stored_before_each_analysed_frame(
    tmp_path: Path, degrees: int, step: complex
) -> None:
    """A camera pans right by 4 px a frame, and every fifth frame is analysed. Motion is in px as displayed, turned
    or not."""
    wide = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (200, 900, 3), np.uint8), (0, 0), 8)
    wide = np.asarray(cv2.normalize(wide, wide, 0, 255, cv2.NORM_MINMAX), np.uint8)
    views = (np.ascontiguousarray(wide[:, 4 * index : 4 * index + 320]) for index in range(75))
    path = clips.write_video(tmp_path / "a.mp4", views, keyframe_every=25)
    frames = assert_exact(clips.rotated(path, tmp_path / "b.mp4", degrees) if degrees else path, lengths=(1, 2))
    motions = [frame[5] for frame in frames]
    assert [motion is not None for motion in motions] == [index % 5 == 4 and index != 74 for index in range(75)]
    for real, imaginary, x, y in filter(None, motions):
        corner = complex(real, imaginary) * (160 + 100j) + complex(x, y)
        assert abs(corner - (160 + 100j) - step) < 2


def test_chunks_of_an_edit_list_are_exact_and_show_what_is_displayed(tmp_path: Path) -> None:
    whole = clips.make_clip(tmp_path / "a.mp4", seconds=6, keyframe_every=25)
    edited = clips.with_edit_list(whole, tmp_path / "b.mp4", skipped_s=1.4)
    frames = assert_exact(edited)
    assert len(frames) == 115
    assert frames[0][0] == 0
    pictures = [frame[4] for frame in decode(whole, probe(lambda: str(whole)), fps=0)[0]]
    assert [frame[4] for frame in decode(edited, probe(lambda: str(edited)), fps=0)[0]] == pictures[35:]


def test_a_recording_that_begins_in_the_middle_of_a_group_is_exact(tmp_path: Path) -> None:
    whole = clips.make_clip(tmp_path / "a.ts", seconds=6, keyframe_every=25)
    tail = tmp_path / "b.ts"
    tail.write_bytes(whole.read_bytes()[188 * 40 :])
    frames = assert_exact(tail)
    assert frames[0][0] == 0
    assert 0 < len(frames) < 150


@pytest.mark.parametrize("kind", ["one keyframe", "intra refresh", "b-frames in avi", "raw"])
def test_a_video_that_cannot_be_entered_is_one_span_and_complete(tmp_path: Path, kind: str) -> None:
    refresh = {"x264-params": "intra-refresh=1:keyint=25:bframes=0:threads=1"}
    path = {
        "one keyframe": lambda: clips.make_clip(tmp_path / "a.mp4", keyframe_every=999),
        "intra refresh": lambda: clips.make_clip(tmp_path / "a.mp4", b_frames=0, options=refresh),
        "b-frames in avi": lambda: clips.make_clip(tmp_path / "a.avi"),
        "raw": lambda: clips.make_clip(tmp_path / "a.h264", container="h264"),
    }[kind]()
    frames = assert_exact(path, several=False, lengths=(1,))
    assert [frame[0] for frame in frames] == [index * 40_000_000 for index in range(75)]
    # A requested part of it is exact too.
    probed = probe(lambda: str(path))
    assert decode(path, probed, 1, 2)[0] == [frame for frame in frames if frame[1] == 1]


def test_a_file_object_yields_what_a_path_yields(tmp_path: Path) -> None:
    path = clips.make_clip(tmp_path / "a.mp4", keyframe_every=25)
    probed = probe(lambda: str(path))
    assert decode(lambda: clips.as_file(path), probed, 1, 2) == decode(path, probed, 1, 2)
    assert decode(lambda: path.open("rb"), probed, 1, 2) == decode(path, probed, 1, 2)


def test_analysed_frames_are_the_first_of_each_slot_of_their_cell(tmp_path: Path) -> None:
    path = clips.make_clip(tmp_path / "a.mp4", seconds=2)
    probed = probe(lambda: str(path))
    frames, _ = decode(path, probed, fps=8)
    analysed = [index for index, frame in enumerate(frames) if frame[2]]
    first = [min(k for k in range(25) if k * 8 // 25 == slot) for slot in range(8)]
    assert analysed == first + [25 + index for index in first]
    assert all((frame[4] is not None) == frame[2] for frame in frames)
    assert all(frame[2] for frame in decode(path, probed, fps=0)[0])


def test_the_picture_is_what_is_displayed(tmp_path: Path) -> None:
    upright = clips.make_clip(tmp_path / "a.mp4", seconds=0.2, pixel_aspect=Fraction(2))
    turned = clips.rotated(upright, tmp_path / "b.mp4", 90)

    flat = first_picture(upright)
    assert flat.shape == (96, 320, 3)
    assert np.array_equal(first_picture(turned), np.rot90(flat))
    meant = next(iter(clips.scene(1)))
    assert np.abs(flat[:, ::2].astype(int) - meant).mean() < 12  # RGB, not BGR


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_a_display_matrix_turns_and_mirrors(tmp_path: Path, degrees: int, mirrored: bool) -> None:
    plain = clips.make_clip(tmp_path / "a.mp4", seconds=3, keyframe_every=25)
    stored = first_picture(plain)
    path = clips.rotated(plain, tmp_path / "b.mp4", degrees, mirrored=mirrored)
    shown = np.rot90(stored[:, ::-1] if mirrored else stored, degrees // 90)
    assert np.array_equal(first_picture(path), shown)
    assert_exact(path, lengths=(1,))


def first_picture(path: Path) -> np.ndarray:
    return pictures(path)[0]


def pictures(path: Path) -> list[np.ndarray]:
    decoder = SpanDecoder(
        lambda: str(path), probe(lambda: str(path)), 0, -1, fps=0, cell_seconds=1, thumbnail_px=64, threads=1
    )
    return [frame.picture for frame in decoder if frame.picture is not None]


def test_what_a_container_crops_is_not_shown(tmp_path: Path) -> None:
    for suffix, crop in (
        ("mp4", lambda a, b: clips.with_aperture(a, b, left=20, top=10, width=100, height=60)),
        ("mkv", lambda a, b: clips.with_pixel_crop(a, b, left=20, top=10, right=40, bottom=26)),
    ):
        whole = clips.make_clip(tmp_path / f"a.{suffix}", seconds=3, keyframe_every=25)
        path = crop(whole, tmp_path / f"b.{suffix}")
        assert np.array_equal(first_picture(path), first_picture(whole)[10:70, 20:120]), suffix
        assert_exact(path, lengths=(1,))
    turned = clips.rotated(tmp_path / "b.mp4", tmp_path / "c.mp4", 90)
    assert np.array_equal(first_picture(turned), np.rot90(first_picture(tmp_path / "b.mp4")))


@pytest.mark.parametrize("sizes", [((160, 96), (96, 160)), ((80, 48), (160, 96))])
@pytest.mark.parametrize("container", ["webm", "ts"])
def test_a_frame_of_another_size_is_shown_in_its_own_shape_and_named(
    tmp_path: Path, container: str, sizes: tuple[tuple[int, int], tuple[int, int]]
) -> None:
    """Show two seconds of each size. The bright middle must stay as wide as it is high."""

    def part(size: tuple[int, int]) -> list[np.ndarray]:
        picture = np.full((size[1], size[0], 3), 40, np.uint8)
        quarter = min(size) // 4
        picture[size[1] // 2 - quarter : size[1] // 2 + quarter, size[0] // 2 - quarter : size[0] // 2 + quarter] = 220
        return [picture] * 50

    if container == "webm":
        path = clips.changing_size(tmp_path / "a.webm", [part(size) for size in sizes])
    else:
        first, second = (
            clips.write_video(tmp_path / f"{number}.ts", part(size), keyframe_every=25, **SHIFTED[number])
            for number, size in enumerate(sizes)
        )
        path = tmp_path / "a.ts"
        path.write_bytes(first.read_bytes() + second.read_bytes())
    probed = probe(lambda: str(path))
    assert (probed.width, probed.height) == (160, 96)
    shown = pictures(path)
    assert len(shown) == 100
    for picture, size in ((shown[10], sizes[0]), (shown[90], sizes[1])):
        assert picture.shape == (96, 160, 3)
        bright = np.argwhere(picture[..., 1] > 130)
        height, width = np.ptp(bright, axis=0) + 1
        assert abs(height - width) <= 2
        assert abs(width - min(size) // 4 * 2 * min(160 / size[0], 96 / size[1])) <= 2
    size_notes = decode(path, probed)[1]
    odd = next(size for size in sizes if size != (160, 96))
    cells = (0, 1) if odd == sizes[0] else (2, 3)
    assert size_notes == [(cell, f"{odd[0]}x{odd[1]}") for cell in cells]
    assert_exact(path, lengths=(1, 2))
    warning = describe_warnings(probed, size_notes, np.arange(100) * 40_000_000, 1)
    assert warning == (
        f"the picture changes its size: {odd[0]}x{odd[1]} px from {cells[0]} s on; it is shown inside 160x96 px"
    )


SHIFTED: tuple[dict[str, Any], ...] = (
    {"b_frames": 0},
    {"b_frames": 0, "container_options": {"output_ts_offset": "2", "mpegts_start_pid": "0x200"}},
)


@pytest.mark.parametrize("transfer", [16, 18])
@pytest.mark.parametrize("codec", ["libx265", "libsvtav1"])
def test_hdr_is_shown_as_an_ordinary_screen_shows_it(tmp_path: Path, codec: str, transfer: int) -> None:
    plain = [np.asarray(cv2.GaussianBlur(picture, (0, 0), 2), np.uint8) for picture in clips.scene(75, cuts=(40,))]
    path = clips.write_video(
        tmp_path / ("a.mp4" if codec == "libx265" else "a.mkv"),
        clips.in_hdr(plain, transfer),  # type: ignore[arg-type]
        codec=codec,
        pixel_format="yuv420p10le",
        colours=(9, transfer, 9),
        keyframe_every=25,
        options={"crf": "8"} | ({"preset": "10", "svtav1-params": "lp=1"} if codec == "libsvtav1" else {}),
    )
    shown = pictures(path)
    assert len(shown) == 75
    for index in (0, 50):
        dim = plain[index].max(axis=2) < 200  # highlights are compressed
        assert np.abs(shown[index].astype(int) - plain[index])[dim].mean() < 6
    frames = assert_exact(path, lengths=(1, 2))
    # Cuts are found in the displayed pictures too.
    ordinary = clips.write_video(tmp_path / "b.mp4", plain, keyframe_every=25)
    change = np.array([sum(frame[3] or ()) for frame in frames])
    same = np.array([sum(frame[3] or ()) for frame in decode(ordinary, probe(lambda: str(ordinary)))[0]])
    assert int(change.argmax()) == 39
    assert abs(change[39] / same[39] - 1) < 0.15


@pytest.mark.parametrize("suffix", ["ts", "m2ts"])
@pytest.mark.parametrize("ids", [("0x100", "0x200"), ("0x200", "0x100"), ("0x100", "0x1f1", "0x100")])
def test_a_video_that_continues_under_another_packet_id_is_one_video(
    tmp_path: Path, ids: tuple[str, ...], suffix: str
) -> None:
    path = tmp_path / f"joined.{suffix}"
    for number, packet_id in enumerate(ids):
        # The first part begins 0.08 s late because of its b-frames.
        options = {"mpegts_start_pid": packet_id, "output_ts_offset": str(2 * number + 0.08 * (number > 0))}
        if suffix == "m2ts":
            options["mpegts_m2ts_mode"] = "1"
        part = clips.make_clip(
            tmp_path / f"{number}.ts", seconds=2, keyframe_every=25, cuts=(30,), container_options=options
        )
        with path.open("ab") as file:
            file.write(part.read_bytes())
    probed = probe(lambda: str(path))
    assert probed.warning is None
    frames = assert_exact(path, lengths=(1, 2))
    assert [frame[0] for frame in frames] == [index * 40_000_000 for index in range(50 * len(ids))]
    assert decode(path, probed)[1] == []


def test_a_stretch_of_another_size_under_another_packet_id_is_shown_in_its_shape(tmp_path: Path) -> None:
    options = {"mpegts_start_pid": "0x200", "output_ts_offset": "2.08"}
    first = clips.make_clip(tmp_path / "a.ts", seconds=2, keyframe_every=25)
    other = clips.make_clip(
        tmp_path / "b.ts", seconds=2, keyframe_every=25, width=96, height=160, container_options=options
    )
    path = tmp_path / "c.ts"
    path.write_bytes(first.read_bytes() + other.read_bytes())
    assert len(assert_exact(path, lengths=(1, 2))) == 100
    assert decode(path, probe(lambda: str(path)))[1] == [(2, "96x160"), (3, "96x160")]


def test_a_broadcast_that_changes_its_pixel_aspect_is_shown_in_both_shapes(tmp_path: Path) -> None:
    """The aspect is 4:3 and then 16:9, stored in the same number of pixels."""
    parts = [
        clips.make_clip(
            tmp_path / f"{number}.ts",
            seconds=2,
            keyframe_every=25,
            pixel_aspect=aspect,
            container_options={"mpegts_start_pid": f"0x{number}00", "output_ts_offset": str(2.08 * number - 2.08)},
        )
        for number, aspect in enumerate((Fraction(1), Fraction(4, 3)), 1)
    ]
    path = tmp_path / "a.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    probed = probe(lambda: str(path))
    assert (probed.width, probed.height) == (160, 96)
    shown = pictures(path)
    assert (shown[60][:10] == GREY).all()  # 213x96 leaves room above and below
    assert (shown[40][:10] != GREY).any()
    assert_exact(path, lengths=(1, 2))
    assert decode(path, probed)[1] == [(2, "213x96"), (3, "213x96")]


UNEVEN_MS = [round(index * 1000 / 30) for index in range(30)] + [1000 + 200 * index for index in range(30)]


@pytest.mark.parametrize(
    ("number", "ms"), [(0, 5000), (1, 33), (4, -33), (15, 70), (29, 33), (30, -33), (30, 20000), (44, -1500), (58, 300)]
)
def test_one_wrong_time_stamp_costs_that_frame_and_no_other(tmp_path: Path, number: int, ms: int) -> None:
    whole = uneven(tmp_path)
    path = clips.with_moved_stamps(whole, tmp_path / "b.mkv", {number: ms})
    probed = probe(lambda: str(path))
    assert not probed.times_are_counted
    frames = decode(path, probed, fps=0)[0]
    every = decode(whole, probe(lambda: str(whole)), fps=0)[0]
    right = [frame for index, frame in enumerate(every) if index != number]
    zero_ns = UNEVEN_MS[1] * 10**6 if number == 0 else 0  # the first displayed frame
    decoded = {(frame[0] + zero_ns, frame[4]) for frame in frames}
    missing = [frame for frame in right if (frame[0], frame[4]) not in decoded]
    # Time stamps alone cannot show which of two neighbours is wrong.
    assert len(missing) <= 1
    assert all(abs(frame[0] - UNEVEN_MS[number] * 1e6) < 250e6 for frame in missing)
    for seconds in (1, 2, 4):
        assert in_chunks(path, probed, seconds, fps=0)[0] == frames, seconds


def uneven(folder: Path) -> Path:
    return clips.write_video(
        folder / "uneven.mkv",
        clips.scene(60),
        stamps=UNEVEN_MS,
        time_base=Fraction(1, 1000),
        keyframe_every=15,
        b_frames=0,
    )


def test_several_wrong_time_stamps_cost_those_frames_and_no_other(tmp_path: Path) -> None:
    path = clips.with_moved_stamps(uneven(tmp_path), tmp_path / "b.mkv", {4: -33, 20: 9000, 38: -700, 52: 400})
    frames = assert_exact(path)
    assert [round(frame[0] / 1e6) for frame in frames] == [
        ms for index, ms in enumerate(UNEVEN_MS) if index not in (4, 20, 38, 52)
    ]


RAW: dict[str, dict[str, Any]] = {
    "h264": {},
    "hevc": {"codec": "libx265"},
    "m4v": {"codec": "mpeg4", "b_frames": 0},
    "mpeg2video": {"codec": "mpeg2video", "fps": Fraction(24)},
}


@pytest.mark.parametrize("container", RAW)
def test_a_stream_without_a_container_has_the_rate_that_it_says(tmp_path: Path, container: str) -> None:
    how = {"fps": Fraction(10), **RAW[container]}
    path = clips.make_clip(tmp_path / "a.bin", container=container, seconds=2, **how)
    probed = probe(lambda: str(path))
    frames = decode(path, probed)[0]
    assert [frame[0] for frame in frames] == [int(index / how["fps"] * 10**9) for index in range(int(2 * how["fps"]))]
    assert probed.warning is None


def test_a_picture_file_is_one_analysed_frame(tmp_path: Path) -> None:
    path = clips.picture_file(tmp_path / "a.png")
    probed = probe(lambda: str(path))
    frames, _ = decode(path, probed)
    assert [frame[:4] for frame in frames] == [(0, 0, True, None)]


def test_a_header_that_promises_too_much_or_too_little_loses_no_frame(tmp_path: Path) -> None:
    path = clips.make_clip(tmp_path / "a.mp4", seconds=4, keyframe_every=25)
    probed = probe(lambda: str(path))
    whole, _ = decode(path, probed)
    for duration_s in (1.0, 30.0):
        wrong = replace(probed, duration_s=duration_s, keyframe_ns=())
        assert in_chunks(path, wrong, 1)[0] == whole


def test_time_stamps_that_jump_back_late_are_a_fault_of_the_file(tmp_path: Path) -> None:
    recording = clips.make_clip(tmp_path / "a.ts", seconds=4, keyframe_every=25)
    joined = tmp_path / "b.ts"
    joined.write_bytes(recording.read_bytes() * 2)
    unaware = replace(probe(lambda: str(joined)), times_are_counted=False)  # like a file too large to be read through
    with pytest.raises(DataError, match="jump back"):
        decode(joined, unaware)


@pytest.mark.parametrize("keyframes", [False, True])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_damage_looks_the_same_whatever_the_length_of_chunks(tmp_path: Path, suffix: str, keyframes: bool) -> None:
    sound = clips.make_clip(tmp_path / f"a.{suffix}", seconds=6, cuts=(50,), keyframe_every=25)
    for seed in range(3):
        hurt = clips.corrupt(
            sound, tmp_path / f"b.{suffix}", first=40 + 19 * seed, num_packets=2, seed=seed, keyframes=keyframes
        )
        frames = assert_exact(hurt)
        assert len(frames) >= 148
        assert frames != decode(sound, probe(lambda: str(sound)))[0]


def test_damage_is_raised_named_by_its_cell_and_decoded_again(tmp_path: Path) -> None:
    sound = clips.make_clip(tmp_path / "a.mp4", seconds=6, keyframe_every=25)
    hurt = clips.corrupt(sound, tmp_path / "b.mp4", first=80, num_packets=3, share=1)
    probed = probe(lambda: str(hurt))
    with pytest.raises(Damaged):
        list(SpanDecoder(lambda: str(hurt), probed, 2, 4, fps=1, cell_seconds=1, thumbnail_px=64, threads=1))
    assert decode(hurt, probed)[1] == [(3, DAMAGED)]
    assert decode(hurt, probed, 2, 4)[1] == [(3, DAMAGED)]
    assert decode(hurt, probed, 4, -1)[1] == []


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "avi"])
def test_everything_that_is_left_of_a_cut_off_file_is_decoded(tmp_path: Path, suffix: str) -> None:
    how: dict[str, Any] = {"container_options": {"movflags": "faststart"}} if suffix == "mp4" else {}
    if suffix == "avi":
        how = {"codec": "mpeg4", "b_frames": 0}
    whole = clips.make_clip(tmp_path / f"a.{suffix}", seconds=6, keyframe_every=25, **how)
    frames = assert_exact(clips.cut_off(whole, tmp_path / f"b.{suffix}", 0.6), lengths=(1, 2))
    assert 60 < len(frames) < 110
    assert frames[:60] == decode(whole, probe(lambda: str(whole)))[0][:60]


def test_the_decoder_closes_its_files_when_it_is_left_early(tmp_path: Path) -> None:
    path = clips.make_clip(tmp_path / "a.mp4")
    files = []

    def open_source() -> object:
        files.append(clips.as_file(path))
        return files[-1]

    opener: Callable = open_source
    frames = iter(
        SpanDecoder(opener, probe(lambda: str(path)), 0, -1, fps=0, cell_seconds=1, thumbnail_px=64, threads=1)
    )
    next(frames)
    frames.close()  # type: ignore[attr-defined]
    assert files
    assert all(file.closed for file in files)


REAL: dict[str, dict[str, Any]] = {
    "mp4": {},
    "open.mp4": {"open_gop": True},
    "vfr.mp4": {"variable": True},
    "ts": {},
    "mkv": {},
    "avi": {"codec": "mpeg4", "b_frames": 0},
    "hevc.mp4": {"codec": "libx265", "open_gop": True},
}


@needs_shared
@pytest.mark.slow
@pytest.mark.parametrize("kind", REAL)
@pytest.mark.parametrize("clip", ["two-friends.mp4", "multishot-vfr.mp4", "multishot-anamorphic.mp4"])
def test_chunks_of_real_videos_are_exact(tmp_path: Path, clip: str, kind: str) -> None:
    path = clips.re_encode(
        SHARED / "clips" / clip, tmp_path / f"a.{kind}", width=320, limit_s=24, keyframe_s=1, **REAL[kind]
    )
    assert_exact(path, lengths=(2, 4, 8))
