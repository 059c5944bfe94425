"""Failures of storage are told apart by what they concern, and those that may pass are waited for."""

import asyncio
import errno
from collections.abc import Callable
from typing import Any

import aiohttp
import botocore.exceptions
import pytest
from s3fs.errors import translate_boto_error

from pipeline.errors import ChangedError, DataError, MachineError, PassingError, UserError
from pipeline.storage import faults
from pipeline.storage.faults import PATIENCE_S, TRIES, fault_of, patiently

URI = "s3://bucket/film.mp4"
RAW: Callable[[Exception], Exception] = lambda error: error  # noqa: E731
OPERATIONS = ("GetObject", "HeadObject", "PutObject", "ListObjectsV2", "DeleteObject", "CopyObject")


def answer(code: str, status: int, operation: str = "GetObject") -> botocore.exceptions.ClientError:
    response: Any = {"Error": {"Code": code, "Message": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return botocore.exceptions.ClientError(response, operation)


def as_s3fs(error: Exception) -> Exception:
    """Return an error as s3fs raises it for one of botocore."""
    translated = translate_boto_error(error)
    assert isinstance(translated, Exception)
    translated.__cause__ = error
    return translated


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("wrapped", [RAW, as_s3fs], ids=["botocore", "s3fs"])
@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("SlowDown", 503, PassingError),
        ("ServiceUnavailable", 503, PassingError),
        ("InternalError", 500, PassingError),
        ("RequestTimeout", 400, PassingError),
        ("503", 503, PassingError),
        ("500", 500, PassingError),
        ("TooManyRequests", 429, PassingError),
        ("ConditionalRequestConflict", 409, PassingError),
        ("ExpiredToken", 400, UserError),
        ("InvalidAccessKeyId", 403, UserError),
        ("SignatureDoesNotMatch", 403, UserError),
        ("NoSuchBucket", 404, UserError),
        ("RequestTimeTooSkewed", 403, UserError),
        ("PermanentRedirect", 301, UserError),
        ("InvalidRange", 416, ChangedError),
        ("PreconditionFailed", 412, ChangedError),
    ],
)
def test_an_answer_of_a_server_is_told_by_its_code(
    code: str, status: int, kind: type[Exception], operation: str, wrapped: Callable[[Exception], Exception]
) -> None:
    fault = fault_of(wrapped(answer(code, status, operation)), URI)
    assert type(fault) is kind
    assert issubclass(kind, DataError) or str(fault).startswith(f"{URI}: ")


@pytest.mark.parametrize(("code", "status"), [("AccessDenied", 403), ("403", 403), ("404", 404), ("NoSuchKey", 404)])
def test_what_belongs_to_one_object_stays_an_error_of_that_file(code: str, status: int) -> None:
    fault = fault_of(as_s3fs(answer(code, status)), URI)
    assert isinstance(fault, PermissionError if status == 403 else FileNotFoundError)


@pytest.mark.parametrize(
    "error",
    [
        botocore.exceptions.EndpointConnectionError(endpoint_url="http://here"),
        botocore.exceptions.ReadTimeoutError(endpoint_url="http://here"),
        botocore.exceptions.ConnectTimeoutError(endpoint_url="http://here"),
        botocore.exceptions.ResponseStreamingError(error="cut"),
        aiohttp.ClientPayloadError("cut"),
        aiohttp.ServerDisconnectedError(),
        TimeoutError(),
        asyncio.IncompleteReadError(b"", 10),
        ConnectionResetError(errno.ECONNRESET, "reset"),
        OSError(errno.ETIMEDOUT, "timed out"),
        OSError(errno.ESTALE, "stale"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_broken_connection_may_pass(error: Exception) -> None:
    assert isinstance(fault_of(error, URI), PassingError)


def test_missing_credentials_are_told_as_such_and_a_full_disk_is_the_machines() -> None:
    assert isinstance(fault_of(botocore.exceptions.NoCredentialsError(), URI), UserError)
    assert isinstance(fault_of(OSError(errno.ENOSPC, "full"), URI), MachineError)


def test_a_bug_stays_a_bug() -> None:
    bug = ZeroDivisionError("x")
    assert fault_of(bug, URI) is bug


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.slept_s: list[float] = []

    def now(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        self.slept_s.append(seconds)


def failing(num_failures: int, error: Exception) -> Callable[[], int]:
    """Return an action that raises `error` so many times, and then returns the number of its calls."""
    calls: list[None] = []

    def action() -> int:
        calls.append(None)
        if len(calls) <= num_failures:
            raise error
        return len(calls)

    return action


@pytest.mark.parametrize("num_failures", range(TRIES))
def test_what_passes_is_waited_for(num_failures: int) -> None:
    clock = Clock()
    action = failing(num_failures, answer("SlowDown", 503))
    assert patiently(action, URI, now=clock.now, sleep=clock.sleep) == num_failures + 1
    assert len(clock.slept_s) == num_failures
    assert clock.now_s <= PATIENCE_S


def test_waits_grow_and_differ_between_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    bounds: list[float] = []
    monkeypatch.setattr(faults.random, "uniform", lambda low, high: bounds.append(high) or high)
    clock = Clock()
    with pytest.raises(PassingError):
        patiently(failing(99, answer("SlowDown", 503)), URI, now=clock.now, sleep=clock.sleep)
    assert bounds == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert clock.slept_s == bounds


def test_slow_failures_exhaust_the_patience_before_the_tries() -> None:
    clock = Clock()

    def action() -> int:
        clock.sleep(60)  # the library has tried long by itself
        raise answer("SlowDown", 503)

    with pytest.raises(PassingError):
        patiently(action, URI, now=clock.now, sleep=clock.sleep)
    assert clock.slept_s.count(60) == 2


def test_a_place_that_is_down_is_asked_once_per_request_until_it_answers() -> None:
    clock = Clock()

    def ask(action: Callable[[], int], uri: str = URI) -> int:
        return patiently(action, uri, now=clock.now, sleep=clock.sleep)

    with pytest.raises(PassingError):
        ask(lambda: ask(failing(99, answer("SlowDown", 503))))
    assert len(clock.slept_s) == TRIES - 1  # a request inside a request is not repeated twice
    for _ in range(3):
        with pytest.raises(PassingError):
            ask(failing(1, answer("SlowDown", 503)))
    assert len(clock.slept_s) == TRIES - 1
    assert ask(failing(2, answer("SlowDown", 503)), "s3://another/key") == 3
    assert ask(lambda: 1) == 1
    assert ask(failing(2, answer("SlowDown", 503))) == 3


@pytest.mark.parametrize("error", [answer("ExpiredToken", 400), answer("NoSuchKey", 404), ZeroDivisionError("x")])
def test_what_does_not_pass_is_not_waited_for(error: Exception) -> None:
    clock = Clock()
    with pytest.raises((UserError, botocore.exceptions.ClientError, ZeroDivisionError)):
        patiently(failing(99, error), URI, now=clock.now, sleep=clock.sleep)
    assert clock.slept_s == []
