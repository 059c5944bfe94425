"""What a chunk yields is, bit for bit, what a decode of the whole file yields there, whatever file and lengths."""

import hashlib
import threading
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
from pipeline.media import container
from pipeline.media.decode import Damaged, DecodedFrame, SpanDecoder, ahead, damaged_cells
from pipeline.media.probe import Opener, Probe, probe
from tests import clips
from tests.shared import SHARED, needs_shared

Told = tuple[int, int, bool, tuple[int, int, int] | None, str | None, tuple[float, ...] | None]


def tell(frame: DecodedFrame) -> Told:
    picture = None if frame.picture is None else hashlib.sha256(frame.picture.tobytes()).hexdigest()
    return frame.time_ns, frame.cell, frame.analysed, frame.differences, picture, frame.motion


def decode(
    source: Path | Opener, probed: Probe, first: int = 0, end: int = -1, *, fps: float = 5, threads: int = 2
) -> tuple[list[Told], list[int]]:
    """What a span yields and its damaged cells, decoded again carefully where it is damaged, as observe does."""
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
            return [tell(frame) for frame in decoder], damaged_cells([decoder.warning])
        except Damaged:
            assert not careful
    raise AssertionError("careful decoding must not raise Damaged")


def in_chunks(path: Path, probed: Probe, seconds: float, **how: float) -> tuple[list[Told], list[int], int]:
    spans = plan_spans(
        duration_s=probed.duration_s,
        keyframe_ns=probed.keyframe_ns,
        enterable=probed.enterable,
        params=ChunkParams(cell_seconds=1, max_seconds=seconds),
    )
    told, damaged = [], []
    for span in spans:
        frames, cells = decode(path, probed.without_keyframes(), span.first_cell, span.end_cell, **how)  # type: ignore[arg-type]
        told += frames
        damaged += cells
    return told, damaged, len(spans)


def assert_exact(path: Path, *, several: bool = True, lengths: tuple[float, ...] = (1, 2, 4)) -> list[Told]:
    probed = probe(lambda: str(path))
    assert probed.enterable == several
    whole, damaged = decode(path, probed)
    assert all(a[0] < b[0] for a, b in pairwise(whole))
    for seconds in lengths:
        told, cells, num_chunks = in_chunks(path, probed, seconds)
        assert num_chunks > 1 or not several
        assert told == whole, f"chunks of {seconds} s differ"
        assert sorted(cells) == damaged
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

    monkeypatch.setattr(container, "decode_whole", refuse)
    assert len(decode(path, probed, 4, 5)[0]) == 25


def test_codecs_that_cannot_be_trusted_with_several_threads_take_one(tmp_path: Path) -> None:
    how = {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}}
    for path, num_threads in (
        (clips.make_clip(tmp_path / "a.mp4", keyframe_every=25), 1),
        (clips.make_clip(tmp_path / "a.webm", keyframe_every=25, **how), 3),
    ):
        probed = probe(lambda path=path: str(path))
        target_pts = int(2 / probed.time_base)
        with container.opened_at(lambda path=path: str(path), 0, target_pts, 0, threads=3, strict=True) as entry:
            assert entry is not None
            assert entry[2].codec_context.thread_count == num_threads


def test_chunks_of_a_variable_rate_are_exact(tmp_path: Path) -> None:
    even = clips.make_clip(tmp_path / "a.mp4", seconds=6, cuts=(50, 110))
    assert_exact(clips.re_encode(even, tmp_path / "b.mp4", variable=True, keyframe_s=1))


def test_chunks_around_a_hole_in_time_are_exact(tmp_path: Path) -> None:
    stamps = [index + (80 if index >= 60 else 0) for index in range(120)]
    path = clips.write_video(tmp_path / "a.mp4", clips.scene(120), stamps=stamps, keyframe_every=20)
    assert_exact(path)


def test_a_cut_exactly_on_a_chunk_border_is_told_by_the_earlier_chunk(tmp_path: Path) -> None:
    path = clips.make_clip(tmp_path / "a.mp4", seconds=4, cuts=(50,), keyframe_every=25)
    told = assert_exact(path, lengths=(2,))
    sums = [sum(frame[3] or ()) for frame in told]
    assert int(np.argmax(sums)) == 49
    assert told[-1][3] is None


