"""The commands on an archive of 10,000 videos in an object store. Requests are counted at the server."""

import io
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.cli.options import STARTER
from jobs.shared.checks import decide_device, verified_models
from pipeline import rows
from pipeline.config import load
from pipeline.planning.planner import WantedTables
from pipeline.storage import tables
from pipeline.storage.listing import list_sources
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.store import Store
from tests.commands import rollcall
from tests.s3_proxy import S3Proxy, fill

pytestmark = pytest.mark.slow
NUM_VIDEOS = 10_000


def encoded(record: Mapping[str, object]) -> bytes:
    content = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([record], rows.DATASETS["videos"]), content)
    return content.getvalue()


@pytest.fixture
def archive(s3_proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch) -> S3Proxy:
    """Return a store with an archive `in`, all of whose videos are done in `out`, as a run would leave it."""
    store = Store(f"{s3_proxy.bucket}/out")
    fill(Store(f"{s3_proxy.bucket}/in"), {f"{i:05d}.mp4": str(i).encode() for i in range(NUM_VIDEOS)})
    tables.create(store, keep_biometrics=False)
    config = decide_device(load([], [], STARTER))
    config_id = WantedTables.of(config, verified_models(config)).config_id
    index = OutputIndex(store)
    listing = list_sources([f"{s3_proxy.bucket}/in"], store.uri)
    index.name_sources(listing)
    contents: dict[str, bytes] = {}
    for number, source in enumerate(listing.sources):
        video_id = f"{number * 2654435761 % (1 << 80):020x}"[::-1]
        index.set_source(source.uri, video_id=video_id, status="done")
        done = {"video_id": video_id, "uri": source.uri, "status": "done", "config_id": config_id, "num_persons": 1}
        contents[f"videos/{video_id}.parquet"] = encoded(dict.fromkeys(rows.DATASETS["videos"].names) | done)
        contents[str(index.sources[source.uri]["csv"])] = b"\n"
    fill(store, contents)
    index.save_sources()
    over_http = Store.read
    with monkeypatch.context() as patch:
        patch.setattr(Store, "read", lambda self, name: contents.get(name) or over_http(self, name))
        OutputIndex.load(store, refreshes=True)
    s3_proxy.requests.clear()
    return s3_proxy


def test_another_run_over_it_takes_a_hundred_requests(archive: S3Proxy) -> None:
    done = rollcall("process", f"{archive.bucket}/in", "--output", f"{archive.bucket}/out")
    assert done.returncode == 0, done.stderr
    assert archive.requests.total() <= 100, archive.requests
    archive.requests.clear()
    assert rollcall("status", f"{archive.bucket}/out").returncode == 0
    assert archive.requests.total() <= 40, archive.requests
    archive.requests.clear()
    assert rollcall("plan", f"{archive.bucket}/in", "--output", f"{archive.bucket}/out").returncode == 0
    assert archive.requests.total() <= 40, archive.requests
