"""The first law of identity, on thousands of fake videos. No byte of any table depends on the division of a video
into chunks, on the order or the place of the work, or on where it is killed and resumed. No reader sees a partial
table.

The pictures and the models are fakes (tests/builders.py). The planner, the ledger, the tracker, the linker and the
tables are real.
"""

import pickle
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from random import Random

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from pipeline.cores.plan import ChunkParams, disjoint, plan_spans
from pipeline.storage import records, replacement
from pipeline.storage.ledger import WORK, Keys, Ledger
from pipeline.storage.store import Store
from pipeline.video.blocks import TrackingResult
from pipeline.video.parts import Part, RunParts
from pipeline.video.reduce import reduce_video
from pipeline.video.track import track_part
from tests.builders import Film, Walker, chunk, configured, job_of
from tests.fake_films import films, in_haste, in_steps, knobs
from tests.interruptions import FragileStore, Killed, contents, read_whole

KEYS = Keys("o", "e")
WHOLE = 10**6


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run of the program on a video.

    entries: cells at which the run divides the missing part.
    length_s: greatest length of a chunk in seconds, where the video can be divided.
    enterable: whether decoding can begin inside the video.
    seed: of the order in which results are ready.
    frames_per_part: see films.in_steps.
    frames_per_window: see films.in_steps.
    killed_at: number of durable changes before the run is killed. None if it ends normally.
    in_publication: whether these changes count from the moment when all chunks are durable, not from the start.
    """

    entries: frozenset[int] = frozenset()
    length_s: int = WHOLE
    enterable: bool = True
    seed: int = 0
    frames_per_part: int = WHOLE
    frames_per_window: int = WHOLE
    killed_at: int | None = None
    in_publication: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """A film, and the runs on it.

    film: the fake video.
    settings: of the configuration.
    attempts: the runs, one after the other.
    settings_before: of the configuration of an earlier publication of the video. None if there was none.
    """

    film: Film
    settings: tuple[str, ...]
    attempts: tuple[Attempt, ...]
    settings_before: tuple[str, ...] | None


@st.composite
def cases(draw: st.DrawFn) -> Case:
    film, chosen = draw(films()), draw(knobs())
    if not all(walker.look is not None for walker in film.walkers):
        chosen = ("track.tracker=bytetrack", *chosen[1:])
    attempt = st.builds(
        Attempt,
        entries=st.frozensets(st.integers(1, int(film.duration_s) + 3)),
        length_s=st.sampled_from([1, 1, 2, 5, WHOLE]),
        enterable=st.integers(0, 4).map(bool),
        seed=st.integers(0, 9),
        frames_per_part=st.sampled_from([1, 5, 20, WHOLE]),
        frames_per_window=st.sampled_from([1, 7, WHOLE]),
    )
    attempts = draw(st.lists(attempt, min_size=1, max_size=3))
    killed = [
        replace(each, killed_at=draw(st.integers(0, 14)), in_publication=draw(st.booleans())) for each in attempts[:-1]
    ]
    before = draw(st.one_of(st.none(), st.none(), st.none(), st.booleans()))
    settings_before = None if before is None else (*chosen[:-1], f"biometrics.keep={before}".lower())
    return Case(film, chosen, (*killed, attempts[-1]), settings_before)


def in_any_order(random: Random) -> RunParts:
    """Return a function that tracks parts as other processes would. The parts are pickled and become ready in any
    order."""

    def run_parts(parts: Sequence[Part]) -> list[TrackingResult]:
        done: dict[int, bytes] = {}
        for index in random.sample(range(len(parts)), len(parts)):
            done[index] = pickle.dumps(track_part(pickle.loads(pickle.dumps(parts[index]))))
        return [pickle.loads(done[index]) for index in range(len(parts))]

    return run_parts


def carry_out(
    film: Film, chosen: Sequence[str], attempt: Attempt, store: FragileStore, config_id: str, *, is_reference: bool
) -> None:
    """Do the work of `process` on one video. The missing chunks come in any order, then the reduce."""
    random = Random(attempt.seed)
    ledger = Ledger(store, KEYS)
    replacement.finish_replacing(store, store.names(WORK))
    frames = film.frames()
    planned = plan_spans(
        duration_s=film.duration_s,
        keyframe_ns=sorted(cell * 10**9 for cell in attempt.entries),
        enterable=attempt.enterable,
        params=ChunkParams(cell_seconds=1, max_seconds=attempt.length_s),
        durable=ledger.durable().get("v", []),
    )
    missing = [span for row in planned for span in row.chunks() if span[0] not in row.durable]
    for span in random.sample(missing, len(missing)):
        ledger.commit("v", span, *chunk(film, frames, span))
    if attempt.in_publication and attempt.killed_at is not None:
        store.changes_left = store.num_changes + attempt.killed_at
    work = job_of(film, disjoint(ledger.durable()["v"]), ledger, configured(*chosen))
    work = replace(work, config_id=config_id, may_be_published=records.read_video(store, "v") is not None)
    with in_steps(attempt.frames_per_part, attempt.frames_per_window):
        reduce_video(work, map_parts if is_reference else in_any_order(random))


def map_parts(parts: Sequence[Part]) -> list[TrackingResult]:
    return [track_part(part) for part in parts]


def publish(film: Film, chosen: Sequence[str], place: Path, config_id: str) -> dict[str, bytes]:
    """Carry out the undivided, uninterrupted run. Return the files that a user then reads."""
    carry_out(film, chosen, Attempt(), FragileStore(str(place), None), config_id, is_reference=True)
    return contents(place)


def leaves_no_trace(case: Case, folder: Path) -> None:
    expected = publish(case.film, case.settings, folder / "whole", "c")
    publications = {expected["videos/v.parquet"]: expected}
    place = folder / "many"
    if case.settings_before is not None:
        before = publish(case.film, case.settings_before, place, "before")
        publications[before["videos/v.parquet"]] = before
        Ledger(Store(str(place)), KEYS).clear("v")  # other knobs have other keys

    num_killed = 0
    for attempt in case.attempts:
        fuse = None if attempt.in_publication else attempt.killed_at
        store = FragileStore(str(place), fuse, lambda: read_whole(place, "v", publications))
        try:
            carry_out(case.film, case.settings, attempt, store, "c", is_reference=False)
            break
        except Killed:
            num_killed += 1
            row = place / "videos" / "v.parquet"
            if row.exists() and row.read_bytes() == expected["videos/v.parquet"]:  # only the removal of chunks was left
                break
    found = contents(place)
    differing = [name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)]
    assert not differing, sorted(differing)
    event(f"killed {num_killed} times")


@pytest.fixture(scope="module", autouse=True)
def _in_haste() -> Iterator[None]:
    with in_haste():
        yield


def test_wherever_a_replacement_dies_a_video_has_the_tables_of_one_configuration(tmp_path: Path) -> None:
    film, wanted = Film(4.0, [Walker(0, 4, x=20), Walker(1, 4, x=300, look=2)], cuts=[2.0]), ["person.min_faces=1"]
    old = publish(film, ["biometrics.keep=true"], tmp_path / "old", "before")
    new = publish(film, wanted, tmp_path / "new", "c")
    publications = {files["videos/v.parquet"]: files for files in (old, new)}
    ends = []
    for fuse in count():
        place = shutil.copytree(tmp_path / "old", tmp_path / str(fuse))
        Ledger(Store(str(place)), KEYS).clear("v")  # other knobs have other keys
        store = FragileStore(str(place), None, partial(read_whole, place, "v", publications))
        attempt = Attempt(killed_at=fuse, in_publication=True)
        with suppress(Killed):
            carry_out(film, wanted, attempt, store, "c", is_reference=True)
        survived = store.changes_left != 0
        replacement.finish_replacing(Store(str(place)), Store(str(place)).names(WORK))
        ends.append("old" if contents(place) == old else "new" if contents(place) == new else "a mixture")
        if survived:
            break
    assert ends == sorted(ends, reverse=True)
    assert set(ends) == {"old", "new"}


@settings(max_examples=50)
@given(case=cases())
def test_division_order_and_interruptions_leave_no_trace(case: Case) -> None:
    with tempfile.TemporaryDirectory() as folder:
        leaves_no_trace(case, Path(folder))


@pytest.mark.slow
@settings(max_examples=2500, derandomize=False)
@given(case=cases())
def test_division_order_and_interruptions_leave_no_trace_in_thousands_of_cases(case: Case) -> None:
    with tempfile.TemporaryDirectory() as folder:
        leaves_no_trace(case, Path(folder))
