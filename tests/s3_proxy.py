"""A proxy in front of the S3 server of the tests. It counts requests, and makes a store that is weak, or that fails.

    def test_…(s3_proxy: S3Proxy) -> None:
        store = Store(f"{s3_proxy.bucket}/out")
        s3_proxy.conditions = "ignored"                     # a store that knows no If-None-Match and no If-Match
        s3_proxy.shares = {"503": 0.05, "lost": 0.01}       # these shares of the requests fail, by `seed`
        s3_proxy.rule = lambda request: "403" if request.key.endswith("b.mp4") else None
        assert s3_proxy.requests["GET"] <= 17

A fault is one of these:

    three digits    an answer with this status, in place of the store's
    reset           the connection is closed before the store gets the request
    cut             the body of the answer ends in its middle
    lost            the store does what it was asked to do, and the connection is closed without an answer

The faults of a seed depend on the requests, not on the order in which threads send them. Other processes use the proxy
as well, because the fixture sets AWS_ENDPOINT_URL.
"""

import http.client
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import unquote, urlsplit

from pipeline.storage.store import Store
from tests.patience import PATIENCE_S

Fault = str
CODES = {
    400: "ExpiredToken",
    403: "AccessDenied",
    404: "NoSuchKey",
    409: "ConditionalRequestConflict",
    412: "PreconditionFailed",
    500: "InternalError",
    501: "NotImplemented",
    503: "SlowDown",
}
CONDITIONS = ("If-None-Match", "If-Match")
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "date", "server"}


@dataclass(frozen=True, slots=True)
class Request:
    """A request to the store.

    verb: `GET`, `HEAD`, `PUT`, `POST` or `DELETE`; `LIST` for a GET of the keys of a bucket.
    key: the bucket and the key.
    """

    verb: str
    key: str


@dataclass
class S3Proxy:
    """The behaviour of a store. A test may change it at any time.

    upstream: host and port of the server behind the proxy.
    bucket: uri of an empty bucket.
    conditions: of writes. `kept`: they act. `create-only`: If-Match is ignored. `ignored`: the store writes without a
        condition. `refused`: status 501.
    shares: the probability of each fault. Only reads are cut and only writes are lost.
    rule: returns the fault of a request, or None; goes before `shares`.
    seed: another seed gives other faults.
    requests: number of requests by verb.
    faults: number of faults by name.
    writing: held while the store writes.
    """

    upstream: str
    bucket: str
    conditions: Literal["kept", "create-only", "ignored", "refused"] = "kept"
    shares: Mapping[Fault, float] = field(default_factory=dict)
    rule: Callable[[Request], Fault | None] = lambda _: None
    seed: int = 0
    requests: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    _seen: Counter[Request] = field(default_factory=Counter)
    _counting: threading.Lock = field(default_factory=threading.Lock)
    writing: threading.Lock = field(default_factory=threading.Lock)

    def fate(self, request: Request) -> Fault | None:
        """Count a request, and return its fault, or None."""
        with self._counting:
            self.requests[request.verb] += 1
            self._seen[request] += 1
            chance = random.Random(f"{self.seed} {request.verb} {request.key} {self._seen[request]}").random()
        fault = self.rule(request) or self._chosen(request, chance)
        if fault is not None:
            with self._counting:
                self.faults[fault] += 1
        return fault

    def _chosen(self, request: Request, chance: float) -> Fault | None:
        for fault, share in self.shares.items():
            if chance < share:
                possible = {"cut": ("GET", "LIST"), "lost": ("PUT", "POST", "DELETE")}.get(fault, (request.verb,))
                return fault if request.verb in possible else None
            chance -= share
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: S3Proxy  # set by the class that `serving` makes

    def _pass_on(self) -> None:
        body = self._body()
        path = urlsplit(self.path)
        is_list = self.command == "GET" and "/" not in path.path.strip("/")
        fault = self.proxy.fate(Request("LIST" if is_list else self.command, unquote(path.path.strip("/"))))
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
        if self.command in ("PUT", "POST", "DELETE") and any(name in self.headers for name in CONDITIONS):
            if self.proxy.conditions == "refused":
                fault = fault or "501"
            ignored = {"ignored": CONDITIONS, "create-only": ("If-Match",)}.get(self.proxy.conditions, ())
            headers = {name: value for name, value in headers.items() if name.title() not in ignored}
        if fault == "reset":
            self._hang_up()
        elif fault is not None and fault.isdigit():
            code = CODES.get(int(fault), "Fault")
            content = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>made by a test</Message></Error>"
            self._answer(int(fault), {"Content-Type": "application/xml"}, content.encode())
        else:
            status, told, content = self._ask(headers, body)
            if fault == "lost":
                self._hang_up()
            else:
                self._answer(status, told, content, cut=fault == "cut")

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass_on  # noqa: N815 - http.server looks for these names

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():  # trailers
            pass
        return b"".join(parts)

    def _ask(self, headers: Mapping[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Send the request to the store. Writes go one at a time: moto tests a condition and writes in two steps."""
        connection = http.client.HTTPConnection(self.proxy.upstream, timeout=PATIENCE_S)
        told = {**headers, "Content-Length": str(len(body))} if body or self.command in ("PUT", "POST") else headers
        with nullcontext() if self.command in ("GET", "HEAD") else self.proxy.writing:
            connection.request(self.command, self.path, body or None, dict(told))
            answer = connection.getresponse()
            content = answer.read()
        connection.close()
        return answer.status, dict(answer.getheaders()), content

    def _answer(self, status: int, headers: Mapping[str, str], content: bytes, *, cut: bool = False) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in HOP_BY_HOP and (name.lower() != "content-length" or self.command == "HEAD"):
                self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent: a test says itself what went wrong."""


def fill(store: Store, contents: Mapping[str, bytes]) -> None:
    """Put files into the memory of the server, which takes far less time than requests do."""
    from moto.core.models import DEFAULT_ACCOUNT_ID
    from moto.s3.models import s3_backends

    bucket, _, root = store.uri.removeprefix("s3://").partition("/")
    for name, content in contents.items():
        s3_backends[DEFAULT_ACCOUNT_ID]["aws"].put_object(bucket, f"{root}/{name}".lstrip("/"), content)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Stay silent about clients that were killed."""


@contextmanager
def serving(proxy: S3Proxy) -> Iterator[str]:
    """Serve `proxy` on a free port, and yield its URL."""
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": proxy}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
