"""The values that describe the reduce of one video and its result."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from pipeline.config import Config
from pipeline.cores.likeness import Likenesses
from pipeline.media.probe import Probe
from pipeline.storage.ledger import ChunkSpan, Ledger
from pipeline.storage.tombstones import Forgotten


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoChunks:
    """The durable chunks of a video, and the settings for the tables made of them.

    video_id: id of the content.
    chunks: (first_cell, end_cell) of each chunk, in order.
    csv_names: names of the CSV files to write.
    ledger: holds the durable objects.
    config: of the tables to make.
    spaces: embedding spaces by `body` and `face`, where there are such embeddings.
    priors: calibrated similarity of their embedders.
    in_sequence: whether later files of a sequence may be linked with the persons of this video.
    forgotten: the places of persons who must not appear in its tables.
    """

    video_id: str
    chunks: tuple[ChunkSpan, ...]
    csv_names: tuple[str, ...]
    ledger: Ledger
    config: Config
    spaces: Mapping[str, str]
    priors: Likenesses
    in_sequence: bool = False
    forgotten: Forgotten = ()

    def with_chunks(self, chunks: tuple[ChunkSpan, ...]) -> Self:
        return replace(self, chunks=chunks)


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoJob(VideoChunks):
    """A video that is processed.

    uri: the source that is read.
    probe: of its container.
    config_id: id of everything besides the content on which its tables depend.
    listed: size in bytes and etag of the source when it was listed. None if unknown, or if nothing is read of it.
    may_be_published: whether the output may hold tables of the video, of an earlier run or of a worker that died.
    """

    uri: str
    probe: Probe
    config_id: str
    listed: tuple[int, str] | None = None
    may_be_published: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedVideo:
    """The result of a published video, for the run record.

    video_id: id of the content.
    row: its row of `videos`.
    num_chunks: number of chunks that were reduced.
    """

    video_id: str
    row: dict[str, Any]
    num_chunks: int
