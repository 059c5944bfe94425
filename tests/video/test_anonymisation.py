"""Nobody is recognisable in an anonymised copy, and who stays visible keeps every bit. Tested before encoding."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner, Result

from jobs import anonymise
from jobs.forget import forget
from pipeline.arrays import Faces, Picture
from pipeline.cores.boxes_over_time import BoxesOverTime
from pipeline.cores.covering import HEAD_TO_COVER, Cover, Style, grown, heads_of
from pipeline.cores.plan import NS, OPEN_END
from pipeline.media.canvas import BT709, Canvas
from pipeline.media.container import opened
from pipeline.media.cover import BLOCKS, FILLED, cover
from pipeline.storage.copies import drop_copies
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.store import Store
from pipeline.video import anonymisation, audit
from pipeline.video.anonymisation import NO_BOXES, Anonymisation, FrameFaces, PeopleOverTime
from tests import clips
from tests.builders import HEIGHT, WIDTH, Film, Walker, probe, publish
from tests.filmed_outputs import Passer, publish_clips

FILM = Film(
    8.0,
    [
        Walker(0.5, 3.9, x=40, speed=0, look=1, hidden=((1.5, 3.0),)),
        Walker(0, 4, x=300, speed=0, look=2),
        Walker(4, 8, x=500, speed=0, look=3),
    ],
    cuts=[4.0],
)
FIRST, SECOND, THIRD = 1, 0, 2
"""The walkers by their place in FILM.walkers. The second one appears first."""
WHOLE = (0, OPEN_END)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    place = str(tmp_path_factory.mktemp("out"))
    publish(FILM, [2, 5], place)
    return Store(place)


def head(walker: int) -> tuple[slice, slice]:
    """Return where the head of a walker is in the picture: the upper quarter of the body."""
    box = FILM.walkers[walker]
    return slice(int(box.y), int(box.y) + 45), slice(int(box.x), int(box.x) + 60)


def painted(store: Store, time_s: float, **options: object) -> tuple[Picture, Picture]:
    """Return a noisy picture before and after it is painted at a time."""
    rng = np.random.default_rng(round(time_s * 100))
    before = rng.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    after = before.copy()
    painting = Anonymisation(None, **options)  # pyright: ignore[reportArgumentType]
    paint = painting.painter(store, "v", lambda: "", probe(FILM), WHOLE)
    assert paint(Canvas.of_picture(after), int(time_s * NS))
    return before, after


def is_covered(picture: Picture, place: tuple[slice, slice]) -> bool:
    return bool(np.all(picture[place] == FILLED))


def test_heads_are_covered_in_every_frame_also_where_the_track_was_lost(store: Store) -> None:
    for time_s in np.arange(0.3, 3.9, 0.2).tolist():
        _, after = painted(store, time_s)
        assert is_covered(after, head(1)), time_s
        assert is_covered(after, head(0)), time_s


def test_a_head_is_covered_before_its_track_begins_but_not_over_a_cut(store: Store) -> None:
    assert is_covered(painted(store, 0.2)[1], head(0))
    for time_s, walker in ((3.95, 2), (4.05, 1), (4.05, 0)):
        before, after = painted(store, time_s)
        assert np.array_equal(after[head(walker)], before[head(walker)])


def test_those_who_stay_keep_every_bit_where_nobody_overlaps(store: Store) -> None:
    persons = pd.read_parquet(store.full("persons")).set_index("person_id")
    (kept,) = persons.index[(persons.start_s == 0)]
    before, after = painted(store, 2.0, kept=frozenset({("v", kept)}))
    assert np.array_equal(after[:, 200:], before[:, 200:])
    assert is_covered(after, head(0))
    others, _ = painted(store, 2.0, kept=frozenset({("another", kept)}))
    assert is_covered(painted(store, 2.0, kept=frozenset({("another", kept)}))[1], head(1)), others.shape


def test_whole_bodies_are_covered_on_demand(store: Store) -> None:
    _, after = painted(store, 2.0, part=Cover.BODY)
    assert is_covered(after, (slice(100, 280), slice(300, 360)))
    _, heads = painted(store, 2.0)
    assert not is_covered(heads, (slice(250, 280), slice(300, 360)))


def test_a_forgotten_person_is_covered(tmp_path: Path) -> None:
    publish(FILM, [], str(tmp_path))
    persons = pd.read_parquet(tmp_path / "persons").set_index("person_id")
    (gone,) = persons.index[(persons.start_s == 0)]
    forget(str(tmp_path), [f"v:{gone}"])
    for time_s in np.arange(0.1, 3.9, 0.3).tolist():
        assert is_covered(painted(Store(str(tmp_path)), time_s)[1], head(1)), time_s


def loose(*boxes: Sequence[float]) -> BoxesOverTime:
    times = np.full(len(boxes), 2 * NS, np.int64)
    return BoxesOverTime.of(np.arange(len(boxes)), times, np.array(boxes, np.float64), max_gap_ns=0, hold_ns=NS)


def test_a_face_without_a_track_is_covered_but_not_the_face_of_one_who_stays(store: Store) -> None:
    stranger, friend = [500.0, 20, 530, 60], [315.0, 105, 345, 145]
    people = PeopleOverTime.read(store, "v", {1}, WHOLE)
    places = Anonymisation(None).places(people, loose(stranger, friend), 2 * NS)
    assert len(Anonymisation(None).places(people, NO_BOXES, 2 * NS)) == 1
    (box,) = places[1:].tolist()
    assert (box[0] < 500, box[1] < 20, box[2] > 530, box[3] > 60) == (True,) * 4


@pytest.mark.parametrize("style", [Style.PIXELATE, Style.BLUR])
@pytest.mark.parametrize("size", [(64, 64), (180, 120)])
def test_nothing_finer_than_a_few_blocks_is_left(style: Style, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    block = min(size) // BLOCKS
    coarse = rng.integers(0, 255, (size[1] // block, size[0] // block, 1)).repeat(block, 0).repeat(block, 1)
    noise = rng.normal(0, 20, (size[1], size[0], 1))
    means = noise.reshape(size[1] // block, block, size[0] // block, block).mean(axis=(1, 3), keepdims=True)
    noise = (noise.reshape(size[1] // block, block, size[0] // block, block) - means).reshape(size[1], size[0], 1)
    results = []
    for picture in (coarse * 0.4 + 77, coarse * 0.4 + 77 + noise):
        values = np.clip(picture, 0, 255).astype(np.uint8).repeat(3, 2)
        cover(Canvas.of_picture(values), [[0, 0, *size]], style)
        results.append(values.astype(int))
    assert np.abs(results[0] - results[1]).max() <= 3


@pytest.mark.parametrize("style", Style)
def test_planes_of_video_stay_as_they_are_outside_the_box(style: Style) -> None:
    rng = np.random.default_rng(2)
    planes = [rng.integers(0, 255, shape, np.uint8) for shape in ((100, 140), (50, 70), (50, 70))]
    before = [plane.copy() for plane in planes]
    cover(Canvas(planes, 139, 99, BT709), [[20.5, 30.2, 61.0, 71.9], [130.0, 90, 400, 400], [-9.0, -9, -2, -2]], style)
    for plane, was, step in zip(planes, before, (1, 2, 2), strict=True):
        inside = np.zeros(plane.shape, np.bool_)
        inside[30 // step : 72 // step, 20 // step : 62 // step] = True
        inside[90 // step :, 130 // step :] = True
        assert np.array_equal(plane[~inside], was[~inside])
        assert (plane[inside] != was[inside]).mean() > 0.8


class RedFaces:
    """Finds a face where the picture is white."""

    def __call__(self, crops: Sequence[Picture]) -> list[Faces]:
        return [self._find(crop) for crop in crops]

    def _find(self, crop: NDArray[np.uint8]) -> Faces:
        rows, columns = np.nonzero(crop.min(axis=2) > 200)
        count = int(len(rows) > 0)
        box = [[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]] if count else np.zeros((0, 4))
        return Faces(np.array(box, np.float32), np.full(count, 0.9, np.float32), np.zeros((count, 5, 2), np.float32))


def run(place: Path, *options: object) -> Result:
    return CliRunner().invoke(anonymise.app, [str(place), *map(str, options)], catch_exceptions=False)


@pytest.fixture
def filmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An output of a clip with sound, and a detector that needs no weights."""
    from contextlib import contextmanager

    from jobs.shared import copying
    from tests.jobs.test_annotate import TasksHere

    @contextmanager
    def tasks(*_: object):  # noqa: ANN202
        yield TasksHere()

    monkeypatch.setattr(copying, "running_tasks", tasks)
    monkeypatch.setattr(anonymise, "running_tasks", tasks)
    monkeypatch.setattr(FrameFaces, "load", lambda *_: RedFaces())
    clip = clips.make_clip(tmp_path / "clip.mp4", seconds=1, width=192, height=128, sound_s=1)
    publish_clips(str(tmp_path / "out"), {clip: [Passer()]})
    return tmp_path / "out"


