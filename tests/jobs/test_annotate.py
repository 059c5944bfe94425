"""Tests that annotated copies show each person in every frame, and that one odd source does not stop the others."""

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from jobs import annotate
from jobs.shared import copying, processing
from jobs.shared.processing import Outcome
from pipeline.arrays import Picture
from pipeline.config import load
from pipeline.errors import DataError, UserError
from pipeline.media.decode import SpanDecoder
from pipeline.media.draw import COLOURS
from pipeline.media.pictures import read_picture
from pipeline.media.probing import probe
from pipeline.storage import tables
from pipeline.storage.copies import drop_copies
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.sources import Listing, Source
from pipeline.storage.store import Store
from pipeline.video import copies
from pipeline.video.annotation import label_forms
from tests import clips
from tests.filmed_outputs import Passer, frame_times_ns, publish_clips


class TasksHere:
    """Does every task at once, in this process."""

    num_workers = 1

    def submit(self, task: Callable[[], Any]) -> "Future[Any]":
        answer: Future[Any] = Future()
        try:
            answer.set_result(task())
        except Exception as error:
            answer.set_exception(error)
        return answer


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def tasks(*_: Any) -> Iterator[TasksHere]:
        yield TasksHere()

    monkeypatch.setattr(copying, "running_tasks", tasks)


def run_annotate(place: Path | str, *options: object) -> Result:
    return CliRunner().invoke(annotate.app, [str(place), *map(str, options)], catch_exceptions=False)


def pictures(path: Path) -> list[Picture]:
    """Return all frames of a video as displayed."""
    source, probed = (lambda: str(path)), probe(lambda: str(path))
    decoder = SpanDecoder(source, probed, 0, -1, fps=0, cell_seconds=1, thumbnail_px=16, threads=1, careful=True)
    return [frame.picture for frame in decoder if frame.picture is not None]


def is_framed(picture: Picture, passer: Passer, frame: int, person_id: int, tolerance: int = 30) -> bool:
    """Return whether the left line of a box, which is 2 px wide from an even px on, has the colour of the person."""
    column = passer.left(frame) // 2 * 2
    line = picture[passer.y + 22 : passer.y + passer.height - 4, column : column + 2]
    return bool(np.abs(line.mean(axis=(0, 1)) - COLOURS[person_id - 1]).max() < tolerance)


