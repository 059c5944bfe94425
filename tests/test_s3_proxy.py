"""The proxy of the tests makes the faults that it says, and no others."""

import http.client
import os
from urllib.parse import urlsplit

import pytest
import s3fs

from tests.patience import PATIENCE_S
from tests.s3_proxy import S3Proxy


def ask(proxy: S3Proxy, verb: str, key: str, body: bytes | None = None, **conditions: str) -> tuple[int, bytes]:
    """Send one request without any retry. Return the status and the body."""
    connection = http.client.HTTPConnection(urlsplit(os.environ["AWS_ENDPOINT_URL"]).netloc, timeout=PATIENCE_S)
    headers = {"Authorization": "AWS testing:testing"} | {name.replace("_", "-"): v for name, v in conditions.items()}
    connection.request(verb, f"/{proxy.bucket.removeprefix('s3://')}/{key}", body, headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content


def test_without_faults_it_is_the_store_behind_it(s3_proxy: S3Proxy) -> None:
    fs = s3fs.S3FileSystem()
    fs.pipe_file(f"{s3_proxy.bucket}/a b/ü", b"x" * 100_000)
    fs.invalidate_cache()
    assert fs.cat_file(f"{s3_proxy.bucket}/a b/ü", start=10, end=20) == b"x" * 10
    assert [path.rpartition("/")[2] for path in fs.find(s3_proxy.bucket)] == ["ü"]
    fs.rm_file(f"{s3_proxy.bucket}/a b/ü")
    assert not fs.exists(f"{s3_proxy.bucket}/a b/ü")
    assert (s3_proxy.requests["PUT"], s3_proxy.requests["DELETE"]) == (1, 1)
    assert s3_proxy.requests["LIST"] >= 1
    assert not s3_proxy.faults


def test_it_keeps_ignores_or_refuses_conditions(s3_proxy: S3Proxy) -> None:
    assert ask(s3_proxy, "PUT", "k", b"1", If_None_Match="*")[0] == 200
    assert ask(s3_proxy, "PUT", "k", b"2", If_None_Match="*")[0] == 412
    assert ask(s3_proxy, "PUT", "k", b"2", If_Match='"wrong"')[0] == 412
    s3_proxy.conditions = "refused"
    assert ask(s3_proxy, "PUT", "k", b"2", If_None_Match="*")[0] == 501
    assert ask(s3_proxy, "GET", "k") == (200, b"1")
    s3_proxy.conditions = "create-only"
    assert ask(s3_proxy, "PUT", "k", b"1", If_None_Match="*")[0] == 412
    assert ask(s3_proxy, "PUT", "k", b"1", If_Match='"wrong"')[0] == 200
    s3_proxy.conditions = "ignored"
    assert ask(s3_proxy, "PUT", "k", b"2", If_Match='"wrong"')[0] == 200
    assert ask(s3_proxy, "GET", "k") == (200, b"2")


def test_the_same_seed_makes_the_same_faults(s3_proxy: S3Proxy) -> None:
    s3_proxy.shares = {"503": 0.2, "500": 0.1}

    def statuses(keys: range) -> list[int]:
        s3_proxy._seen.clear()
        return [ask(s3_proxy, "GET", f"{key}")[0] for key in keys]

    first = statuses(range(60))
    assert set(first) == {404, 500, 503}
    assert statuses(range(59, -1, -1)) == first[::-1]
    s3_proxy.seed = 1
    assert statuses(range(60)) != first
    s3_proxy.shares = {}
    assert set(statuses(range(60))) == {404}


def test_a_rule_meets_one_object(s3_proxy: S3Proxy) -> None:
    s3_proxy.rule = lambda request: "403" if request.key.endswith("/b.mp4") else None
    assert [ask(s3_proxy, "PUT", key, b"x")[0] for key in ("a.mp4", "b.mp4")] == [200, 403]
    assert s3_proxy.faults == {"403": 1}


def test_an_answer_is_cut_or_lost_or_never_comes_to_be(s3_proxy: S3Proxy) -> None:
    ask(s3_proxy, "PUT", "k", b"1234")
    s3_proxy.shares = {"cut": 1.0}
    with pytest.raises(http.client.IncompleteRead):
        ask(s3_proxy, "GET", "k")
    assert ask(s3_proxy, "PUT", "k", b"5678")[0] == 200
    s3_proxy.shares = {"lost": 1.0}
    with pytest.raises(http.client.RemoteDisconnected):
        ask(s3_proxy, "PUT", "lost", b"x")
    s3_proxy.shares = {"reset": 1.0}
    with pytest.raises(http.client.RemoteDisconnected):
        ask(s3_proxy, "PUT", "reset", b"x")
    s3_proxy.shares = {}
    assert [ask(s3_proxy, "GET", key)[0] for key in ("lost", "reset")] == [200, 404]