def test_the_command_makes_copies_with_or_without_sound_and_an_audit(filmed: Path) -> None:
    for sound, tracks in (("keep", 1), ("drop", 0)):
        done = run(filmed, "--sound", sound)
        assert done.exit_code == 0, done.output
        assert "audit: a face detector finds" in done.output
        with opened(lambda: str(filmed / "anonymised/clip.mp4")) as copy:
            assert len(copy.streams.audio) == tracks
    assert (filmed / audit.FACTS).exists()
    index = OutputIndex.open(str(filmed))
    assert drop_copies(index.store, index.done()[0]) == ["anonymised/clip.mp4"]


def test_the_audit_shows_frames_with_faces(filmed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anonymisation, "find_faces", lambda *_: NO_BOXES)

    class Everywhere(RedFaces):
        def _find(self, crop: NDArray[np.uint8]) -> Faces:
            return Faces(np.array([[1, 1, 9, 9]], np.float32), np.ones(1, np.float32), np.zeros((1, 5, 2), np.float32))

    monkeypatch.setattr(FrameFaces, "load", lambda *_: Everywhere())
    assert "finds something in 8 of 8 searched frames" in run(filmed).output
    assert (filmed / audit.SHEET).read_bytes()[:4] == b"\x89PNG"
    assert '"frames_with_faces": 8' in (filmed / audit.FACTS).read_text()


def test_a_wrong_name_to_keep_is_an_error(filmed: Path) -> None:
    from pipeline.errors import UserError

    for name in ("nobody", "aaa:1"):
        with pytest.raises(UserError, match="--keep"):
            run(filmed, "--keep", name)


def test_a_head_is_covered_though_the_smoothed_box_begins_a_little_lower() -> None:
    body = np.array([[100.0, 100.0, 150.0, 300.0]])
    cover = grown(heads_of(body), HEAD_TO_COVER)[0]
    assert cover[1] <= 100 - 0.07 * 200
