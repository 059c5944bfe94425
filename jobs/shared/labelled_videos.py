"""Find the videos of an output by the names that a list of labelled persons gives them."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import PurePosixPath

from pipeline.errors import UserError
from pipeline.storage.output_index import OutputIndex

VideoNames = Mapping[str, set[str]]
"""The video_ids of the finished videos by each name of theirs: with folders, without them, and without suffix."""


def video_names(index: OutputIndex) -> VideoNames:
    """Return the names of all finished videos."""
    ids: dict[str, set[str]] = defaultdict(set)
    for video_id in index.done():
        for name in map(PurePosixPath, index.file_names(video_id)):
            for form in (str(name), name.name, name.stem):
                ids[form].add(video_id)
    return ids


def find_video(names: VideoNames, name: str, output: str) -> str | None:
    """Return the video with a name, None if there is none. Raises UserError if several have it."""
    matching = names.get(name, set())
    if len(matching) > 1:
        raise UserError(
            f"{output} holds {len(matching)} videos named {name}; write their folders too in the column video"
        )
    return next(iter(matching), None)


def name_of(index: OutputIndex, names: VideoNames, video_id: str) -> str:
    """Return the name of a video for a list: without folders if that names it alone."""
    name = PurePosixPath(index.file_names(video_id)[0])
    return name.name if len(names[name.name]) == 1 else str(name)
