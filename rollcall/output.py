"""An output of `rollcall process` as tables of pandas and Arrow. pandas and matplotlib are imported when they are
needed."""

import os
import warnings
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pyarrow as pa

from pipeline import rows
from pipeline.errors import UserError, nearest
from pipeline.storage.output_view import OutputView
from pipeline.text import count

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from PIL.Image import Image

Name: TypeAlias = str | os.PathLike[str]
Videos: TypeAlias = Name | Sequence[Name] | None
"""Which videos: a video_id, a file name, a path or URI, several of them, or None for all."""
FILE = "file"
UNSORTED = ("sequences", "runs")
"""The datasets whose rows have an order of their own."""


def read(uri: Name) -> "Output":
    """Return the tables of an output as they stand now.

    uri: the folder or the `s3://bucket/prefix` that was given to `process --output`.

    Raises UserError if there is no output or it cannot be read.
    """
    return Output(OutputView.open(os.fspath(uri)))


class Output:
    """The tables of an output at the moment when it was read. Videos that a run finishes later are not in it.

    Every table begins with the column `file`, the name of the video as its CSV has it: the path below the folder that
    was given to `process`. Rows are ordered by file. If several files have the same content, the table has the rows
    once, under the first name; `sources` lists all names. Types, units and meanings of all other columns are in
    docs/tables.md.

    In every method, `video` restricts the rows to some videos: a file name, a path or URI, a video_id, or a list of
    them. It raises UserError if there is no such video.
    """

    def __init__(self, view: OutputView) -> None:
        self._view = view
        self._file_of = {video_id: view.index.file_names(video_id)[0] for video_id in view.index.videos}

    def __repr__(self) -> str:
        videos = self._view.index.videos.values()
        persons = sum(row["num_persons"] or 0 for row in videos)
        return f"<rollcall.Output {self.uri}: {count(len(videos), 'video')}, {count(persons, 'person')}>"

    @property
    def uri(self) -> str:
        """The place of the output."""
        return self._view.store.uri

    @property
    def files(self) -> list[str]:
        """The names of the finished videos, sorted."""
        return sorted(self._file_of[video_id] for video_id in self._view.index.done())

    # --- tables ------------------------------------------------------------------------------------------------------

    def videos(self, video: Videos = None, columns: Sequence[str] | None = None) -> "pd.DataFrame":
        """Return one row per video: its size, length, number of persons, and the reason if it was quarantined."""
        return self.table("videos", video, columns)

    def persons(self, video: Videos = None, columns: Sequence[str] | None = None) -> "pd.DataFrame":
        """Return one row per person of a video: start and end, age with its 80 % interval, gender."""
        return self.table("persons", video, columns)

    def detections(self, video: Videos = None, columns: Sequence[str] | None = None) -> "pd.DataFrame":
        """Return one row per person and frame: the box and the person."""
        return self.table("detections", video, columns)

    def tracklets(self, video: Videos = None, columns: Sequence[str] | None = None) -> "pd.DataFrame":
        """Return one row per unbroken appearance of a person."""
        return self.table("tracklets", video, columns)

    def faces(self, video: Videos = None, columns: Sequence[str] | None = None) -> "pd.DataFrame":
        """Return one row per face that was found, whether it was judged, and why not."""
        return self.table("faces", video, columns)

    def shots(self, video: Videos = None, columns: Sequence[str] | None = None) -> "pd.DataFrame":
        """Return one row per shot: its start and end."""
        return self.table("shots", video, columns)

    def links(self, video: Videos = None, columns: Sequence[str] | None = None) -> "pd.DataFrame":
        """Return one row per pair of tracklets that was compared, with its scores and the outcome."""
        return self.table("links", video, columns)

    def crossings(self, video: Videos = None, columns: Sequence[str] | None = None) -> "pd.DataFrame":
        """Return one row per person who crosses a line, a side of the picture, or the border of a zone."""
        return self.table("crossings", video, columns)

    def sequences(self, video: Videos = None, columns: Sequence[str] | None = None) -> "pd.DataFrame":
        """Return one row per person of a file in a sequence, with the number of that person in the whole sequence."""
        return self.table("sequences", video, columns)

    def sources(self, video: Videos = None, columns: Sequence[str] | None = None) -> "pd.DataFrame":
        """Return one row per source as it was named, with its video and its status."""
        return self.table("sources", video, columns)

    def table(self, name: str, video: Videos = None, columns: Sequence[str] | None = None) -> "pd.DataFrame":
        """Return a dataset as pandas has it.

        name: a dataset of docs/tables.md.
        columns: the wanted columns in order, `file` among them if wanted; by default `file` and all others.
        """
        return self.arrow(name, video, columns).to_pandas(use_threads=False)

    def arrow(self, name: str, video: Videos = None, columns: Sequence[str] | None = None) -> pa.Table:
        """Return a dataset as an Arrow table, for Polars, DuckDB and large outputs. Arguments are those of `table`.

        Warns of videos that are left out because their stored tables are damaged. Raises UserError if a run has
        processed a video again since the output was read.
        """
        known = rows.PUBLISHED.get(name)
        if known is None:
            raise UserError(f"there is no dataset {name}{nearest(name, rows.PUBLISHED, 'see docs/tables.md')}")
        wanted = [FILE, *known.schema.names] if columns is None else list(columns)
        for column in wanted:
            if column != FILE and column not in known.schema.names:
                columns_known = [FILE, *known.schema.names]
                raise UserError(f"{name} has no column {column}{nearest(column, columns_known, 'see docs/tables.md')}")
        video_ids = None if video is None else self._video_ids(video)
        keys = {"video_id"} | ({"csv"} if name == "sources" else set())
        stored = [column for column in known.schema.names if column in keys or column in wanted]
        table = self._view.read(name, video_ids, stored)
        self._warn_of_damage()
        return self._with_files(name, table).select(wanted)

    def _with_files(self, name: str, table: pa.Table) -> pa.Table:
        """Return a table with the column `file`, ordered by it."""
        if name == "sources":
            files = [csv and csv.removeprefix("csv/").removesuffix(".csv") for csv in table["csv"].to_pylist()]
            table = table.add_column(0, FILE, pa.array(files, pa.string()))
            return table.sort_by(FILE)
        encoded = table["video_id"].combine_chunks().dictionary_encode()
        if isinstance(encoded, pa.ChunkedArray):
            encoded = encoded.combine_chunks()
        values = [self._file_of.get(video_id, video_id) for video_id in encoded.dictionary.to_pylist()]
        codes = encoded.indices.to_numpy(zero_copy_only=False)
        table = table.add_column(0, FILE, pa.array(values, pa.string()).take(encoded.indices))
        ranks = np.argsort(np.argsort(np.array(values, np.str_)))[codes] if values else codes
        if name in UNSORTED or not (np.diff(ranks) < 0).any():
            return table
        return table.take(pa.array(np.argsort(ranks, kind="stable")))

    def _warn_of_damage(self) -> None:
        for video_id, reason in self._view.left_out.items():
            warnings.warn(f"{self._file_of[video_id]} is left out: {reason}", stacklevel=4)

    def pictures(self, person: int | str, video: Name | None = None) -> "list[Image]":
        """Return the picture of a person from the best moment, and that of the face if one was judged.

        They are the pictures that `rollcall export URI --format pictures` has written. There are none of videos that
        were processed without `biometrics.keep: true`.

        person: person_id in the video, or VIDEO_ID:PERSON_ID, as `rollcall forget` takes it.
        video: may be left out if the output has one video, or if `person` names it.

        Raises UserError if there is no such picture, and says which command makes it.
        """
        from rollcall.pictures import read_pictures

        if isinstance(person, str):
            video, _, number = person.rpartition(":")
            if not video or not number.isdecimal():
                raise UserError(f"{person!r} names no person; write VIDEO_ID:PERSON_ID, or a number and `video=`")
            person = int(number)
        (video_id,) = self._video_ids(self._one_video() if video is None else video)
        return read_pictures(self._view.index, video_id, person)

    # --- plots -------------------------------------------------------------------------------------------------------

    def plot_timeline(self, video: Name | None = None, ax: "Axes | None" = None) -> "Axes":
        """Draw when each person of a video is in the picture, over its shots. Return the axes.

        video: may be left out if the output has one video.
        ax: axes to draw on; by default new ones.
        """
        from rollcall import plots

        (video_id,) = self._video_ids(self._one_video() if video is None else video)
        persons, tracklets, shots = (self.arrow(name, video_id) for name in ("persons", "tracklets", "shots"))
        return plots.timeline(self._file_of[video_id], persons, tracklets, shots, ax)

    def plot_ages(self, video: Videos = None, ax: "Axes | None" = None) -> "Axes":
        """Draw how many persons are in each group of five years of age, by estimated gender. Return the axes.

        Each person is spread over the ages that its interval allows, because an estimated age is uncertain. The title
        says how many persons have no age.
        """
        from rollcall import plots

        return plots.ages(self.arrow("persons", video), ax)

    # --- names -------------------------------------------------------------------------------------------------------

    def _one_video(self) -> str:
        done = self._view.index.done()
        if len(done) != 1:
            raise UserError(
                f"{self.uri} has {count(len(done), 'finished video')}; name one of those in `files` with `video=`"
            )
        return done[0]

    def _video_ids(self, videos: Name | Sequence[Name]) -> list[str]:
        """Return the ids of videos as a user names them."""
        named = [videos] if isinstance(videos, (str, os.PathLike)) else list(videos)
        return list(dict.fromkeys(self._video_id(os.fspath(name)) for name in named))

    def _video_id(self, name: str) -> str:
        for candidate in (name, os.path.abspath(name)):
            video_ids = self._ids_by_name.get(candidate, set())
            if len(video_ids) == 1:
                return next(iter(video_ids))
            if video_ids:
                files = ", ".join(sorted(self._file_of[video_id] for video_id in video_ids))
                raise UserError(f"{len(video_ids)} videos are called {name}; name one of these: {files}")
        known = self._file_of.values()
        raise UserError(f"{self.uri} has no video {name}{nearest(name, known, '`files` of the output lists them')}")

    @cached_property
    def _ids_by_name(self) -> dict[str, set[str]]:
        """The ids of the videos by each of their names: video_id, file, last part of the URI, URI."""
        index = self._view.index
        names = {video_id: {video_id} for video_id in index.videos}
        for video_id in index.videos:
            for file in index.file_names(video_id):
                names.setdefault(file, set()).add(video_id)
        for uri, row in index.sources.items():
            if row["video_id"] in index.videos:
                for name in (uri, uri.rpartition("/")[2]):
                    names.setdefault(name, set()).add(row["video_id"])
        return names
