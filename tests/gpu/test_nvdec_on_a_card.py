"""NVDEC puts out the frames of the CPU's decoder, with their times and marks, bit for bit, or it is not used."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from pipeline.media.aspect import PixelAspects
from pipeline.media.canvas import planes_of
from pipeline.media.nvdec import CardDecoder, NotOnCard, is_in_ffmpeg, why_not_on_card
from pipeline.media.probe import Probe
from pipeline.media.probing import probe
from pipeline.media.shown import Damaged, ShownFrames
from pipeline.models import gpu
from tests import clips
from tests.odd_streams import in_transport_stream, with_film_grain, with_hidden_border
from tests.shared import SHARED, needs_shared

Frame = tuple[Any, ...]
SECONDS = 12
"""s of each clip."""
NAMES = sorted(path.name for path in (SHARED / "clips").glob("*.*"))


@pytest.fixture(scope="module")
def card() -> CardDecoder:
    if why := gpu.why_no_nvdec():
        pytest.skip(f"needs NVDEC: {why}")
    assert is_in_ffmpeg()
    return CardDecoder(gpu.enter_context)


def frames_of(path: Path, probed: Probe, card: CardDecoder | None, first: int = 0, end: int = -1) -> list[Frame]:
    """Return each frame of a span: its ticks, its marks and coding, and the MD5 of its planes."""
    shown = ShownFrames(lambda: str(path), probed, first, end, cell_s=Fraction(1), threads=1, card=card)
    return list(_digests(shown, end))


def _digests(shown: ShownFrames, end: int) -> Iterator[Frame]:
    aspects = PixelAspects()
    for frame, ticks in shown:
        digest = hashlib.md5(usedforsecurity=False)
        for plane in planes_of(frame):
            digest.update(plane.tobytes())
        coding = (frame.format.name, frame.colorspace, frame.color_range, frame.color_trc, frame.color_primaries)
        yield ticks, frame.width, frame.height, frame.key_frame, *coding, aspects(frame), digest.hexdigest()
        if end >= 0 and ticks * shown.tick_s >= end + 1:
            return


def assert_equal(path: Path, probed: Probe, card: CardDecoder, first: int = 0, end: int = -1) -> int:
    there, here = (frames_of(path, probed, each, first, end) for each in (card, None))
    assert len(there) == len(here)
    differing = [index for index, (one, other) in enumerate(zip(there, here, strict=True)) if one != other]
    assert not differing, (len(differing), len(here), there[differing[0]], here[differing[0]])
    return len(here)


@needs_shared
@pytest.mark.parametrize("name", NAMES)
def test_the_clips_have_the_same_frames(card: CardDecoder, name: str) -> None:
    path = SHARED / "clips" / name
    probed = probe(lambda: str(path))
    if why := why_not_on_card(probed, SECONDS):
        pytest.skip(why)
    print(f"{name}: {assert_equal(path, probed, card, 0, SECONDS)} frames")


def x264(*options: str, **more: Any) -> dict[str, Any]:
    params = ["scenecut=0", "keyint=25", "min-keyint=25", "threads=1", *options]
    return {"options": {"preset": "fast", "crf": "20", "x264-params": ":".join(params)}, **more}


KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "closed groups": ("mp4", {}),
    "open groups": ("mp4", {"open_gop": True}),
    "open groups in a transport stream": ("ts", {"open_gop": True}),
    "pyramid of B-frames": ("mp4", x264("bframes=5", "b-pyramid=normal", "b-adapt=0", "ref=5")),
    "no B-frames": ("mp4", x264("bframes=0")),
    "CAVLC and slices": ("mkv", x264("cabac=0", "slices=4", "8x8dct=0")),
    "weighted prediction": ("mp4", x264("weightp=2", "weightb=1", "bframes=3")),
    "full range": ("mkv", x264("fullrange=on")),
    "BT.601 of Europe": ("mkv", {"colours": (5, 6, 5)}),
    "wide pixels": ("mp4", {"pixel_aspect": Fraction(4, 3)}),
    "wide pixels that frames state": ("ts", {"pixel_aspect": Fraction(4, 3)}),
    "a size that is cut from blocks": ("mp4", {"width": 174, "height": 98}),
    "a narrow picture": ("mp4", {"width": 146, "height": 258}),
    "720p": ("mp4", {"width": 1280, "height": 720}),
    "1080p, cut from blocks": ("mp4", {"width": 1920, "height": 1080}),
    "HEVC": ("mp4", {"codec": "libx265", "width": 208, "height": 160}),
    "HEVC, open groups": ("mp4", {"codec": "libx265", "open_gop": True, "width": 208, "height": 160}),
    "HEVC, cut from blocks": ("mkv", {"codec": "libx265", "width": 362, "height": 202}),
    "29.97 a second": ("mp4", {"fps": Fraction(30000, 1001), "keyframe_every": 37}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_made_clips_have_the_same_frames_also_behind_a_seek_and_at_the_end(
    card: CardDecoder, tmp_path: Path, kind: str
) -> None:
    suffix, how = KINDS[kind]
    path = clips.make_clip(tmp_path / f"a.{suffix}", seconds=4, cuts=(50,), **{"keyframe_every": 25, **how})
    probed = probe(lambda: str(path))
    assert why_not_on_card(probed, SECONDS) is None
    for first, end in ((0, -1), (0, 1), (1, 3), (2, -1), (3, -1)):
        assert assert_equal(path, probed, card, first, end) > 20, (first, end)


def test_several_videos_at_the_same_time_have_the_same_frames(card: CardDecoder, tmp_path: Path) -> None:
    paths = [
        clips.make_clip(tmp_path / f"{number}.mp4", seconds=4, width=176 + 16 * number, height=96 + 32 * (number % 3))
        for number in range(8)
    ]
    probes = [probe(lambda path=path: str(path)) for path in paths]
    with ThreadPoolExecutor(len(paths)) as threads:
        for _ in range(2):
            assert min(threads.map(lambda path, probed: assert_equal(path, probed, card), paths, probes)) >= 100


def test_a_frame_that_a_card_does_not_cut_is_left_to_the_cpu(card: CardDecoder, tmp_path: Path) -> None:
    path = with_hidden_border(tmp_path / "a.ts", left=64, top=32)
    probed = probe(lambda: str(path))
    assert probed.stored == (256, 160)
    assert why_not_on_card(probed, SECONDS) is None
    with pytest.raises(NotOnCard, match="another size"):
        frames_of(path, probed, card)


def test_film_grain_is_left_to_the_cpu(card: CardDecoder, tmp_path: Path) -> None:
    path = in_transport_stream(with_film_grain(tmp_path / "a.h264", seconds=3), tmp_path / "a.ts")
    probed = probe(lambda: str(path))
    assert why_not_on_card(probed, SECONDS) is None
    with pytest.raises(NotOnCard, match="film grain"):
        frames_of(path, probed, card)


def test_a_damaged_video_keeps_its_sound_frames_or_is_left_to_the_cpu(card: CardDecoder, tmp_path: Path) -> None:
    """The damage is in the second second. What a card does with it is printed."""
    whole = clips.make_clip(tmp_path / "a.mp4", seconds=4, keyframe_every=25)
    for share in (0.5, 1):
        path = clips.corrupt(whole, tmp_path / f"{share}.mp4", first=30, share=share)
        probed = probe(lambda path=path: str(path))
        with pytest.raises(Damaged):
            frames_of(path, probed, None)
        sound = frames_of(whole, probed, None)
        try:
            there = frames_of(path, probed, card)
        except NotOnCard as limit:
            print(f"{share} of each packet: {limit}")
            continue
        assert len(there) == len(sound)
        differing = [index for index, (one, other) in enumerate(zip(there, sound, strict=True)) if one != other]
        print(f"{share} of each packet: frames {differing} differ, and nothing names them")
        assert all(25 <= index < 50 for index in differing)
