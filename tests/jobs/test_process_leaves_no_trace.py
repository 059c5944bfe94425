"""The first law of identity for a whole run of `process`, without Ray and without models.

The driver, the record of its run, the planner, the adapter of the map's stages, the commit, the reduce and the
tables are real. A scheduler replaces Ray. It advances any worker at any time, lets workers die, and gives their rows
to new ones. The worker of the local engine works in this process instead of its own, and dies as well. Simulated films
replace pictures and models.
"""

import pickle
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from jobs.shared.processing import work_through
from pipeline import rows
from pipeline.chunk.observe import ADDS
from pipeline.config import Config
from pipeline.errors import DataError
from pipeline.flow import cluster, engine, local_process, pools, ray_engine
from pipeline.flow.events import Event
from pipeline.flow.local_engine import WorkerDiedError
from pipeline.flow.local_process import At, TaskRunner
from pipeline.flow.sequence_ends import finish_sequence
from pipeline.flow.stage import PoolOfStages, Stage, Worker
from pipeline.planning import catalog, pages
from pipeline.planning.catalog import Content
from pipeline.planning.pages import PAGE
from pipeline.storage import tables
from pipeline.storage.listing import OpenListing
from pipeline.storage.sources import Listing, Source
from pipeline.storage.store import Store
from pipeline.weights import Registry
from tests.builders import Film, chunk, configured, probe
from tests.fake_films import films, in_haste, in_steps, knobs
from tests.interruptions import FragileStore, Killed, contents, read_whole

WHOLE = 10**6
OTHERS = (
    "person.min_faces=3",
    "identity.wrong_joins=0.3",
    "identity.max_gap_s=2",
    "identity.max_gap_s=8",
    "track.duplicate_iou=0.9",
    "estimate.batch=8",
    "observe.detector.batch=4",
)
"""Knobs that no case sets: one for each way to other tables, the most expensive last."""
ESTIMATED = ("age", "age_std", "female_prob", "embedding")


@dataclass(frozen=True, slots=True)
class Video:
    """A video of a case.

    film: its content.
    keyframes: cells that begin with a keyframe.
    enterable: a decoder can begin in the middle.
    rotten: (stage, cell) that fails, except under `settings_before`; None: nothing fails.
    """

    film: Film
    keyframes: tuple[int, ...]
    enterable: bool
    rotten: tuple[str, int] | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """A run of `process`.

    settings: settings that change no row.
    engine: 'ray' or 'local'.
    workers: number of workers of each of the two pools, for Ray.
    seed: of all random choices.
    deaths: numbers of the calls of stages, counted from 0, that end the worker's process.
    frames_per_part: number of frames, see `in_steps` of tests/fake_films.py.
    frames_per_window: number of frames, see `in_steps` of tests/fake_films.py.
    page: number of sources that are identified before the work begins.
    is_listed_first: whether all sources are listed before the work begins.
    killed_at: number of lasting changes before the run is killed; None: it ends well.
    """

    settings: tuple[str, ...] = ("chunk.max_seconds=600",)
    engine: str = "ray"
    workers: tuple[int, int] = (1, 1)
    seed: int = 0
    deaths: frozenset[int] = frozenset()
    frames_per_part: int = WHOLE
    frames_per_window: int = WHOLE
    page: int = PAGE
    is_listed_first: bool = True
    killed_at: int | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """A sequence of runs on the same videos.

    videos: the sources.
    settings: settings that change rows, of every attempt.
    settings_before: settings under which everything was published before; None: nothing was.
    attempts: the runs, of which the last ends well.
    """

    videos: tuple[Video, ...]
    settings: tuple[str, ...]
    settings_before: tuple[str, ...] | None
    attempts: tuple[Attempt, ...]