@pytest.mark.parametrize(("degrees", "step"), [(0, -20 + 0j), (90, 0 + 20j), (180, 20 + 0j), (270, 0 - 20j)])
def test_how_the_camera_moves_is_told_before_each_analysed_frame(tmp_path: Path, degrees: int, step: complex) -> None:
    """A camera pans right by 4 px a frame; every fifth frame is analysed. Told in px as displayed, turned or not."""
    wide = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (200, 900, 3), np.uint8), (0, 0), 8)
    wide = np.asarray(cv2.normalize(wide, wide, 0, 255, cv2.NORM_MINMAX), np.uint8)
    views = (np.ascontiguousarray(wide[:, 4 * index : 4 * index + 320]) for index in range(75))
    path = clips.write_video(tmp_path / "a.mp4", views, keyframe_every=25)
    told = assert_exact(clips.rotated(path, tmp_path / "b.mp4", degrees) if degrees else path, lengths=(1, 2))
    motions = [frame[5] for frame in told]
    assert [motion is not None for motion in motions] == [index % 5 == 4 and index != 74 for index in range(75)]
    for real, imaginary, x, y in filter(None, motions):
        corner = complex(real, imaginary) * (160 + 100j) + complex(x, y)
        assert abs(corner - (160 + 100j) - step) < 2


def test_chunks_of_an_edit_list_are_exact_and_show_what_is_displayed(tmp_path: Path) -> None:
    whole = clips.make_clip(tmp_path / "a.mp4", seconds=6, keyframe_every=25)
    edited = clips.with_edit_list(whole, tmp_path / "b.mp4", skipped_s=1.4)
    told = assert_exact(edited)
    assert len(told) == 115
    assert told[0][0] == 0
    pictures = [frame[4] for frame in decode(whole, probe(lambda: str(whole)), fps=0)[0]]
    assert [frame[4] for frame in decode(edited, probe(lambda: str(edited)), fps=0)[0]] == pictures[35:]


def test_a_recording_that_begins_in_the_middle_of_a_group_is_exact(tmp_path: Path) -> None:
    whole = clips.make_clip(tmp_path / "a.ts", seconds=6, keyframe_every=25)
    tail = tmp_path / "b.ts"
    tail.write_bytes(whole.read_bytes()[188 * 40 :])
    told = assert_exact(tail)
    assert told[0][0] == 0
    assert 0 < len(told) < 150


@pytest.mark.parametrize("kind", ["one keyframe", "intra refresh", "b-frames in avi", "raw"])
def test_a_video_that_cannot_be_entered_is_one_span_and_complete(tmp_path: Path, kind: str) -> None:
    refresh = {"x264-params": "intra-refresh=1:keyint=25:bframes=0:threads=1"}
    path = {
        "one keyframe": lambda: clips.make_clip(tmp_path / "a.mp4", keyframe_every=999),
        "intra refresh": lambda: clips.make_clip(tmp_path / "a.mp4", b_frames=0, options=refresh),
        "b-frames in avi": lambda: clips.make_clip(tmp_path / "a.avi"),
        "raw": lambda: clips.make_clip(tmp_path / "a.h264", container="h264"),
    }[kind]()
    told = assert_exact(path, several=False, lengths=(1,))
    assert [frame[0] for frame in told] == [index * 40_000_000 for index in range(75)]
    # A part of it that is asked for all the same is exact too.
    probed = probe(lambda: str(path))
    assert decode(path, probed, 1, 2)[0] == [frame for frame in told if frame[1] == 1]


def test_a_file_object_yields_what_a_path_yields(tmp_path: Path) -> None:
    path = clips.make_clip(tmp_path / "a.mp4", keyframe_every=25)
    probed = probe(lambda: str(path))
    assert decode(lambda: clips.as_file(path), probed, 1, 2) == decode(path, probed, 1, 2)
    assert decode(lambda: path.open("rb"), probed, 1, 2) == decode(path, probed, 1, 2)


