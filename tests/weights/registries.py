"""Registries with one entry, and functions in place of the network."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.config import Config, load
from pipeline.weights import Entry, Fetch, Registry

BYTES = b"weights"
SHA256 = hashlib.sha256(BYTES).hexdigest()
OTHER = hashlib.sha256(b"other").hexdigest()
URI = "https://example.org/reid.pt"
GOOD = {"kind": "reid", "uri": URI, "sha256": SHA256, "licence": "MIT"}
"""An entry as a user writes it."""


def entry(**changes: Any) -> Entry:
    return replace(Entry(kind="reid", uri=URI, sha256=SHA256, licence="MIT", note="a test"), **changes)


def registry(
    cache: Path, reid: Entry | None = None, *, mirror: str | None = None, get: Fetch | None = None
) -> Registry:
    return Registry({"reid": reid or entry()}, cache=cache, fetch=get or serve({URI: BYTES}), mirror=mirror)


def serve(files: dict[str, bytes]) -> Fetch:
    def get(uri: str) -> Iterator[bytes]:
        if uri not in files:
            raise OSError("no such file")
        yield files[uri][:3]
        yield files[uri][3:]

    return get


def offline(uri: str) -> Iterator[bytes]:
    raise OSError(f"fetched {uri} although there is no internet")
    yield b""


def with_extra(**entries: dict[str, Any]) -> Config:
    base = load()
    return base.model_copy(update={"weights": base.weights.model_copy(update={"extra": entries})})