VARIABLE = [0, 40, 75, 80, 200, 1200, 1240, 1300, 1333, 2600, 2601, 2700, 2800, 3500, 3600, 4000, 4040, 4080]
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "b-frames and sound": ("mp4", {"b_frames": 2, "sound_s": 2}),
    "variable rate": ("mp4", {"stamps": VARIABLE, "time_base": Fraction(1, 1000), "seconds": 18 / 25}),
    "AVI at 29.97 a second": ("avi", {"codec": "mpeg4", "b_frames": 2, "fps": Fraction(30000, 1001)}),
    "wide pixels": ("mp4", {"pixel_aspect": Fraction(16, 11)}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_box_is_around_the_person_in_every_frame(kind: str, tmp_path: Path) -> None:
    suffix, how = KINDS[kind]
    shape: dict[str, Any] = {"seconds": 2, "width": 192, "height": 128}
    clip = clips.make_clip(tmp_path / f"clip.{suffix}", **(shape | how))
    passer = Passer()
    publish_clips(str(tmp_path / "out"), {clip: [passer]})
    assert run_annotate(tmp_path / "out").exit_code == 0
    copy = tmp_path / "out/annotated" / ("clip.mp4" if suffix == "mp4" else f"clip.{suffix}.mp4")
    assert frame_times_ns(copy) == frame_times_ns(clip)
    assert [frame for frame, picture in enumerate(pictures(copy)) if not is_framed(picture, passer, frame, 1)] == []


def test_a_turned_video_is_drawn_on_as_it_is_displayed(tmp_path: Path) -> None:
    plain = clips.make_clip(tmp_path / "plain.mp4", seconds=1, width=128, height=192)
    clip = clips.rotated(plain, tmp_path / "clip.mp4", 90)
    passer = Passer()
    publish_clips(str(tmp_path / "out"), {clip: [passer]})
    run_annotate(tmp_path / "out")
    shown = pictures(tmp_path / "out/annotated/clip.mp4")
    assert shown[0].shape[:2] == (128, 192)
    assert all(is_framed(picture, passer, frame, 1) for frame, picture in enumerate(shown))


def test_each_person_keeps_one_colour_and_is_drawn_only_where_present(tmp_path: Path) -> None:
    clip = clips.make_clip(tmp_path / "clip.mp4", seconds=1, width=192, height=128)
    passers = [Passer(x=4, end=15), Passer(x=60, y=70, first=10)]
    publish_clips(str(tmp_path / "out"), {clip: passers})
    run_annotate(tmp_path / "out")
    for frame, picture in enumerate(pictures(tmp_path / "out/annotated/clip.mp4")):
        assert is_framed(picture, passers[0], frame, 1) == (frame < 15)
        assert is_framed(picture, passers[1], frame, 2) == (frame >= 10)


def test_pictures_keep_their_names_and_formats_where_those_can_be_written(tmp_path: Path) -> None:
    paths = [clips.picture_file(tmp_path / name, width=192) for name in ("a.jpg", "b.png", "c.webp")]
    heic = tmp_path / "d.heic"
    pillow_heif.from_pillow(Image.fromarray(next(iter(clips.scene(1, width=192))))).save(heic)
    publish_clips(str(tmp_path / "out"), {path: [Passer()] for path in (*paths, heic)})
    assert "4 pictures annotated" in run_annotate(tmp_path / "out").stdout
    written = sorted(path.name for path in (tmp_path / "out/annotated").iterdir() if not path.name.startswith("."))
    assert written == ["a.jpg", "b.png", "c.webp", "d.heic.png"]
    for name in written:
        picture = read_picture(lambda name=name: str(tmp_path / "out/annotated" / name))
        assert is_framed(picture, Passer(), 0, 1, tolerance=90 if name == "c.webp" else 10), name
    assert (tmp_path / "out/annotated/a.jpg").read_bytes()[:2] == b"\xff\xd8"


def test_a_copy_is_made_again_only_if_what_it_shows_has_changed(tmp_path: Path) -> None:
    clip = clips.make_clip(tmp_path / "clip.mp4", seconds=1, width=192, height=128)
    store = publish_clips(str(tmp_path / "out"), {clip: [Passer()]})
    run_annotate(tmp_path / "out")
    copy = tmp_path / "out/annotated/clip.mp4"
    first = copy.stat().st_mtime_ns
    again = run_annotate(tmp_path / "out").stdout
    assert "0 videos annotated, 1 so already" in again
    assert "to be annotated" not in again
    assert "1 video annotated before, made again if it is out of date" in again
    assert copy.stat().st_mtime_ns == first
    publish_clips(store.uri, {clip: [Passer(age=50.0)]})
    assert "1 video annotated" in run_annotate(tmp_path / "out").stdout
    assert copy.stat().st_mtime_ns != first
    assert "1 video annotated" in run_annotate(tmp_path / "out", "--clock", "--scale", 0.5).stdout
    assert not store.names("_work")


def test_sources_that_are_gone_or_changed_are_named_and_the_others_go_on(tmp_path: Path) -> None:
    lengths = {"a.mp4": 0.2, "b.mp4": 0.4, "c.mp4": 0.6}
    paths = [clips.make_clip(tmp_path / name, seconds=seconds) for name, seconds in lengths.items()]
    publish_clips(str(tmp_path / "out"), {path: [] for path in paths})
    (tmp_path / "a.mp4").unlink()
    clips.make_clip(tmp_path / "b.mp4", seconds=1)
    done = run_annotate(tmp_path / "out")
    assert done.exit_code == 3
    assert f"not annotated: {tmp_path}/a.mp4: it is not there any more" in done.stdout
    assert f"not annotated: {tmp_path}/b.mp4: it has changed since it was processed; process it again" in done.stdout
    assert OutputIndex.open(str(tmp_path / "out")).store.names("annotated") == ["annotated/c.mp4"]


def test_only_the_named_videos_are_copied(tmp_path: Path) -> None:
    paths = [clips.make_clip(tmp_path / name, seconds=length) for name, length in (("a.mp4", 0.2), ("b.mp4", 0.4))]
    store = publish_clips(str(tmp_path / "out"), {path: [] for path in paths})
    run_annotate(tmp_path / "out", "--video", "b.mp4")
    assert store.names("annotated") == ["annotated/b.mp4"]
    with pytest.raises(UserError, match=r"--video c.mp4: is no finished video; did you mean"):
        run_annotate(tmp_path / "out", "--video", "c.mp4")


def test_frames_without_people_are_left_out_on_demand(tmp_path: Path) -> None:
    clip = clips.make_clip(tmp_path / "clip.mp4", seconds=2, width=192, height=128, sound_s=2)
    passer = Passer(first=5, end=35)
    publish_clips(str(tmp_path / "out"), {clip: [passer]})
    run_annotate(tmp_path / "out", "--frames-with-people")
    shown = pictures(tmp_path / "out/annotated/clip.mp4")
    assert len(shown) == 30
    assert all(is_framed(picture, passer, frame + 5, 1) for frame, picture in enumerate(shown))


def test_an_interrupted_copy_is_not_seen_and_its_pieces_are_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = clips.make_clip(tmp_path / "clip.mp4", seconds=3, width=192, height=128)
    store = publish_clips(str(tmp_path / "out"), {clip: [Passer()]})
    monkeypatch.setattr(copies, "SHORT_PIECE_S", 1)
    rewrite, spans = copies.rewrite_span, []

    def fail_in_the_middle(*how: Any) -> Any:
        spans.append(how[2])
        if len(spans) == 2:
            how[-1].write(b"half")
            raise DataError("power is gone")
        return rewrite(*how)

    monkeypatch.setattr(copies, "rewrite_span", fail_in_the_middle)
    assert "power is gone" in run_annotate(tmp_path / "out").stdout
    assert store.names("annotated", hidden=True) == []
    assert run_annotate(tmp_path / "out").exit_code == 0
    assert len(spans) == len(set(spans)) + 1  # only the piece that failed was made twice
    assert frame_times_ns(tmp_path / "out/annotated/clip.mp4") == frame_times_ns(clip)


def test_copies_of_videos_that_are_gone_are_removed(tmp_path: Path) -> None:
    paths = [clips.make_clip(tmp_path / name, seconds=length) for name, length in (("a.mp4", 0.2), ("b.mp4", 0.4))]
    store = publish_clips(str(tmp_path / "out"), {path: [] for path in paths})
    run_annotate(tmp_path / "out")
    store.delete(f"videos/{OutputIndex.load(store).sources[str(paths[0])]['video_id']}.parquet")
    run_annotate(tmp_path / "out")
    assert [name for name in store.names("annotated", hidden=True) if "a.mp4" in name] == []
    video_id = OutputIndex.load(store).sources[str(paths[1])]["video_id"]
    assert drop_copies(store, [video_id]) == ["annotated/b.mp4"]
    assert store.names("annotated", hidden=True) == []


def test_every_source_of_one_content_gets_its_copy(tmp_path: Path) -> None:
    clip = clips.make_clip(tmp_path / "a.mp4", seconds=0.2)
    other = tmp_path / "b.mp4"
    shutil.copy(clip, other)
    store = publish_clips(str(tmp_path / "out"), {clip: [], other: []})
    os.unlink(clip)  # the other one still has the content
    assert run_annotate(tmp_path / "out").exit_code == 0
    assert store.names("annotated") == ["annotated/a.mp4", "annotated/b.mp4"]


def test_sources_and_copies_can_lie_in_an_object_store(bucket: str, tmp_path: Path) -> None:
    clip = clips.make_clip(tmp_path / "clip.mp4", seconds=1, width=192, height=128, sound_s=1)
    Store(f"{bucket}/in").put("clip.mp4", clip.read_bytes())
    store = publish_clips(f"{bucket}/out", {clip: [Passer()]}, {clip: f"{bucket}/in/clip.mp4"})
    os.rename(clip, tmp_path / "elsewhere.mp4")
    assert run_annotate(store.uri).exit_code == 0
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(store.read("annotated/clip.mp4"))
    assert all(is_framed(picture, Passer(), frame, 1) for frame, picture in enumerate(pictures(copy)))
    assert "1 so already" in run_annotate(store.uri).stdout


def test_only_knobs_of_runs_can_be_set(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--set observe.fps=2: only run.\* acts here"):
        run_annotate(tmp_path, "--set", "observe.fps=2")


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    clip = clips.make_clip(tmp_path / "clip.mp4", seconds=0.2)
    store = publish_clips(str(tmp_path / "out"), {clip: []})
    (video_id,) = OutputIndex.load(store).done()
    store.put(f"detections/{video_id}.parquet", b"PAR1 no")
    done = run_annotate(tmp_path / "out")
    assert done.exit_code == 3
    assert "what is stored of it cannot be read" in done.stdout


def test_labels_say_what_is_not_stated() -> None:
    unknown = {"person_id": 7, "gender": "N", "age": None, "age_low": None, "age_high": None}
    aged = unknown | {"age": 34.5, "age_low": 28.4, "age_high": 41.0}
    assert label_forms(aged | {"gender": "F"}) == ("7  F  35 (28-41)", "7 F 35", "7")
    assert label_forms(aged)[0] == "7  gender ?  35 (28-41)"
    assert label_forms(unknown | {"gender": "M"})[:2] == ("7  M  age ?", "7 M ?")
    assert label_forms(unknown) == ("7  no estimate", "7 ?", "7")


def test_an_output_without_videos_has_nothing_to_annotate(tmp_path: Path) -> None:
    tables.create(Store(str(tmp_path / "out")), keep_biometrics=False)
    assert "no finished video to copy" in run_annotate(tmp_path / "out").stdout


def test_a_run_annotates_its_sources_at_its_end(tmp_path: Path) -> None:
    paths = [clips.make_clip(tmp_path / name, seconds=length) for name, length in (("a.mp4", 0.2), ("b.mp4", 0.4))]
    store = publish_clips(str(tmp_path / "out"), {path: [] for path in paths})
    config = load(settings=["annotate=true"])
    assert config.result_knobs() == load().result_knobs()  # no table depends on it
    listing = Listing(tuple(Source(uri=str(path), name=path.name, named_by=str(tmp_path)) for path in paths[:1]), 0)
    outcome = processing._annotate(Outcome(0, 0), config, store, listing)
    assert outcome.status() == 0
    assert store.names("annotated") == ["annotated/a.mp4"]
    paths[0].unlink()
    store.delete("annotated/a.mp4")
    assert processing._annotate(Outcome(0, 0), config, store, listing).status(allow_quarantined=True) == 3
