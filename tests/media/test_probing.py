import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import DataError
from pipeline.media import extent, transport
from pipeline.media.container import fraction
from pipeline.media.pictures import read_picture
from pipeline.media.probe import Probe
from pipeline.media.probing import probe
from pipeline.media.warnings import describe_warnings
from tests import clips
from tests.shared import SHARED, needs_shared


def probe_file(path: Path) -> Probe:
    return probe(lambda: str(path))


def test_a_video_says_what_it_is(tmp_path: Path) -> None:
    probed = probe_file(clips.make_clip(tmp_path / "a.mp4", seconds=3, keyframe_every=25))
    assert (probed.kind, probed.width, probed.height, probed.codec) == ("video", 160, 96, "h264")
    assert (probed.fps, probed.duration_s, probed.start_pts) == (Fraction(25), 3.0, 0)
    assert probed.keyframe_ns == (0, 1_000_000_000, 2_000_000_000)
    assert probed.enterable
    assert not probed.times_are_counted


def test_a_probe_survives_json(tmp_path: Path) -> None:
    probed = probe_file(clips.make_clip(tmp_path / "a.mkv", fps=Fraction(30000, 1001)))
    assert Probe.from_json(probed.to_json()) == probed
    assert probed.fps == Fraction(30000, 1001)
    assert Probe.from_json(probed.without_keyframes().to_json()).keyframe_ns == ()


class OtherRational:
    """A rational number of a type that neither fractions nor json know, as in other versions of PyAV."""

    def __init__(self, numerator: int, denominator: int) -> None:
        self.numerator, self.denominator = numerator, denominator

    def __bool__(self) -> bool:
        return self.numerator != 0


def test_a_rational_number_of_any_type_is_a_fraction() -> None:
    assert fraction(OtherRational(30000, 1001)) == Fraction(30000, 1001)
    assert type(fraction(OtherRational(30000, 1001))) is Fraction
    assert fraction(OtherRational(0, 1)) is None
    assert fraction(None) is None


def test_a_file_object_is_as_good_as_a_path(tmp_path: Path) -> None:
    path = clips.make_clip(tmp_path / "a.mp4")
    assert probe(lambda: clips.as_file(path)) == probe(lambda: path.open("rb")) == probe_file(path)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "avi"])
def test_keyframes_are_known_whatever_the_container(tmp_path: Path, suffix: str) -> None:
    how: dict[str, Any] = {"codec": "mpeg4", "b_frames": 0} if suffix == "avi" else {}
    probed = probe_file(clips.make_clip(tmp_path / f"a.{suffix}", seconds=4, keyframe_every=25, **how))
    assert np.abs(np.array(probed.keyframe_ns) / 1e9 - np.arange(4)).max() < 0.01


def test_few_of_many_close_keyframes_are_kept(tmp_path: Path) -> None:
    assert len(probe_file(clips.make_clip(tmp_path / "a.avi", codec="mjpeg")).keyframe_ns) == 6


def test_the_pixel_aspect_stretches_the_width(tmp_path: Path) -> None:
    probed = probe_file(clips.make_clip(tmp_path / "a.mp4", width=176, height=144, pixel_aspect=Fraction(16, 11)))
    assert (probed.width, probed.height) == (256, 144)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_is_part_of_what_is_displayed(tmp_path: Path, degrees: int) -> None:
    upright = clips.make_clip(tmp_path / "a.mp4", pixel_aspect=Fraction(2))
    probed = probe_file(clips.rotated(upright, tmp_path / "b.mp4", degrees))
    assert (probed.width, probed.height) == ((320, 96) if degrees == 180 else (96, 320))
    assert probed.rotation == degrees


def test_time_zero_is_the_first_displayed_frame_of_an_edit_list(tmp_path: Path) -> None:
    whole = clips.make_clip(tmp_path / "a.mp4", seconds=4, keyframe_every=25)
    probed = probe_file(clips.with_edit_list(whole, tmp_path / "b.mp4", skipped_s=1.4))
    assert probed.duration_s == pytest.approx(2.6, abs=0.05)
    assert np.array(probed.keyframe_ns) / 1e9 == pytest.approx([0.6, 1.6], abs=0.01)


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"keyframe_every": 1000}, "one keyframe"),
        (
            {"keyframe_every": 25, "b_frames": 0, "options": {"x264-params": "intra-refresh=1:keyint=25:bframes=0"}},
            "refresh",
        ),
    ],
)
def test_a_video_that_cannot_be_entered_in_the_middle_is_known(tmp_path: Path, how: dict[str, Any], why: str) -> None:
    probed = probe_file(clips.make_clip(tmp_path / "a.mp4", seconds=4, **how))
    assert not probed.enterable, why
    assert not probed.times_are_counted


