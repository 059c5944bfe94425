"""Frames of the videos of an output for the page on which persons are labelled. They are read from the sources when
they are asked for, and nothing of them is stored. Forgotten persons are covered."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from jobs.shared.copying import sources_of
from pipeline.arrays import Picture
from pipeline.cores.plan import NS, OPEN_END
from pipeline.media.canvas import Canvas
from pipeline.media.cover import cover
from pipeline.media.pictures import cut_out, encode_jpeg, resize_to_long_side
from pipeline.media.probe import Probe
from pipeline.media.probing import probe
from pipeline.media.stills import still_at
from pipeline.storage import tables
from pipeline.storage.content_ids import unchanged_source
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.source_files import opener
from pipeline.video.anonymisation import NO_BOXES, Anonymisation, PeopleOverTime

FRAME_PX, CROP_PX = 1600, 640
"""Longest sides of the pictures that the page gets."""
JPEG_QUALITY = 90
NUM_KEPT = 16
"""Frames that stay in memory. A page shows four moments, and asks for those of the next person beforehand."""


@dataclass(frozen=True, slots=True)
class _Source:
    """A source that still has the content of its video. people: None if nobody was forgotten."""

    uri: str
    probe: Probe
    painting: Anonymisation
    people: PeopleOverTime | None


@dataclass(slots=True)
class Frames:
    """The frames of an output's videos.

    sources: those that were read so far, by video_id.
    kept: the latest frames by video_id and millisecond, the least recently used one first.
    lock: held while a frame is read.
    """

    index: OutputIndex
    sources: dict[str, _Source] = field(default_factory=dict)
    kept: dict[tuple[str, int], Picture] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def whole(self, video_id: str, time_s: float) -> bytes:
        """Return the frame at a moment as JPEG. Raises DataError and PassingError if the source fails."""
        return encode_jpeg(resize_to_long_side(self._frame(video_id, time_s), FRAME_PX), JPEG_QUALITY)

    def part(self, video_id: str, time_s: float, box: Sequence[float]) -> bytes:
        """Return a part of the frame at a moment as JPEG. Raises as `whole` does.

        box: xyxy px of the displayed picture. A box outside the picture gives the whole of it.
        """
        picture = self._frame(video_id, time_s)
        crop = cut_out(picture, box)
        return encode_jpeg(resize_to_long_side(crop if crop.size else picture, CROP_PX), JPEG_QUALITY)

    def _frame(self, video_id: str, time_s: float) -> Picture:
        key = video_id, round(time_s * 1000)
        with self.lock:
            picture = self.kept.pop(key, None)
            self.kept[key] = picture = self._read(video_id, time_s) if picture is None else picture
            while len(self.kept) > NUM_KEPT:
                del self.kept[next(iter(self.kept))]
        return picture

    def _read(self, video_id: str, time_s: float) -> Picture:
        source = self.sources.get(video_id) or self._open(video_id)
        self.sources[video_id] = source
        picture = still_at(opener(source.uri), source.probe, time_s)
        if source.people is None:
            return picture
        shown = picture.copy()
        places = source.painting.places(source.people, NO_BOXES, round(time_s * NS))
        cover(Canvas.of_picture(shown), places.tolist(), source.painting.style)
        return shown

    def _open(self, video_id: str) -> _Source:
        uri = unchanged_source(sources_of(self.index, video_id), video_id)
        read = partial(tables.read_one, self.index.store)
        painting, people = Anonymisation(None), None
        if video_id in self.index.tombstones.persons:
            with tables.damage_is_a_fault():
                persons = read("persons", video_id, ["person_id"])["person_id"].to_pylist()
            painting = Anonymisation(None, frozenset((video_id, person) for person in persons))
            people = PeopleOverTime.read(self.index.store, video_id, set(persons), (0, OPEN_END))
        return _Source(uri, probe(opener(uri)), painting, people)