@st.composite
def videos(draw: st.DrawFn) -> Video:
    film = draw(films())
    film = replace(film, walkers=tuple(replace(walker, look=walker.look or 1) for walker in film.walkers))
    cells = st.integers(0, int(film.duration_s) + 1)
    return Video(
        film,
        keyframes=tuple(sorted(draw(st.frozensets(cells)))),
        enterable=draw(st.integers(0, 4)) > 0,
        rotten=draw(st.one_of(*[st.none()] * 3, st.tuples(st.sampled_from(["observe", "find_faces"]), cells))),
    )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    attempts = st.builds(
        Attempt,
        settings=st.tuples(
            st.sampled_from([1, 2, 3, 600]).map("chunk.max_seconds={}".format),
            st.sampled_from([1, 2, 8]).map("run.max_reduces={}".format),
        ),
        engine=st.sampled_from(["ray", "local"]),
        workers=st.tuples(st.integers(1, 3), st.integers(1, 3)),
        seed=st.integers(0, 99),
        deaths=st.frozensets(st.integers(0, 20), max_size=2),  # fewer than run.max_attempts
        frames_per_part=st.sampled_from([1, 1, 5, WHOLE]),
        frames_per_window=st.sampled_from([7, WHOLE]),
        page=st.sampled_from([1, 2, PAGE]),
        is_listed_first=st.booleans(),
        killed_at=st.one_of(st.integers(0, 40), st.integers(20, 120)),
    )
    shown, chosen = tuple(draw(st.lists(videos(), min_size=1, max_size=3))), draw(knobs())
    before = draw(st.sampled_from([None, None, False, True]))
    other = (*chosen[:-1], draw(st.sampled_from(OTHERS)), f"biometrics.keep={before}".lower())
    if any(video.rotten for video in shown):
        other = (*other, OTHERS[-1])  # otherwise its stored data would replace what fails now
    return Case(
        videos=shown,
        settings=chosen,
        settings_before=None if before is None else other,
        attempts=(*draw(st.lists(attempts, max_size=3)), replace(draw(attempts), killed_at=None)),
    )


# --- fake stages -----------------------------------------------------------------------------------------------------


class Died(BaseException):
    """The death of a worker's process. Nothing that it was about to return arrives."""


@dataclass(slots=True)
class Scene:
    """State that the stages of one run share.

    videos: by uri.
    attempt: the run.
    num_calls: number of calls of stages so far.
    decoded: uris of the videos that were decoded.
    years: years that the estimator adds to every age.
    random: seeded by the attempt.
    """

    videos: Mapping[str, Video]
    attempt: Attempt
    num_calls: int = 0
    decoded: set[str] = field(default_factory=set)
    years: float = 0.0
    random: Random = field(init=False)

    def __post_init__(self) -> None:
        self.random = Random(self.attempt.seed)

    def call(self) -> None:
        self.num_calls += 1
        if self.num_calls - 1 in self.attempt.deaths:
            raise Died


def fake_pools(scene: Scene, made: Sequence[PoolOfStages]) -> list[PoolOfStages]:
    """Return the pools of a configuration with fakes for all stages except `read_faces` and the commit."""
    fakes = {"observe": _observe, "find_faces": _find_faces, "estimate": _estimate}

    def fake(stage: Stage) -> Stage:
        if stage.name == "read_faces":
            return stage
        if stage.name == "commit":
            return replace(stage, takes_threads=False, build=lambda: _called(scene, stage.build()))
        return replace(stage, takes_threads=False, build=lambda: partial(fakes[stage.name], scene))

    return [replace(pool, stages=tuple(fake(stage) for stage in pool.stages)) for pool in made]


def _called(scene: Scene, core: Callable[[pa.Table], pa.Table]) -> Callable[[pa.Table], pa.Table]:
    def call(row: pa.Table) -> pa.Table:
        done = core(row)
        scene.call()  # it may die when everything is durable
        return done

    return call


def _observe(scene: Scene, row: pa.Table) -> Iterator[pa.Table]:
    """Yield the chunks of a film. The faces in a chunk travel as its only candidate."""
    span = row.to_pylist()[0]
    video = scene.videos[span["uri"]]
    scene.decoded.add(span["uri"])
    frames = video.film.frames()
    ends = [*span["borders"], span["end_cell"]][1:]
    for first, end in zip(span["borders"], ends, strict=True):
        if first in span["durable"]:
            continue
        scene.call()
        faces: object = DataError("no face")
        if not _is_rotten(video, "find_faces", first, end):
            observed, enriched = chunk(video.film, frames, (first, end))
            faces = enriched["faces"].to_pylist()[0]
        else:
            observed, _ = chunk(video.film, frames, (first, end))
        if _is_rotten(video, "observe", first, end):
            raise DataError("no picture")
        candidate = {"detection": 0, "chain": 0, "crop": pickle.dumps(faces), "x": 0.0, "y": 0.0, "scale": 1.0}
        columns = {name: span.get(name) for name in rows.CHUNK.names} | {"first_cell": first, "end_cell": end}
        columns |= observed.to_pylist()[0] | {"candidates": [candidate]}
        schema = rows.join(rows.CHUNK, pa.schema([f for f in ADDS if f.name not in rows.CHUNK.names]))
        yield pa.Table.from_pylist([columns], schema=schema)