def test_time_stamps_in_the_order_of_storage_are_known(tmp_path: Path) -> None:
    probed = probe_file(clips.make_clip(tmp_path / "a.avi", b_frames=2))
    assert probed.times_are_counted
    assert not probed.enterable


def test_recordings_joined_in_one_file_are_recognised_by_their_time_stamps(tmp_path: Path) -> None:
    recording = clips.make_clip(tmp_path / "a.ts", seconds=2)
    joined = tmp_path / "b.ts"
    joined.write_bytes(recording.read_bytes() * 2)
    assert probe_file(joined).times_are_counted


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tiff"])
def test_a_picture_is_a_video_of_one_frame(tmp_path: Path, suffix: str) -> None:
    path = clips.picture_file(tmp_path / f"a%03d{suffix}")  # the name must not be taken for a pattern
    probed = probe_file(path)
    assert (probed.kind, probed.width, probed.height) == ("image", 160, 96)
    assert read_picture(lambda: str(path)).shape == (96, 160, 3)


def test_a_picture_is_turned_as_its_exif_says(tmp_path: Path) -> None:
    upright = read_picture(lambda: str(clips.picture_file(tmp_path / "a.jpg")))
    path = clips.picture_file(tmp_path / "b.jpg", orientation=6)
    assert (probe_file(path).width, probe_file(path).height) == (96, 160)
    assert np.array_equal(read_picture(lambda: str(path)), np.rot90(upright, -1))


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "text": (lambda folder: clips.text_named_video(folder / "a.mp4"), "not a video or a picture"),
    "empty": (lambda folder: clips.empty_file(folder / "a.mp4"), "the file is empty"),
    "no moov": (
        lambda folder: clips.without_index(clips.make_clip(folder / "a.mp4"), folder / "b.mp4"),
        r"cut off or was never finished.*moov",
    ),
    "sound": (lambda folder: clips.sound_only(folder / "a.mp4"), "holds no video, only audio"),
    "2 px": (lambda folder: clips.make_clip(folder / "a.mp4", width=2, height=2), "too small .* 2 x 2 px"),
    "missing": (lambda folder: folder / "nowhere.mp4", "it is not there any more"),
    "folder": (lambda folder: folder, "cannot be read: Is a directory"),
    "cut picture": (
        lambda folder: clips.cut_off(clips.picture_file(folder / "a.jpg"), folder / "b.jpg"),
        "the picture cannot be decoded",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_is_refused_with_a_reason(tmp_path: Path, kind: str) -> None:
    make, reason = BAD[kind]
    with pytest.raises(DataError, match=reason):
        probe_file(make(tmp_path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused_with_a_reason(tmp_path: Path) -> None:
    path = clips.make_clip(tmp_path / "a.mp4")
    path.chmod(0)
    with pytest.raises(DataError, match="cannot be read: Permission denied"):
        probe_file(path)


def test_a_playlist_cannot_make_it_read_other_files(tmp_path: Path) -> None:
    clips.make_clip(tmp_path / "a.ts")
    playlist = tmp_path / "b.mp4"
    for text in (
        "ffconcat version 1.0\nfile a.ts\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:3,\na.ts\n#EXT-X-ENDLIST\n",
    ):
        playlist.write_text(text)
        with pytest.raises(DataError, match="not a video"):
            probe_file(playlist)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_a_cut_off_file_keeps_its_stated_duration_or_warns_that_it_may_be_cut_off(tmp_path: Path, suffix: str) -> None:
    how: dict[str, Any] = {"container_options": {"movflags": "faststart"}} if suffix == "mp4" else {}
    whole = clips.make_clip(tmp_path / f"a.{suffix}", seconds=6, **how)
    probed = probe_file(clips.cut_off(whole, tmp_path / f"b.{suffix}", 0.51))
    warning = describe_warnings(probed, [], np.array([0, 2_960_000_000]), 1)
    assert warning is not None
    assert ("cut off" if suffix == "ts" else "ends early: 3.0 of 6.0 s") in warning


def test_sound_that_outlasts_the_pictures_is_no_missing_end(tmp_path: Path) -> None:
    for suffix in ("mp4", "mkv", "ts"):
        probed = probe_file(clips.make_clip(tmp_path / f"a.{suffix}", seconds=2, sound_s=6))
        assert describe_warnings(probed, [], np.array([0, 1_960_000_000]), 1) is None


def test_a_header_that_promises_hours_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = clips.make_clip(tmp_path / "a.mkv", seconds=4, keyframe_every=25)
    path = clips.promising(plain, tmp_path / "b.mkv", 335_000)
    for small_bytes in (64 << 20, 0):  # read through, and as if it were too large for that
        monkeypatch.setattr(extent, "SMALL_BYTES", small_bytes)
        probed = probe_file(path)
        assert probed.duration_s == pytest.approx(4, abs=0.05)
        assert len(probed.keyframe_ns) == 4
        warning = describe_warnings(probed, [], np.array([0, 3_960_000_000]), 1)
        assert warning == "ends early: 4.0 of 335000.0 s"


def test_a_clock_that_begins_late_makes_no_file_end_early(tmp_path: Path) -> None:
    stamps = [5_000 + 40 * number for number in range(50)]
    path = clips.write_video(tmp_path / "a.mkv", clips.scene(50), stamps=stamps, time_base=Fraction(1, 1000))
    probed = probe_file(path)
    assert probed.duration_s == pytest.approx(2, abs=0.05)
    assert describe_warnings(probed, [], np.array([0, 1_960_000_000]), 1) is None


def test_a_large_file_without_an_index_is_as_long_as_its_first_part_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extent, "SMALL_BYTES", 0)
    monkeypatch.setattr(extent, "RATE_BYTES", 10_000)
    plain = clips.make_clip(tmp_path / "a.mkv", seconds=20, keyframe_every=25, container_options={"cues_to_front": "0"})
    whole = clips.promising(plain, tmp_path / "b.mkv", 335_000).read_bytes()
    (tmp_path / "b.mkv").write_bytes(whole.replace(b"\x1c\x53\xbb\x6b", b"\x1c\x53\xbb\x6a"))  # no cues
    assert 5 < probe_file(tmp_path / "b.mkv").duration_s < 60


def test_the_index_of_a_file_that_was_cut_off_counts_up_to_its_end(tmp_path: Path) -> None:
    whole = clips.make_clip(
        tmp_path / "a.mp4", seconds=20, keyframe_every=25, container_options={"movflags": "faststart"}
    )
    probed = probe_file(clips.cut_off(whole, tmp_path / "b.mp4", 0.3))
    assert 3 < probed.duration_s < 8
    assert probed.promised_s == 20


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "mpg"])
def test_a_further_video_is_named(tmp_path: Path, suffix: str) -> None:
    path = clips.two_videos(tmp_path / f"a.{suffix}")
    probed = probe_file(path)
    assert (probed.width, probed.height) == (160, 96)
    assert probed.warning is not None
    assert probed.warning.startswith("shows more than one video: stream ")
    assert probed.warning.endswith(" is not processed")


