"""Requests to S3 that fsspec makes only together with others: lists of keys, the test for one key, and its copy."""

import contextvars
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
DIGITS = "0123456789abcdef"
THREADS = 64
"""Number of requests at a time. It is also the number of connections (places.CONFIG_OF_S3)."""
Object = dict[str, Any]
Reach = Callable[[Callable[[], Any]], Any]
"""Returns the result of a request, which it repeats if it fails in a way that may pass."""


def is_s3(fs: Any) -> bool:
    """Return whether a file system is that of s3fs."""
    return "s3" in ([fs.protocol] if isinstance(fs.protocol, str) else fs.protocol)


def find(fs: Any, path: str, reach: Reach) -> dict[str, Object]:
    """Return the objects below a prefix by path, with details under the names that fsspec gives them.

    A thousand objects cost one request. More are listed in ranges at the same time, because one list of a million keys
    takes minutes. The ranges begin at the hexadecimal digits, because most names in an output are hashes.
    """
    bucket, key, _ = fs.split_path(path)
    objects = _list(fs, bucket, f"{key}/" if key else "", reach)
    return {
        f"{bucket}/{entry['Key']}": {name: entry[name] for name in ("ETag", "LastModified")} | {"size": entry["Size"]}
        for entry in objects
    }


def _list(fs: Any, bucket: str, prefix: str, reach: Reach) -> list[Object]:
    def ask(**more: str) -> Object:
        return reach(lambda: fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, **more))

    answer = ask()
    objects = answer.get("Contents", [])
    if not answer.get("IsTruncated"):
        return objects
    if not _is_sorted(objects):  # the directory buckets of S3 Express know no order and no StartAfter
        return [*objects, *_further_pages(ask, answer)]
    last = objects[-1]["Key"]
    starts = [last, *(start for digit in DIGITS if (start := prefix + digit) > last)]
    borders = zip(starts, [*starts[1:], None], strict=True)
    ranges = in_threads(lambda ends: list(_range(ask, *ends)), borders, len(starts))
    return [*objects, *(entry for part in ranges for entry in part)]


def in_threads(function: Callable[[Item], Result], items: Iterable[Item], num_threads: int = THREADS) -> list[Result]:
    """Return the result of `function` for each item, in order. The threads have the caller's context variables."""
    context = contextvars.copy_context()
    with ThreadPoolExecutor(num_threads) as threads:
        return list(threads.map(lambda item: context.copy().run(function, item), items))


def _range(ask: Callable[..., Object], start: str, end: str | None) -> Iterator[Object]:
    """Yield the objects whose keys lie behind `start` and not behind `end`."""
    while True:
        answer = ask(StartAfter=start)
        for entry in answer.get("Contents", []):
            if end is not None and entry["Key"] > end:
                return
            yield entry
        if not answer.get("IsTruncated"):
            return
        start = answer["Contents"][-1]["Key"]


def _further_pages(ask: Callable[..., Object], answer: Object) -> Iterator[Object]:
    while answer.get("IsTruncated"):
        answer = ask(ContinuationToken=answer["NextContinuationToken"])
        yield from answer.get("Contents", [])


def _is_sorted(objects: Sequence[Object]) -> bool:
    return all(before["Key"] < after["Key"] for before, after in pairwise(objects))


def head(fs: Any, path: str) -> Object:
    """Return the facts about one object. Raises FileNotFoundError. fsspec would also look for a folder of this name."""
    bucket, key, _ = fs.split_path(path)
    return fs.call_s3("head_object", Bucket=bucket, Key=key)