def _find_faces(scene: Scene, row: pa.Table) -> pa.Table:
    scene.call()
    faces = pickle.loads(row["candidates"].to_pylist()[0][0]["crop"])
    if isinstance(faces, DataError):
        raise faces
    shown = [
        {"face": i, "picture": pickle.dumps({name: face.get(name) for name in ESTIMATED})}
        for i, face in enumerate(faces)
    ]
    hidden = [face | dict.fromkeys(ESTIMATED) for face in faces]
    return pa.Table.from_pylist([{"faces": hidden, "aligned": shown}], schema=rows.ENRICHED)


def _estimate(scene: Scene, row: pa.Table) -> pa.Table:
    """Return faces with the estimates that their pictures hold. Nothing else holds them."""
    scene.call()
    chunk = row.to_pylist()[0]
    for shown in chunk["aligned"]:
        picture = pickle.loads(shown["picture"])
        chunk["faces"][shown["face"]] |= picture | {"age": picture["age"] + scene.years}
    estimated = {"faces": chunk["faces"], "bodies": chunk["bodies"]}
    return pa.Table.from_pylist([estimated], schema=rows.join(rows.FACES, rows.BODIES))


def _is_rotten(video: Video, stage: str, first: int, end: int) -> bool:
    if video.rotten is None or video.rotten[0] != stage:
        return False
    return first <= video.rotten[1] and (end < 0 or video.rotten[1] < end)


# --- in place of Ray -------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Seat:
    """The place of a worker in a pool.

    worker: the worker.
    row: the row that it works on, if any.
    out: the rest of its output for that row.
    num_out: number of rows of output so far.
    num_known: number of rows of output that a dead worker has already given for the same row. Ray drops these.
    """

    worker: Worker
    row: pa.Table | None = None
    out: Iterator[pa.Table] = field(default_factory=lambda: iter(()))
    num_out: int = 0
    num_known: int = 0


def map_anyhow(scene: Scene, rows_to_map: ray_engine.Rows, pools: Sequence[PoolOfStages], arrivals: Any) -> None:
    """Pass rows through the pools in any order, in place of ray_engine._map."""
    try:
        waiting: list[list[pa.Table]] = [[] for _ in pools]
        waiting[0] = [row.table() for row in rows_to_map]
        seats = [[Seat(Worker(pool)) for _ in range(n)] for pool, n in zip(pools, scene.attempt.workers, strict=False)]
        while True:
            able = [(at, seat) for at, of in enumerate(seats) for seat in of if seat.row is not None or waiting[at]]
            if not able:
                break
            at, seat = scene.random.choice(able)
            if seat.row is None:
                seat.row = waiting[at].pop(scene.random.randrange(len(waiting[at])))
                seat.out, seat.num_out, seat.num_known = seat.worker(seat.row), 0, 0
            for row in _advance(scene, pools[at], seat):
                if at + 1 < len(pools):
                    waiting[at + 1].append(row)
                else:
                    arrivals.put(row)
        arrivals.put(None)
    except BaseException as error:
        arrivals.put(error)


def _advance(scene: Scene, pool: PoolOfStages, seat: Seat) -> Iterator[pa.Table]:
    """Yield the next row that a worker gives, if any. A new worker begins with the row of the dead one."""
    assert seat.row is not None
    try:
        row = next(seat.out, None)
    except Died:
        seat.worker = Worker(pool)
        seat.num_known = max(seat.num_known, seat.num_out)
        seat.out, seat.num_out = seat.worker(seat.row), 0
        return
    if row is None:
        seat.row = None
        return
    seat.num_out += 1
    if seat.num_out > seat.num_known:
        yield row


@dataclass(frozen=True, slots=True)
class Remote:
    """A remote function that runs when somebody waits for its result."""

    function: Callable[..., Any]

    def options(self, **_: object) -> "Remote":
        return self

    def remote(self, *arguments: Any) -> "Task":
        return Task(partial(self.function, *arguments))


@dataclass(slots=True, eq=False)
class Task:
    work: Callable[[], Any]
    results: list[Any] = field(default_factory=list)

    def carry_out(self) -> Any:
        if not self.results:
            self.results.append(self.work())
        return self.results[0]


