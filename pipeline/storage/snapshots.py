"""Snapshots: the tables of an output in few large files, behind one pointer. `compaction` makes them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa

from pipeline import rows
from pipeline.errors import UserError
from pipeline.storage import tables
from pipeline.storage.store import Stamp, Store

FOLDER = "compact"
POINTER = f"{FOLDER}/current.json"
CONTENTS = "contents.parquet"
SMALL = ("videos", "sources", "sequences", "runs")
"""The datasets that are written whole in every generation."""
SNAPSHOT = (*SMALL, *rows.VIDEO_TABLES)
"""The datasets of a snapshot. `embeddings` stays where it is, so that biometric data is stored once."""
CONTENT = pa.schema(
    [("video_id", pa.string()), ("version", pa.string()), ("held", pa.bool_())]
    + [(f"{name}_part", pa.int32()) for name in rows.VIDEO_TABLES]
    + [(f"{name}_rows", pa.int64()) for name in rows.VIDEO_TABLES]
)
"""A file of `videos`. version: its stamp. held: whether the generation holds the tables of the video. Then NAME_rows is
the number of its rows in a dataset, and NAME_part the part that holds them, null if there are none."""


@dataclass(frozen=True, slots=True)
class Part:
    """A file of a snapshot. name: below the output."""

    name: str
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A generation, as `compact/current.json` describes it.

    made_at: UTC time.
    num_videos: number of videos whose tables it holds.
    inputs: digest of the listing that it was made from.
    parts: files by dataset.
    schemas: digest of the schema by dataset.
    replaced: by earlier generation, the time at which another one took its place.
    """

    generation: str
    made_at: datetime
    num_videos: int
    inputs: str
    parts: Mapping[str, Sequence[Part]]
    schemas: Mapping[str, str]
    replaced: Mapping[str, datetime]

    @classmethod
    def read(cls, store: Store) -> "Snapshot | None":
        """Return the valid snapshot of an output, or None if there is none."""
        try:
            facts = json.loads(store.read(POINTER))
            return cls(
                facts["generation"],
                datetime.fromisoformat(facts["made_at"]),
                facts["videos"],
                facts["inputs"],
                {name: [Part(**part) for part in table["files"]] for name, table in facts["tables"].items()},
                {name: table["schema"] for name, table in facts["tables"].items()},
                {name: datetime.fromisoformat(at) for name, at in facts["replaced"].items()},
            )
        except FileNotFoundError:
            return None
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise UserError(
                f"{store.full(POINTER)} is damaged ({error}); remove it, and run `rollcall compact {store.uri}`"
            ) from None

    @property
    def folder(self) -> str:
        """The folder of the generation, below the output."""
        return f"{FOLDER}/{self.generation}"

    def num_rows(self, dataset: str) -> int:
        """Return the number of rows of a dataset."""
        return sum(part.rows for part in self.parts[dataset])

    def write(self, store: Store) -> None:
        """Make this the valid snapshot."""
        facts = {
            "generation": self.generation,
            "made_at": self.made_at.isoformat(),
            "videos": self.num_videos,
            "inputs": self.inputs,
            "tables": {
                name: {
                    "rows": self.num_rows(name),
                    "schema": self.schemas[name],
                    "files": [{"name": part.name, "rows": part.rows, "bytes": part.bytes} for part in parts],
                }
                for name, parts in self.parts.items()
            },
            "replaced": {name: at.isoformat() for name, at in self.replaced.items()},
        }
        store.put(POINTER, json.dumps(facts, indent=2).encode())


@dataclass(frozen=True, slots=True)
class OutputListing:
    """The state of an output. files: stamps by name, for each dataset of SMALL."""

    files: Mapping[str, Mapping[str, Stamp]]

    @classmethod
    def of(cls, store: Store) -> "OutputListing":
        return cls({name: store.stamps(name) for name in SMALL})

    @property
    def inputs(self) -> str:
        text = json.dumps([[name, stamp.version] for files in self.files.values() for name, stamp in files.items()])
        return hashlib.sha256(text.encode()).hexdigest()

    def versions(self) -> dict[str, str]:
        """Return the version of the row of each video, by video_id."""
        return {
            video_id_of(name): stamp.version
            for name, stamp in self.files["videos"].items()
            if name.endswith(".parquet") and name != f"videos/{tables.SCHEMA_FILE}"
        }


def video_id_of(name: str) -> str:
    """Return the video_id of a file `DATASET/VIDEO_ID.parquet`."""
    return name.rpartition("/")[2].removesuffix(".parquet")


@dataclass(slots=True)
class VideoContent:
    """The state of a video in a generation, as CONTENT has it."""

    version: str
    held: bool
    parts: dict[str, int | None] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)


def read_contents(store: Store, base: Snapshot) -> dict[str, VideoContent]:
    """Return, by video_id, what a generation holds of each video."""
    table = tables.read_file(store, f"{base.folder}/{CONTENTS}", CONTENT)
    contents = {}
    for row in table.to_pylist():
        contents[row["video_id"]] = VideoContent(
            row["version"],
            row["held"],
            {name: row[f"{name}_part"] for name in rows.VIDEO_TABLES},
            {name: _num_rows(row, name) for name in rows.VIDEO_TABLES},
        )
    return contents


def _num_rows(row: Mapping[str, Any], dataset: str) -> Any:
    """Return the number of a video's rows in a dataset. A generation of an earlier version lacks optional datasets."""
    number = row[f"{dataset}_rows"]
    return 0 if number is None and row["held"] and dataset in rows.OPTIONAL_TABLES else number
