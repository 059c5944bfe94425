"""Fixtures that several rooms use."""

import os
import signal
import sys
import uuid
from collections.abc import Iterator
from contextlib import suppress
from urllib.request import Request, urlopen

import pytest
from hypothesis import HealthCheck, settings

from pipeline.storage import faults
from tests.s3_proxy import S3Proxy, serving

# The same examples in every run, however slow the machine: whoever changes something else must not be stopped by what a
# random search finds that day. The slow tests search at random, and so does --hypothesis-profile random.
settings.register_profile(
    "steady", deadline=None, derandomize=True, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("random", settings.get_profile("steady"), derandomize=False)
settings.load_profile("steady")

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before a library reads it: other tests use the other cores

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that runs the tests in the background lets them ignore Ctrl-C, and they hand that on to the processes that
    # they start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Begin each test, and the fixtures that are made for it, with the same random numbers and threads of PyTorch,
    whatever ran before."""
    with suppress(KeyError, AttributeError):  # it has not been imported, or a thread still imports it
        sys.modules["numpy"].random.seed(0)
        sys.modules["torch"].manual_seed(0)
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_the_disk() -> Iterator[None]:
    """Leave out fsync, which only matters if the machine loses its power."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(autouse=True)
def places_awake() -> None:
    """Forget which places failed in the test before."""
    faults.asleep.clear()


@pytest.fixture(scope="session")
def object_store() -> Iterator[str]:
    """Yield the URL of an object store on this machine. Its end takes half a second, so all tests share it."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(object_store: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield the URI of an empty bucket of an object store on this machine."""
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", object_store)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    s3fs.S3FileSystem.clear_instance_cache()  # fsspec caches file systems, and with them the proxy of another test
    name = f"archive-{uuid.uuid4().hex[:8]}"
    urlopen(Request(f"{object_store}/{name}", method="PUT")).close()
    yield f"s3://{name}"
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def s3_proxy(bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Proxy]:
    """Yield a proxy in front of the object store, through which this process and its children reach `bucket`."""
    import s3fs

    proxy = S3Proxy(os.environ["AWS_ENDPOINT_URL"].removeprefix("http://"), bucket)
    with serving(proxy) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        s3fs.S3FileSystem.clear_instance_cache()
        yield proxy
        s3fs.S3FileSystem.clear_instance_cache()