class FakeRay:
    def __init__(self, random: Random) -> None:
        self._random = random

    def wait(
        self, tasks: list[Task], num_returns: int = 1, timeout: float | None = None
    ) -> tuple[list[Task], list[Task]]:
        ready = self._random.sample(tasks, self._random.randint(0 if timeout == 0 else 1, num_returns))
        for task in ready:
            task.carry_out()
        return ready, [task for task in tasks if task not in ready]

    def get(self, tasks: Any) -> Any:
        if isinstance(tasks, Task):
            return tasks.carry_out()
        for task in self._random.sample(tasks, len(tasks)):
            task.carry_out()
        return [task.carry_out() for task in tasks]


# --- in place of the local engine's process --------------------------------------------------------------------------


class WorkerHere:
    """A worker that works in this process. A new one replaces it each time that it dies."""

    def __init__(self, scene: Scene, maps: pools.Maps, early: None) -> None:
        self._scene, self._maps = scene, maps
        self._runner = TaskRunner(maps)

    def load(self) -> None:
        list(self._runner.do(local_process.Load()))

    def do(self, task: local_process.Task, patience_s: float) -> Iterator[At | Event]:
        try:
            if isinstance(task, local_process.Publish):
                self._scene.call()
            yield from self._runner.do(task)
        except Died:
            self._runner = TaskRunner(self._maps)
            raise WorkerDiedError from None

    def close(self) -> None:
        pass


# --- the law ---------------------------------------------------------------------------------------------------------


def process(
    folder: Path,
    case: Case,
    chosen: Sequence[str],
    attempt: Attempt,
    store: Store,
    sequence: str | None = None,
    **options: Any,
) -> Scene:
    scene = Scene({str(folder / f"{i}.mp4"): video for i, video in enumerate(case.videos)}, attempt)
    listing: Listing | OpenListing = Listing(
        tuple(
            Source(uri=uri, name=Path(uri).name, named_by=str(folder), etag="e", sequence=sequence, place=place)
            for place, uri in enumerate(scene.videos)
        ),
        0,
        (str(folder),),
    )
    if not attempt.is_listed_first and sequence is None:
        listing = OpenListing(iter(listing.sources), listing.roots)
    work_through_scene(scene, listing, chosen, store, **options)
    return scene


def work_through_scene(
    scene: Scene, listing: Listing | OpenListing, chosen: Sequence[str], store: Store, **options: Any
) -> None:
    """Process the videos of a scene, with fakes for the models and for Ray."""
    attempt = scene.attempt
    config: Config = configured(*chosen, *attempt.settings, f"run.engine={attempt.engine}")
    scene.years = config.estimate.batch - configured().estimate.batch
    fakes = {
        "_map": partial(map_anyhow, scene),
        "_reduce": Remote(ray_engine._reduce._function),  # type: ignore[attr-defined]
        "_track_remote": Remote(ray_engine._track),
        "_link": Remote(finish_sequence),
        "ray": FakeRay(scene.random),
        "POLL_S": 0.001,
    }
    made, made_of_faces = pools.pools_from_pixels, pools.pools_from_kept_faces
    with pytest.MonkeyPatch.context() as patch:
        for name, value in fakes.items():
            patch.setattr(ray_engine, name, value)
        for name in ("start_ray", "check_room"):
            patch.setattr(cluster, name, lambda *_: None)
        patch.setattr(engine, "WorkerProcess", partial(WorkerHere, scene))
        patch.setattr(pools, "pools_from_pixels", lambda *options: fake_pools(scene, made(*options)))
        patch.setattr(pools, "pools_from_kept_faces", lambda *options: fake_pools(scene, made_of_faces(*options)))
        patch.setattr(catalog, "probe_all", partial(probe_all, scene))
        patch.setattr(pages, "PAGE", attempt.page)
        with in_steps(attempt.frames_per_part, attempt.frames_per_window):
            work_through(listing, config, Registry.of(config, lambda _: iter(())), store, **options)


def probe_all(scene: Scene, contents: Sequence[Content], advance: Callable[[], None] = lambda: None) -> dict[str, Any]:
    probes = {}
    for content in contents:
        video = scene.videos[content.uri]
        keyframes = tuple(cell * 10**9 for cell in video.keyframes)
        probes[content.video_id] = replace(probe(video.film), keyframe_ns=keyframes, enterable=video.enterable)
    return probes


