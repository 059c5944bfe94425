import os
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import DataError
from pipeline.media.container import fraction
from pipeline.media.probe import Probe, describe_warnings, probe, read_picture
from tests import clips
from tests.shared import SHARED, needs_shared


def look_at(path: Path) -> Probe:
    return probe(lambda: str(path))


def test_a_video_says_what_it_is(tmp_path: Path) -> None:
    found = look_at(clips.make_clip(tmp_path / "a.mp4", seconds=3, keyframe_every=25))
    assert (found.kind, found.width, found.height, found.codec) == ("video", 160, 96, "h264")
    assert (found.fps, found.duration_s, found.start_pts) == (Fraction(25), 3.0, 0)
    assert found.keyframe_ns == (0, 1_000_000_000, 2_000_000_000)
    assert found.enterable
    assert not found.stamped


def test_a_probe_survives_json(tmp_path: Path) -> None:
    found = look_at(clips.make_clip(tmp_path / "a.mkv", fps=Fraction(30000, 1001)))
    assert Probe.from_json(found.to_json()) == found
    assert found.fps == Fraction(30000, 1001)
    assert Probe.from_json(found.without_keyframes().to_json()).keyframe_ns == ()


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
    assert probe(lambda: clips.as_file(path)) == probe(lambda: path.open("rb")) == look_at(path)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "avi"])
def test_keyframes_are_known_whatever_the_container(tmp_path: Path, suffix: str) -> None:
    how: dict[str, Any] = {"codec": "mpeg4", "b_frames": 0} if suffix == "avi" else {}
    found = look_at(clips.make_clip(tmp_path / f"a.{suffix}", seconds=4, keyframe_every=25, **how))
    assert np.abs(np.array(found.keyframe_ns) / 1e9 - np.arange(4)).max() < 0.01


def test_of_keyframes_that_stand_close_together_few_are_remembered(tmp_path: Path) -> None:
    assert len(look_at(clips.make_clip(tmp_path / "a.avi", codec="mjpeg")).keyframe_ns) == 6


def test_the_pixel_aspect_stretches_the_width(tmp_path: Path) -> None:
    found = look_at(clips.make_clip(tmp_path / "a.mp4", width=176, height=144, pixel_aspect=Fraction(16, 11)))
    assert (found.width, found.height) == (256, 144)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_is_part_of_what_is_displayed(tmp_path: Path, degrees: int) -> None:
    upright = clips.make_clip(tmp_path / "a.mp4", pixel_aspect=Fraction(2))
    found = look_at(clips.rotated(upright, tmp_path / "b.mp4", degrees))
    assert (found.width, found.height) == ((320, 96) if degrees == 180 else (96, 320))
    assert found.rotation == degrees


def test_time_zero_is_the_first_displayed_frame_of_an_edit_list(tmp_path: Path) -> None:
    whole = clips.make_clip(tmp_path / "a.mp4", seconds=4, keyframe_every=25)
    found = look_at(clips.with_edit_list(whole, tmp_path / "b.mp4", skipped_s=1.4))
    assert found.duration_s == pytest.approx(2.6, abs=0.05)
    assert np.array(found.keyframe_ns) / 1e9 == pytest.approx([0.6, 1.6], abs=0.01)


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
    found = look_at(clips.make_clip(tmp_path / "a.mp4", seconds=4, **how))
    assert not found.enterable, why
    assert not found.stamped


def test_time_stamps_in_the_order_of_storage_are_known(tmp_path: Path) -> None:
    found = look_at(clips.make_clip(tmp_path / "a.avi", b_frames=2))
    assert found.stamped
    assert not found.enterable


def test_recordings_joined_in_one_file_are_told_by_their_stamps(tmp_path: Path) -> None:
    one = clips.make_clip(tmp_path / "a.ts", seconds=2)
    joined = tmp_path / "b.ts"
    joined.write_bytes(one.read_bytes() * 2)
    assert look_at(joined).stamped


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tiff"])
def test_a_picture_is_a_video_of_one_frame(tmp_path: Path, suffix: str) -> None:
    path = clips.picture_file(tmp_path / f"a%03d{suffix}")  # the name must not be taken for a pattern
    found = look_at(path)
    assert (found.kind, found.width, found.height) == ("image", 160, 96)
    assert read_picture(lambda: str(path)).shape == (96, 160, 3)


def test_a_picture_is_turned_as_its_exif_says(tmp_path: Path) -> None:
    upright = read_picture(lambda: str(clips.picture_file(tmp_path / "a.jpg")))
    path = clips.picture_file(tmp_path / "b.jpg", orientation=6)
    assert (look_at(path).width, look_at(path).height) == (96, 160)
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
    "missing": (lambda folder: folder / "nowhere.mp4", "cannot be read: No such file"),
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
        look_at(make(tmp_path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused_with_a_reason(tmp_path: Path) -> None:
    path = clips.make_clip(tmp_path / "a.mp4")
    path.chmod(0)
    with pytest.raises(DataError, match="cannot be read: Permission denied"):
        look_at(path)


def test_a_playlist_cannot_make_it_read_other_files(tmp_path: Path) -> None:
    clips.make_clip(tmp_path / "a.ts")
    playlist = tmp_path / "b.mp4"
    for text in (
        "ffconcat version 1.0\nfile a.ts\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:3,\na.ts\n#EXT-X-ENDLIST\n",
    ):
        playlist.write_text(text)
        with pytest.raises(DataError, match="not a video"):
            look_at(playlist)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_a_file_that_was_cut_off_keeps_its_promised_length_or_says_that_it_may_be_cut(
    tmp_path: Path, suffix: str
) -> None:
    how: dict[str, Any] = {"container_options": {"movflags": "faststart"}} if suffix == "mp4" else {}
    whole = clips.make_clip(tmp_path / f"a.{suffix}", seconds=6, **how)
    found = look_at(clips.cut_off(whole, tmp_path / f"b.{suffix}", 0.51))
    said = describe_warnings(found, [], 2_960_000_000, 1)
    assert said is not None
    assert ("cut off" if suffix == "ts" else "ends early: 3.0 of 6.0 s") in said


def test_sound_that_goes_on_is_no_sign_of_a_missing_end(tmp_path: Path) -> None:
    for suffix in ("mp4", "mkv", "ts"):
        found = look_at(clips.make_clip(tmp_path / f"a.{suffix}", seconds=2, sound_s=6))
        assert describe_warnings(found, [], 1_960_000_000, 1) is None


def test_warnings_name_stretches_and_not_single_cells(tmp_path: Path) -> None:
    found = replace(look_at(clips.make_clip(tmp_path / "a.mp4")), duration_s=20.0)
    said = describe_warnings(found, [4, 3, 9, 3], 12_260_000_000, 1)
    assert said == "damaged at 3 to 5 s, 9 to 10 s; ends early: 12.3 of 20.0 s"


@needs_shared
def test_the_seed_clips_are_displayed_as_their_makers_meant() -> None:
    anamorphic = look_at(SHARED / "clips" / "multishot-anamorphic.mp4")
    assert (anamorphic.width, anamorphic.height) == (1024, 576)
    assert look_at(SHARED / "clips" / "talkshow.mp4").recorded_at == "2018-09-23T17:18:20+00:00"
    assert look_at(SHARED / "clips" / "dance.avi").codec == "h264"
