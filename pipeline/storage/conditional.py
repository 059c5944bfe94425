"""Writes with a condition: create a file that must not exist, or replace a file that must still be the one that was
read.

An etag names one state of a file. None in its place says that the condition was not met, and nothing was written.
An error of the connection leaves open whether the file was written: read it to find out.
"""

import errno
import fcntl
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import fsspec.asyn

from pipeline.errors import MachineError, PassingError
from pipeline.storage.faults import FOUND_NOTHING, answer_of

PARTIAL = ".partial"
"""The end of the name of a file that is still being written. The name begins with a dot."""
LACKS = frozenset(
    {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL, errno.EMLINK}
)
"""The errors of a file system that has no hard links, or no locks."""
LOCK_WAIT_S, LOCK_POLL_S = 30.0, 0.02
NOT_MET = 412
UNKNOWN_STATUSES = frozenset({405, 501})
UNKNOWN_CODES = frozenset(
    {"BadRequest", "InvalidArgument", "InvalidRequest", "MethodNotAllowed", "NotImplemented", "UnsupportedOperation"}
)
"""The answers of an object store that does not know a condition and says so."""


class NoConditionsError(MachineError):
    """Raised by a store that refuses every write with this condition."""


class ConditionalWrites(Protocol):
    """Writes with a condition in one kind of store. Paths are those of its file system."""

    def create(self, path: str, content: bytes) -> str | None:
        """Write a file that must not exist, and return its etag."""
        ...

    def replace(self, path: str, content: bytes, etag: str) -> str | None:
        """Replace the file that has this etag, and return the new etag."""
        ...

    def read(self, path: str) -> tuple[bytes, str]:
        """Return the content and the etag of a file. Raises FileNotFoundError."""
        ...


def conditional_writes(fs: Any, root: str, *, is_local: bool) -> ConditionalWrites:
    """Return the writes for the tree below `root`."""
    if is_local:
        return _LocalWrites(Path(root) / "_lease" / ".lock")
    protocol = fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]
    return _S3Writes(fs) if protocol in ("s3", "s3a") else _OtherWrites(fs)


class _LocalWrites:
    """Files of this machine, or of a mounted file system. A file is created by a hard link, which fails if the name is
    taken, and replaced by a rename, while a lock keeps other writers of this module out."""

    def __init__(self, lock: Path) -> None:
        self._lock = lock

    def create(self, path: str, content: bytes) -> str | None:
        with _partial(path, content) as partial:
            try:
                os.link(partial, path)
            except FileExistsError:
                return None
            except OSError as error:
                if error.errno not in LACKS:
                    raise
                with self._alone():
                    if os.path.lexists(path):
                        return None
                    partial.rename(path)
        return _etag(path)

    def replace(self, path: str, content: bytes, etag: str) -> str | None:
        with _partial(path, content) as partial, self._alone(), suppress(*FOUND_NOTHING):
            if _etag(path) == etag:
                partial.rename(path)
                return _etag(path)
        return None

    def read(self, path: str) -> tuple[bytes, str]:
        with open(path, "rb") as file:
            return file.read(), _etag(file.fileno())

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o666), "rb") as file:
            give_up = time.monotonic() + LOCK_WAIT_S
            while not _locked(file.fileno()):
                if time.monotonic() > give_up:
                    raise PassingError(f"{self._lock}: another process has locked it and does not go on")
                time.sleep(LOCK_POLL_S)
            yield


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in LACKS:
            raise NoConditionsError(f"this file system has no locks ({os.strerror(error.errno)})") from error
        raise
    return True


@contextmanager
def _partial(path: str, content: bytes) -> Iterator[Path]:
    partial = Path(path).parent / f".{uuid.uuid4().hex}{PARTIAL}"
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def _etag(path: str | int) -> str:
    status = os.stat(path)
    return f"{status.st_ino}-{status.st_mtime_ns}-{status.st_size}"


class _S3Writes:
    def __init__(self, fs: Any) -> None:
        self._fs = fs

    def create(self, path: str, content: bytes) -> str | None:
        return _answered(lambda: self._fs.pipe_file(path, content, mode="create"))

    def replace(self, path: str, content: bytes, etag: str) -> str | None:
        try:
            return _answered(lambda: self._fs.pipe_file(path, content, IfMatch=etag))
        except FileNotFoundError:
            return None

    def read(self, path: str) -> tuple[bytes, str]:
        bucket, key, _ = self._fs.split_path(path)

        async def get() -> tuple[bytes, str]:
            answer = await self._fs._call_s3("get_object", Bucket=bucket, Key=key)
            try:
                return await answer["Body"].read(), answer["ETag"]
            finally:
                answer["Body"].close()

        content_and_etag: Any = fsspec.asyn.sync(self._fs.loop, get)
        return content_and_etag


def _answered(put: Callable[[], Any]) -> str | None:
    """Return the etag that S3 answers to a write, or None if its condition was not met."""
    try:
        return put()["ETag"]
    except Exception as error:  # s3fs translates the codes of S3 into many kinds of error
        code, status = answer_of(error)
        if status == NOT_MET or isinstance(error, FileExistsError):
            return None
        if status in UNKNOWN_STATUSES or code in UNKNOWN_CODES:
            raise NoConditionsError(f"this store refuses conditions ({code or status})") from error
        raise


class _OtherWrites:
    """Object stores other than S3. fsspec can create a file only if it is absent, but cannot replace one on a
    condition."""

    def __init__(self, fs: Any) -> None:
        self._fs = fs

    def create(self, path: str, content: bytes) -> str | None:
        try:
            self._fs.pipe_file(path, content, mode="create")
        except FileExistsError:
            return None
        except (TypeError, ValueError, NotImplementedError) as error:
            raise NoConditionsError("this store has no conditions") from error
        return str(self._fs.ukey(path))

    def replace(self, path: str, content: bytes, etag: str) -> str | None:
        raise NoConditionsError("this store has no conditions for replacing")

    def read(self, path: str) -> tuple[bytes, str]:
        self._fs.invalidate_cache()
        return self._fs.cat_file(path), str(self._fs.ukey(path))