def lasting(place: Path) -> dict[str, bytes]:
    """Return the files that do not describe single runs."""
    return {name: data for name, data in contents(place).items() if name.split("/")[0] not in ("runs", "run.json")}


def publications(of: dict[str, bytes]) -> dict[str, dict[bytes, dict[str, bytes]]]:
    """Return the publications by video, for interruptions.read_whole."""
    files = [name for name in of if is_row(name)]
    of_video = {file: {name: of[name] for name in of if name.endswith(file.removeprefix("videos"))} for file in files}
    return {Path(file).stem: {of[file]: of_video[file]} for file in files}


def with_tables_that_stay(expected: dict[str, bytes], before: dict[str, bytes]) -> dict[str, bytes]:
    """Return the files of an output if the tables of an earlier publication stay where newer ones cannot be made.

    Files that tell of the last run on such a video are left out.
    """
    rows = [row for name, data in expected.items() if is_row(name) for row in pq.read_table(BytesIO(data)).to_pylist()]
    failed = {row["video_id"]: f"csv/{Path(row['uri']).name}.csv" for row in rows if row["status"] == "quarantined"}
    if not failed or not before:
        return expected
    stays = {
        name
        for name in expected.keys() | before.keys()
        if not failed.keys().isdisjoint({*Path(name).parts, Path(name).stem}) or name in failed.values()
    }
    of_others = {name: data for name, data in expected.items() if name not in stays and not tells_of_runs(name)}
    return of_others | {name: before[name] for name in stays & before.keys()}


def is_row(name: str) -> bool:
    return name.startswith("videos/") and not name.endswith(tables.SCHEMA_FILE)


def tells_of_runs(name: str) -> bool:
    return name.startswith(("sources/", "_state/")) and not name.endswith(tables.SCHEMA_FILE)


def leaves_no_trace(case: Case, folder: Path) -> None:
    for number in range(len(case.videos)):
        (folder / f"{number}.mp4").write_text(f"film {number}")
    process(folder, case, case.settings, Attempt(), Store(str(folder / "whole")))
    expected = lasting(folder / "whole")
    promised = publications(expected)

    place = folder / "many"
    before: dict[str, bytes] = {}
    if case.settings_before is not None:
        sound = replace(case, videos=tuple(replace(video, rotten=None) for video in case.videos))
        process(folder, sound, case.settings_before, Attempt(), Store(str(place)))
        before = lasting(place)
        for video_id, known in publications(before).items():
            promised[video_id] |= known

    def look() -> None:
        for video_id, known in promised.items():
            read_whole(place, video_id, known)

    num_killed = 0
    for attempt in case.attempts:
        try:
            process(folder, case, case.settings, attempt, FragileStore(str(place), attempt.killed_at, look))
        except Killed:
            num_killed += 1
    remaining = lasting(place)
    stays = with_tables_that_stay(expected, before)
    some_stay = stays is not expected
    if some_stay:
        remaining = {name: data for name, data in remaining.items() if not tells_of_runs(name)}
    of_before = {name for name in remaining if name.startswith("recipes/") or name.endswith(tables.SCHEMA_FILE)}
    differing = {name for name in stays.keys() | remaining.keys() if stays.get(name) != remaining.get(name)}
    assert not differing - (of_before - stays.keys()), sorted(differing)
    if "biometrics.keep=false" in case.settings and not some_stay:  # chunks of tables that stay may stay too
        left = [path for path in (place / "_work").rglob("*") if path.is_file() and not path.name.startswith(".")]
        assert not left, left
    event(f"killed {num_killed} times")


@pytest.fixture(scope="module", autouse=True)
def _in_haste() -> Iterator[None]:
    with in_haste():
        yield


@settings(max_examples=25)
@given(case=cases())
def test_workers_their_deaths_and_interruptions_leave_no_trace(case: Case) -> None:
    with tempfile.TemporaryDirectory() as folder:
        leaves_no_trace(case, Path(folder))


@pytest.mark.slow
@settings(max_examples=500, derandomize=False)
@given(case=cases())
def test_workers_their_deaths_and_interruptions_leave_no_trace_in_hundreds_of_cases(case: Case) -> None:
    with tempfile.TemporaryDirectory() as folder:
        leaves_no_trace(case, Path(folder))
