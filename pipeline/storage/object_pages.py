"""List the objects below a prefix page by page, so that the first ones are known before the others."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipeline.storage.faults import patiently

UNSORTED = "--x-s3"
"""The end of the names of S3's directory buckets, which do not list keys in order."""

PAGE_KEYS = 1_000
"""Number of keys in a page. S3 gives no more."""
Objects = dict[str, dict[str, Any]]
"""The facts about objects by path, as fsspec states them."""


@dataclass(frozen=True, slots=True)
class ObjectPage:
    """A part of a list of objects.

    objects: in order of their keys, after those of the pages before.
    is_last: whether no other page follows.
    """

    objects: Objects
    is_last: bool = True


def object_pages(fs: Any, path: str, uri: str) -> Iterator[ObjectPage]:
    """Yield all objects below a prefix, at least one page. A place other than S3 is one page.

    Raises what faults.patiently raises.
    """
    bucket, key = fs.split_path(path)[:2] if "s3" in fs.protocol else ("", "")
    if not bucket or bucket.endswith(UNSORTED) or fs.version_aware:
        yield ObjectPage(patiently(lambda: fs.find(f"{path}/", detail=True), uri))
        return
    whole: Objects = {}
    options = {"Bucket": bucket, "Prefix": f"{key.rstrip('/')}/" if key else "", **fs.req_kw, "MaxKeys": PAGE_KEYS}
    while True:
        answer = patiently(lambda: fs.call_s3("list_objects_v2", **options), uri)
        objects = {}
        for stated in answer.get("Contents", []):
            name = f"{bucket}/{stated['Key']}"
            objects[name] = {**stated, "Key": name, "name": name, "size": stated["Size"], "type": "file"}
        whole |= objects
        if not answer.get("IsTruncated"):
            _remember(fs, path, whole)
            yield ObjectPage(objects)
            return
        yield ObjectPage(objects, is_last=False)
        options["ContinuationToken"] = answer["NextContinuationToken"]


def _remember(fs: Any, top: str, objects: Objects) -> None:
    """Enter a whole list into the cache of s3fs, so that no object needs a request of its own when it is opened.

    A part of a list must not be entered, because s3fs takes what is not in it for missing.
    """
    folders: dict[str, Objects] = defaultdict(dict)
    for name, details in objects.items():
        folder = name.rpartition("/")[0]
        if not name.endswith("/"):
            folders[folder][name] = details
        while len(folder) > len(top):
            above = folder.rpartition("/")[0]
            folders[above].setdefault(
                folder, {"Key": folder, "name": folder, "Size": 0, "size": 0, "type": "directory"}
            )
            folder = above
    for folder, entries in folders.items():
        fs.dircache[folder] = [entries[name] for name in sorted(entries)]
