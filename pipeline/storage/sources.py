"""Sources: the files that a user names, and the suffixes by which files in folders are sources."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

# fmt: off
VIDEO_SUFFIXES = frozenset(
    {
        ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mts", ".mpg", ".mpeg", ".vob", ".wmv",
        ".asf", ".flv", ".f4v", ".3gp", ".3g2", ".ogv", ".mxf", ".dv", ".h264", ".h265", ".hevc", ".264", ".265",
        ".mjpg", ".mjpeg", ".y4m", ".divx", ".rm", ".rmvb",
    }
)
# fmt: on
PICTURE_SUFFIXES = frozenset(
    {
        ".jpg",
        ".jpeg",
        ".png",
        ".bmp",
        ".webp",
        ".tif",
        ".tiff",
        ".gif",
        ".avif",
        ".heic",
        ".heif",
        ".hif",
    }
)
KNOWN_SUFFIXES = VIDEO_SUFFIXES | PICTURE_SUFFIXES
BY_FOLDER = "folder"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One input as named. All text is UTF-8.

    uri: the address of the file.
    name: the path below the folder, prefix or list that named the source. The name of its CSV comes from it.
    named_by: that folder, prefix or list.
    size_bytes: the size of the file. None if the place does not state it.
    etag: changes when the bytes change, as far as the place can tell without reading them. None if unknown.
    missing: the reason why the file cannot be read. None for a file that exists.
    is_unlisted: whether the source is a folder that cannot be listed.
    sequence: the recording that the file is a piece of. None if there is none.
    place: the position in the order in which the pieces were named.
    recorded_at: the start of the recording, as a list states it. None if not stated.
    """

    uri: str
    name: str
    named_by: str
    size_bytes: int | None = None
    etag: str | None = None
    missing: str | None = None
    is_unlisted: bool = False
    sequence: str | None = None
    place: int = 0
    recorded_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """The result of a search for sources.

    sources: the sources in order, each uri once.
    num_other: the number of files below folders whose names are neither those of videos nor of pictures.
    roots: the arguments, each as an absolute path, a full URI, a pattern of these, or @ and the place of a list.
    """

    sources: tuple[Source, ...]
    num_other: int
    roots: tuple[str, ...] = ()


def is_known(path: str) -> bool:
    """Return whether the name of a file in a folder makes it a source."""
    return Path(path).suffix.lower() in KNOWN_SUFFIXES and not Path(path).name.startswith(".")