def test_two_programmes_side_by_side_are_not_joined(tmp_path: Path) -> None:
    path = clips.two_videos(tmp_path / "a.ts", first=(160, 96), second=(160, 96))
    probed = probe_file(path)
    assert probed.duration_s == pytest.approx(2, abs=0.1)
    assert len(probed.packet_ids) == 1
    assert "with packet id" in str(probed.warning)


def test_a_large_stream_that_changes_its_packet_id_is_joined_by_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.ts"
    for number, packet_id in enumerate(("0x100", "0x200")):
        options = {"mpegts_start_pid": packet_id, "output_ts_offset": str(10 * number)}
        part = clips.make_clip(
            tmp_path / "part.ts", seconds=10, keyframe_every=25, b_frames=0, container_options=options
        )
        with path.open("ab") as file:
            file.write(part.read_bytes())
    monkeypatch.setattr(transport, "WHOLE_BYTES", 0)
    monkeypatch.setattr(transport, "WINDOW_BYTES", 40_000)
    monkeypatch.setattr(transport, "NUM_WINDOWS", 6)
    assert path.stat().st_size > 6 * 40_000
    probed = probe_file(path)
    assert probed.packet_ids == (0x100, 0x200)
    assert probed.duration_s == pytest.approx(20, abs=0.1)