def test_analysed_frames_are_the_first_of_each_slot_of_their_cell(tmp_path: Path) -> None:
    path = clips.make_clip(tmp_path / "a.mp4", seconds=2)
    probed = probe(lambda: str(path))
    told, _ = decode(path, probed, fps=8)
    analysed = [index for index, frame in enumerate(told) if frame[2]]
    first = [min(k for k in range(25) if k * 8 // 25 == slot) for slot in range(8)]
    assert analysed == first + [25 + index for index in first]
    assert all((frame[4] is not None) == frame[2] for frame in told)
    assert all(frame[2] for frame in decode(path, probed, fps=0)[0])


def test_the_picture_is_what_is_displayed(tmp_path: Path) -> None:
    upright = clips.make_clip(tmp_path / "a.mp4", seconds=0.2, pixel_aspect=Fraction(2))
    turned = clips.rotated(upright, tmp_path / "b.mp4", 90)

    def first_picture(path: Path) -> np.ndarray:
        decoder = SpanDecoder(
            lambda: str(path), probe(lambda: str(path)), 0, -1, fps=0, cell_seconds=1, thumbnail_px=64, threads=1
        )
        picture = next(iter(decoder)).picture
        assert picture is not None
        return picture

    flat = first_picture(upright)
    assert flat.shape == (96, 320, 3)
    assert np.array_equal(first_picture(turned), np.rot90(flat))
    meant = next(iter(clips.scene(1)))
    assert np.abs(flat[:, ::2].astype(int) - meant).mean() < 12  # RGB, not BGR


def test_every_picture_has_the_first_ones_size_when_the_video_changes_its_own(tmp_path: Path) -> None:
    one = clips.make_clip(tmp_path / "a.ts", seconds=1)
    other = clips.make_clip(tmp_path / "b.ts", seconds=1, width=128, height=128)
    joined = tmp_path / "c.ts"
    joined.write_bytes(one.read_bytes() + other.read_bytes())
    probed = probe(lambda: str(joined))
    decoder = SpanDecoder(lambda: str(joined), probed, 0, -1, fps=0, cell_seconds=1, thumbnail_px=64, threads=1)
    shapes = [frame.picture.shape for frame in decoder if frame.picture is not None]
    assert shapes == [(96, 160, 3)] * 50


def test_a_picture_file_is_one_analysed_frame(tmp_path: Path) -> None:
    path = clips.picture_file(tmp_path / "a.png")
    probed = probe(lambda: str(path))
    told, _ = decode(path, probed)
    assert [frame[:4] for frame in told] == [(0, 0, True, None)]


def test_a_header_that_promises_too_much_or_too_little_loses_no_frame(tmp_path: Path) -> None:
    path = clips.make_clip(tmp_path / "a.mp4", seconds=4, keyframe_every=25)
    probed = probe(lambda: str(path))
    whole, _ = decode(path, probed)
    for duration_s in (1.0, 30.0):
        wrong = replace(probed, duration_s=duration_s, keyframe_ns=())
        assert in_chunks(path, wrong, 1)[0] == whole


def test_time_stamps_that_jump_back_late_are_a_fault_of_the_file(tmp_path: Path) -> None:
    one = clips.make_clip(tmp_path / "a.ts", seconds=4, keyframe_every=25)
    joined = tmp_path / "b.ts"
    joined.write_bytes(one.read_bytes() * 2)
    unaware = replace(probe(lambda: str(joined)), stamped=False)  # as of a file too large to be read through
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
        told = assert_exact(hurt)
        assert len(told) >= 148
        assert told != decode(sound, probe(lambda: str(sound)))[0]


def test_damage_is_raised_named_by_its_cell_and_decoded_again(tmp_path: Path) -> None:
    sound = clips.make_clip(tmp_path / "a.mp4", seconds=6, keyframe_every=25)
    hurt = clips.corrupt(sound, tmp_path / "b.mp4", first=80, num_packets=3, share=1)
    probed = probe(lambda: str(hurt))
    with pytest.raises(Damaged):
        list(SpanDecoder(lambda: str(hurt), probed, 2, 4, fps=1, cell_seconds=1, thumbnail_px=64, threads=1))
    assert decode(hurt, probed)[1] == [3]
    assert decode(hurt, probed, 2, 4)[1] == [3]
    assert decode(hurt, probed, 4, -1)[1] == []


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "avi"])
def test_of_a_file_that_was_cut_off_everything_is_decoded_that_is_there(tmp_path: Path, suffix: str) -> None:
    how: dict[str, Any] = {"container_options": {"movflags": "faststart"}} if suffix == "mp4" else {}
    if suffix == "avi":
        how = {"codec": "mpeg4", "b_frames": 0}
    whole = clips.make_clip(tmp_path / f"a.{suffix}", seconds=6, keyframe_every=25, **how)
    told = assert_exact(clips.cut_off(whole, tmp_path / f"b.{suffix}", 0.6), lengths=(1, 2))
    assert 60 < len(told) < 110
    assert told[:60] == decode(whole, probe(lambda: str(whole)))[0][:60]


def test_ahead_keeps_the_order_and_stays_within_its_depth() -> None:
    pulled: list[int] = []

    def items() -> Iterator[int]:
        for item in range(50):
            pulled.append(item)
            yield item

    seen = []
    for item in ahead(items(), 3):
        assert len(pulled) <= len(seen) + 3 + 2  # in the queue, in the thread's hand, in ours
        seen.append(item)
    assert seen == list(range(50))


def test_ahead_passes_an_exception_on_after_what_came_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise Damaged

    pulled = ahead(items(), 2)
    assert next(pulled) == 1
    with pytest.raises(Damaged):
        next(pulled)


def test_ahead_closed_early_ends_its_thread_and_closes_what_it_read() -> None:
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            yield from range(1000)
        finally:
            closed.set()

    before = threading.active_count()
    for depth in (1, 4):
        closed.clear()
        pulled = ahead(items(), depth)
        assert next(pulled) == 0
        pulled.close()  # type: ignore[attr-defined]
        assert closed.is_set()
        assert threading.active_count() == before


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
