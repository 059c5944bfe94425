"""The persons of an output as exports list them: with the file, the time of recording, and the time in the picture."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import pairwise
from typing import Any, TypeVar

from pipeline.cores.presence import Span, covered_s
from pipeline.errors import DataError
from pipeline.storage import tables
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.store import side_by_side

Result = TypeVar("Result")
VIDEOS_AT_ONCE = 64
ID_DIGITS = 6
"""The fewest digits of a video_id in an id that is unique in the output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedVideo:
    """A finished video.

    short_id: the beginning of its video_id that no other video has.
    files: names of its sources below what named them.
    recorded_at: start of the recording, UTC. None if it is not known.
    sequence: the recording that it is a piece of, or None.
    """

    video_id: str
    short_id: str
    files: Sequence[str]
    recorded_at: datetime | None
    duration_s: float
    sequence: str | None

    @property
    def name(self) -> str:
        """The names of its sources, for a cell of a table."""
        return "; ".join(self.files)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedPerson:
    """A person of a video.

    row: its row of `persons`.
    spans: its tracklets' times, in seconds of the video.
    sequence_person_id: its number in the whole sequence, or None.
    """

    video: FinishedVideo
    row: Mapping[str, Any]
    spans: Sequence[Span]
    sequence_person_id: int | None

    @property
    def id(self) -> str:
        """An id that no other person of the output has, and that a later run does not give to another person."""
        if self.sequence_person_id is not None:
            return f"{self.video.sequence}-{self.sequence_person_id}"
        return f"{self.video.short_id}-{self.row['person_id']}"

    @property
    def seconds(self) -> float:
        """The time in the picture."""
        return covered_s(self.spans)

    @property
    def gender_prob(self) -> float | None:
        """The probability of the stated gender, or None if none is stated."""
        female_prob = self.row["female_prob"]
        if self.row["gender"] == "N" or female_prob is None:
            return None
        return round(female_prob if self.row["gender"] == "F" else 1 - female_prob, 3)

    @property
    def why_not(self) -> str:
        """Why there is no age or no gender. Empty if there are both."""
        reasons = [f"{name}: {why}" for name in ("age", "gender") if (why := self.row[f"{name}_why_not"])]
        return "; ".join(reasons)


class People:
    """The persons of all finished videos of an output.

    left_out: reasons by uri, of videos whose tables are damaged. Complete when all are read.
    """

    def __init__(self, index: OutputIndex) -> None:
        self.left_out: dict[str, str] = {}
        self._index = index

    def videos(self) -> Iterator[FinishedVideo]:
        """Yield the finished videos, in order of their names."""
        done = sorted((self._index.file_names(video_id), video_id) for video_id in self._index.done())
        for files, video_id in done:
            row, source = self._index.videos[video_id], self._source_by_video.get(video_id, {})
            yield FinishedVideo(
                video_id=video_id,
                short_id=video_id[: self._id_digits],
                files=files,
                recorded_at=source.get("recorded_at") or row["recorded_at"],
                duration_s=row["duration_s"],
                sequence=source.get("sequence"),
            )

    def of_each(self, videos: Sequence[FinishedVideo]) -> Iterator[tuple[FinishedVideo, list[ListedPerson]]]:
        """Yield each video with its persons, in order of their numbers. Some videos are read at a time."""
        _ = self._sequence_persons  # once, before several threads ask for it
        for start in range(0, len(videos), VIDEOS_AT_ONCE):
            batch = videos[start : start + VIDEOS_AT_ONCE]
            for video, persons in zip(batch, side_by_side(self._index.store, self._of_sound, batch), strict=True):
                if persons is not None:
                    yield video, persons

    def _of_sound(self, video: FinishedVideo) -> list[ListedPerson] | None:
        return self.sound(video, lambda: self.of(video))

    def sound(self, video: FinishedVideo, read: Callable[[], Result]) -> Result | None:
        """Return what `read` reads from the tables of a video, or None if they are damaged, which is noted."""
        try:
            with tables.damage_is_a_fault():
                return read()
        except DataError as error:
            self.left_out[self._index.videos[video.video_id]["uri"]] = str(error)
            return None

    def of(self, video: FinishedVideo) -> list[ListedPerson]:
        """Return the persons of a video, in order of their numbers. Raises DataError if its tables are damaged."""
        store, spans = self._index.store, defaultdict[int, list[Span]](list)
        with tables.damage_is_a_fault():
            tracklets = tables.read_one(store, "tracklets", video.video_id, ["person_id", "start_s", "end_s"])
            persons = tables.read_one(store, "persons", video.video_id)
        for row in tracklets.to_pylist():
            spans[row["person_id"]].append((row["start_s"], row["end_s"]))
        return [
            ListedPerson(
                video=video,
                row=row,
                spans=spans[row["person_id"]],
                sequence_person_id=self._sequence_persons.get((video.video_id, row["person_id"])),
            )
            for row in persons.to_pylist()
        ]

    @cached_property
    def _source_by_video(self) -> dict[str, Mapping[str, Any]]:
        """The first source of each video, current ones before others."""
        ordered = sorted(self._index.sources.values(), key=lambda row: (not row["current"], row["uri"]))
        return {row["video_id"]: row for row in reversed(ordered) if row["video_id"] is not None}

    @cached_property
    def _sequence_persons(self) -> dict[tuple[str, int], int]:
        table = tables.read(self._index.store, "sequences", ["video_id", "person_id", "sequence_person_id"])
        return {(row["video_id"], row["person_id"]): row["sequence_person_id"] for row in table.to_pylist()}

    @cached_property
    def _id_digits(self) -> int:
        """The number of digits after which no two videos have the same video_id."""
        videos = sorted(self._index.videos)
        digits = ID_DIGITS
        for first, second in pairwise(videos):
            common = next((i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), len(first))
            digits = max(digits, common + 1)
        return digits