def test_the_still_picture_of_an_animation_is_no_further_video(tmp_path: Path) -> None:
    path = tmp_path / "a.avif"
    first, *others = (Image.fromarray(picture) for picture in clips.scene(10))
    first.save(path, save_all=True, append_images=others, duration=100)
    probed = probe_file(path)
    assert (probed.kind, probed.duration_s, probed.warning) == ("video", 1.0, None)


def test_times_that_are_guessed_are_named(tmp_path: Path) -> None:
    raw = probe_file(clips.make_clip(tmp_path / "a.bin", container="mjpeg", codec="mjpeg"))
    assert raw.warning == "times are guessed: the stream says no rate, 25 frames a second are assumed"
    joined = tmp_path / "b.ts"
    joined.write_bytes(clips.make_clip(tmp_path / "a.ts", seconds=2).read_bytes() * 2)
    assert probe_file(joined).warning == (
        "times are guessed: its time stamps cannot be used, 25 frames a second are assumed"
    )
    # AVI counts frames and has no other times.
    assert probe_file(clips.make_clip(tmp_path / "a.avi", b_frames=2)).warning is None


def test_the_tick_of_a_clock_is_no_rate(tmp_path: Path) -> None:
    path = clips.make_clip(
        tmp_path / "a.dv", seconds=1, container="dv", codec="dvvideo", width=720, height=576, b_frames=0
    )
    assert probe_file(path).fps == 25


def test_a_first_stamp_of_another_clock_does_not_set_time_zero(tmp_path: Path) -> None:
    stamps = [0, *(5000 * 25 + number for number in range(1, 50))]
    probed = probe_file(clips.write_video(tmp_path / "a.mkv", clips.scene(50), stamps=stamps, b_frames=0))
    assert probed.start_pts > 4_000_000


@pytest.mark.parametrize("tile_px", [None, 64, 128])
@pytest.mark.parametrize("suffix", [".avif", ".heic"])
def test_a_picture_of_tiles_is_shown_whole_and_upright(tmp_path: Path, suffix: str, tile_px: int | None) -> None:
    picture = next(
        iter(clips.scene(1, width=301, height=211) if tile_px is None else clips.scene(1, width=300, height=210))
    )
    picture = picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2]
    for name, properties, shown in (
        ("plain", [], picture),
        ("turned", [clips.turned_by(1)], np.rot90(picture)),
        ("mirrored", [clips.mirrored_by(1)], picture[:, ::-1]),
        ("both", [clips.turned_by(3), clips.mirrored_by(0)], np.rot90(picture, 3)[::-1]),
    ):
        path = clips.tiled_picture(tmp_path / f"{name}{suffix}", picture, tile_px=tile_px, properties=properties)
        probed = probe_file(path)
        assert (probed.kind, probed.width, probed.height) == ("image", shown.shape[1], shown.shape[0])
        assert np.abs(read_picture(lambda path=path: str(path)).astype(int) - shown).mean() < 3, name


@pytest.mark.parametrize("suffix", [".avif", ".heic"])
def test_a_picture_of_tiles_that_is_cut_off_is_refused(tmp_path: Path, suffix: str) -> None:
    picture = next(iter(clips.scene(1, width=300, height=210)))
    whole = clips.tiled_picture(tmp_path / f"a{suffix}", picture, tile_px=64)
    with pytest.raises(DataError, match="the picture cannot be decoded"):
        probe_file(clips.cut_off(whole, tmp_path / f"b{suffix}", 0.8))


def test_a_picture_in_hdr_is_tone_mapped(tmp_path: Path) -> None:
    grey = np.full((96, 160, 3), 148, np.uint8)  # PQ's reference white, nearly
    plain = clips.tiled_picture(tmp_path / "a.avif", grey)
    hdr = clips.tiled_picture(tmp_path / "b.avif", grey, properties=[clips.of_colours(9, 16, 9)])
    assert abs(int(np.median(read_picture(lambda: str(plain)))) - 148) <= 2
    assert int(np.median(read_picture(lambda: str(hdr)))) > 225


@needs_shared
def test_the_seed_clips_are_displayed_as_their_makers_meant() -> None:
    anamorphic = probe_file(SHARED / "clips" / "multishot-anamorphic.mp4")
    assert (anamorphic.width, anamorphic.height) == (1024, 576)
    assert probe_file(SHARED / "clips" / "talkshow.mp4").recorded_at == "2018-09-23T17:18:20+00:00"
    assert probe_file(SHARED / "clips" / "dance.avi").codec == "h264"
