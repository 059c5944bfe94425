"""Outputs whose videos exist: clips with boxes of people that the test chooses, published without a model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import rows
from pipeline.media.decode import SpanDecoder
from pipeline.media.probing import probe
from pipeline.storage import records, tables
from pipeline.storage.content_ids import content_id
from pipeline.storage.output_index import SOURCES_FILE
from pipeline.storage.sources import Source
from pipeline.storage.store import Store
from tests.small_outputs import video_row


@dataclass(frozen=True, slots=True)
class Passer:
    """A person who crosses the picture. In frame i, from 0, the box begins at x + i * speed px.

    first, end: the frames [first, end) show the person; None: to the end.
    """

    x: int = 10
    speed: int = 2
    y: int = 40
    width: int = 24
    height: int = 40
    first: int = 0
    end: int | None = None
    age: float | None = 34.2
    gender: str = "F"

    def left(self, frame: int) -> int:
        """Return the left edge of the box in a frame, px."""
        return self.x + frame * self.speed


def frame_times_ns(path: Path) -> list[int]:
    """Return the times of the displayed frames."""
    source, probed = (lambda: str(path)), probe(lambda: str(path))
    decoder = SpanDecoder(source, probed, 0, -1, fps=1, cell_seconds=1, thumbnail_px=16, threads=1, careful=True)
    return [frame.time_ns for frame in decoder]


def publish_clips(place: str, clips: Mapping[Path, Sequence[Passer]], uris: Mapping[Path, str] | None = None) -> Store:
    """Publish clips with their passers as the persons 1, 2, … of each. uris: of clips that lie elsewhere."""
    store = Store(place)
    tables.create(store, keep_biometrics=False)
    sources = []
    for path, passers in clips.items():
        video_id = content_id(Source(uri=str(path), name="", named_by=""))
        probed, times = probe(lambda path=path: str(path)), frame_times_ns(path)
        content = {"detections": _detections(video_id, passers, times), "persons": _persons(video_id, passers)}
        for name in rows.VIDEO_TABLES:
            tables.write_rows(store, f"{name}/{video_id}.parquet", rows.DATASETS[name], content.get(name, []))
        size = {"width": probed.width, "height": probed.height, "num_frames": len(times)}
        fps = None if probed.kind == "image" else float(probed.fps)
        duration_s = len(times) / fps if fps else None
        records.write_video(store, video_row(video_id, uri=str(path), fps=fps, duration_s=duration_s, **size))
        source = {"uri": (uris or {}).get(path, str(path)), "video_id": video_id, "status": "done", "current": True}
        sources.append(source | {"csv": f"csv/{path.name}.csv", "named_by": str(path.parent)})
    tables.write_rows(store, SOURCES_FILE, rows.DATASETS["sources"], sources)
    return store


def _detections(video_id: str, passers: Sequence[Passer], times: Sequence[int]) -> list[dict[str, Any]]:
    return [
        {"video_id": video_id, "frame_num": frame + 1, "time_s": time / 1e9, "shot": 1}
        | {"person_id": number, "tracklet_id": number}
        | {"bb_xmin": passer.left(frame), "bb_ymin": passer.y, "bb_width": passer.width, "bb_height": passer.height}
        for frame, time in enumerate(times)
        for number, passer in enumerate(passers, start=1)
        if passer.first <= frame < (len(times) if passer.end is None else passer.end)
    ]


def _persons(video_id: str, passers: Sequence[Passer]) -> list[dict[str, Any]]:
    return [
        {"video_id": video_id, "person_id": number, "age": passer.age, "gender": passer.gender}
        | ({} if passer.age is None else {"age_low": passer.age - 6, "age_high": passer.age + 7})
        for number, passer in enumerate(passers, start=1)
    ]
