"""Boxes of a video in the form of COCO (Lin et al., ECCV 2014): its analysed frames as images, people and faces."""

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.columns import flags, integers, reals
from pipeline.cores.analysed import analysed_frames, frame_times
from pipeline.storage import records
from pipeline.storage.store import Store
from pipeline.storage.tables import row_groups

PERSON, FACE = 1, 2
CATEGORIES = ({"id": PERSON, "name": "person"}, {"id": FACE, "name": "face"})
BOX = ("bb_xmin", "bb_ymin", "bb_width", "bb_height")
Item = Mapping[str, Any]


def write_coco(store: Store, video: Mapping[str, Any], name: str, source: str, ids: str) -> None:
    """Write the detected boxes of a finished video. Interpolated boxes are left out: nobody looked at their frames.

    video: its row of `videos`.
    source: name of the source. An image is called SOURCE/FRAME.jpg, or SOURCE if the source is a picture.
    ids: the column whose values become `track_id`.
    """
    times_s = _frame_times(store, video)
    frames = _analysed(store, video, times_s)
    with store.writing(name) as file:
        file.write(
            b'{"info": {"description": "Rollcall: analysed frames, detected people and faces"},\n"licenses": [],\n'
        )
        file.write(f'"categories": {json.dumps(CATEGORIES)},\n'.encode())
        _write_list(file, "images", _images(video, source, frames, times_s))
        file.write(b",\n")
        people = _annotations(store, f"detections/{video['video_id']}.parquet", PERSON, ids)
        faces = _annotations(store, f"faces/{video['video_id']}.parquet", FACE, ids)
        numbered = ({"id": number, **item} for number, item in enumerate(chain(people, faces), start=1))
        _write_list(file, "annotations", numbered)
        file.write(b"}\n")


def _write_list(file: IO[bytes], name: str, items: Iterable[Item]) -> None:
    file.write(f'"{name}": ['.encode())
    for number, item in enumerate(items):
        file.write((",\n" if number else "\n").encode() + json.dumps(item).encode())
    file.write(b"]")


def _images(
    video: Mapping[str, Any], source: str, frames: NDArray[np.int64], times_s: NDArray[np.float64]
) -> Iterator[Item]:
    is_picture = video["fps"] is None and video["num_frames"] == 1
    size = {"width": video["width"], "height": video["height"]}
    for frame in frames.tolist():
        name = source if is_picture else f"{source}/{frame:08d}.jpg"
        stated = {"video_id": video["video_id"], "frame_num": frame, "time_s": float(times_s[frame - 1])}
        yield {"id": frame, "file_name": name, **size, **stated}


def _annotations(store: Store, name: str, category: int, ids: str) -> Iterator[Item]:
    with row_groups(store, name) as groups:
        for group in groups:
            for row in group.to_pylist():
                if row.get("interpolated"):
                    continue
                box = [round(row[column], 1) for column in BOX]
                yield {
                    "image_id": row["frame_num"],
                    "category_id": category,
                    "bbox": box,
                    "area": round(box[2] * box[3], 2),
                    "iscrowd": 0,
                    "score": row["score"],
                    "track_id": row[ids],
                    "person_id": row["person_id"],
                    "tracklet_id": row["tracklet_id"],
                }


def _frame_times(store: Store, video: Mapping[str, Any]) -> NDArray[np.float64]:
    frames, times_s = [np.zeros(0, np.int64)], [np.zeros(0)]
    with row_groups(store, f"detections/{video['video_id']}.parquet") as groups:
        for group in groups:
            frames.append(integers(group, "frame_num"))
            times_s.append(reals(group, "time_s"))
    return frame_times(
        np.concatenate(frames),
        np.concatenate(times_s),
        num_frames=video["num_frames"],
        duration_s=video["duration_s"],
    )


def _analysed(store: Store, video: Mapping[str, Any], times_s: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the analysed frames, from 1.

    Those without anybody follow from the configuration. If that does not give as many frames as were analysed, because
    the rate of an empty stretch varies, only the frames with somebody are certain, and they alone are returned.
    """
    certain = [np.zeros(0, np.int64)]
    for dataset in ("detections", "faces"):
        with row_groups(store, f"{dataset}/{video['video_id']}.parquet") as groups:
            for group in groups:
                frames = integers(group, "frame_num")
                certain.append(frames[~flags(group, "interpolated")] if dataset == "detections" else frames)
    seen = np.unique(np.concatenate(certain))
    recipe = records.read_recipe(store, video["config_id"])
    if recipe is None:
        return seen
    knobs = recipe["knobs"]
    grid = analysed_frames(times_s, cell_seconds=knobs["chunk.cell_seconds"], fps=knobs["observe.fps"])
    every = np.union1d(grid, seen)
    return every if len(every) == video["num_analysed"] else seen
