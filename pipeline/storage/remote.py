"""A file of a remote place that is read patiently: a request that fails in a way that may pass is repeated."""

import io
from collections.abc import Callable
from typing import Any, BinaryIO

from pipeline.storage.faults import OURS, Result, patiently, plain_cause

BUFFER_BYTES = 64 << 10

read_listeners: list[Callable[[int], None]] = []
"""Are called with the number of bytes of each read."""


class _Patient(io.RawIOBase):
    """Reads of an fsspec file. Errors are those of faults.patiently."""

    def __init__(self, file: Any, uri: str) -> None:
        self._file, self._uri = file, uri

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def readinto(self, buffer: Any, /) -> int:
        start = self._file.tell()

        def read() -> bytes:
            self._file.seek(start)  # a failed read may have moved the position
            return self._file.read(len(buffer))

        content = _try(read, self._uri)
        for listener in read_listeners:
            listener(len(content))
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        self._file.close()
        super().close()


def open_patiently(fs: Any, path: str, uri: str, **options: Any) -> BinaryIO:
    """Open a file of the remote file system `fs` for reading. `options` are those of fsspec's `open`.

    Raises PassingError, UserError or DataError as faults.patiently does, and OSError for every other failure. The
    reads of the file raise the same.
    """
    file = _try(lambda: fs.open(path, "rb", **options), uri)
    return io.BufferedReader(_Patient(file, uri), BUFFER_BYTES)  # type: ignore[return-value]


def _try(action: Callable[[], Result], uri: str) -> Result:
    try:
        return patiently(action, uri)
    except (*OURS, OSError):
        raise
    except Exception as error:  # botocore and aiohttp have their own exceptions
        raise OSError(plain_cause(error)) from error
