"""An actor of Ray that works on several spans at the same time: they overlap, no byte changes, and a death takes all of
them along and is blamed on nobody but the chunk that causes it."""

import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from pipeline.cores.plan import PlannedSpan
from pipeline.flow import ray_engine
from pipeline.flow.events import ChunkDone, VideoDone, VideoFailed, Work
from pipeline.flow.stage import Resources
from pipeline.planning.spans import span_rows
from pipeline.storage import tables
from pipeline.storage.ledger import Keys, Ledger
from pipeline.storage.store import Store
from pipeline.video.parts import track_here
from pipeline.video.reduce import reduce_video
from tests.builders import Film, Walker, chunk, configured, job_of
from tests.flow import misdeeds
from tests.interruptions import contents
from tests.ray_cluster import ray_cluster

pytestmark = [pytest.mark.slow, pytest.mark.ray]
FILM = Film(3.0, [Walker(0, 3, x=20), Walker(1, 3, x=300, look=2)])
CHUNKS = [(0, 1), (1, 2), (2, -1)]
VIDEOS = [f"v{number}" for number in range(6)]
FATAL = ("v1", 1)
SPANS = 4


def created(place: Path) -> Ledger:
    store = Store(str(place))
    tables.create(store, keep_biometrics=False)
    return Ledger(store, Keys("o", "e"))


def test_a_death_takes_all_spans_of_its_actor_along_and_is_blamed_on_the_chunk_that_causes_it(tmp_path: Path) -> None:
    expected = created(tmp_path / "expected")
    sound = [video_id for video_id in VIDEOS if video_id != FATAL[0]]
    for video_id in sound:
        for span in CHUNKS:
            expected.commit(video_id, span, *chunk(FILM, FILM.frames(), span))
        reduce_video(job_of(FILM, CHUNKS, expected, configured(), video_id), track_here)
    ledger, times = created(tmp_path / "out"), tmp_path / "times"
    times.mkdir()
    slow = {(video_id, first): partial(misdeeds.note_times, times, 0.5) for video_id in VIDEOS for first, _ in CHUNKS}
    objects = {span: chunk(FILM, FILM.frames(), span) for span in CHUNKS}
    made = misdeeds.maps(ledger, objects, observing=slow | {FATAL: partial(os._exit, 1)}, max_attempts=2)
    resources = Resources(num_cpus=0.25, num_gpus=0, min_workers=1, max_workers=1)
    spans = {"observe": SPANS}
    pools = [replace(pool, resources=replace(resources, spans=spans.get(pool.name, 1))) for pool in made.whole]
    todo = []
    for video_id in VIDEOS:
        job = job_of(FILM, [], ledger, configured(), video_id)
        planned = [PlannedSpan(0, -1, tuple(first for first, _ in CHUNKS), ())]
        todo.append(Work(job=job, rows=span_rows(video_id, job.uri, job.probe, planned)))

    with ray_cluster() as nodes:
        nodes.have(1)
        events = list(ray_engine.run(todo, pools, configured()))

    (failed,) = [event for event in events if isinstance(event, VideoFailed)]
    assert (failed.video_id, failed.kind) == (FATAL[0], "WorkerDied")
    assert failed.reason.startswith("its worker died 3 times, 1 of them beside other chunks (")
    assert sorted(event.published.video_id for event in events if isinstance(event, VideoDone)) == sound
    assert {event.attempts for event in events if isinstance(event, ChunkDone)} == {1}
    lasting = {name: content for name, content in contents(tmp_path / "out").items() if not name.startswith("_work/")}
    assert lasting == contents(tmp_path / "expected")
    assert 2 <= misdeeds.most_at_once(times) <= SPANS
