"""Draw the persons of a video on its frames: boxes, ids, genders, ages with their intervals, and the time on demand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.config import digest
from pipeline.cores.boxes_over_time import BoxesOverTime
from pipeline.cores.plan import NS, OPEN_END
from pipeline.media.canvas import Canvas
from pipeline.media.container import Opener
from pipeline.media.draw import PeoplePainter
from pipeline.media.probe import Probe
from pipeline.media.rewrite import CELL_S, Paint
from pipeline.storage import tables
from pipeline.storage.store import Store

BOX = ("bb_xmin", "bb_ymin", "bb_width", "bb_height")
SAME_FRAME_NS = 1_000
"""Published times are seconds in floating point, so a frame's time may differ by a few ns."""


@dataclass(frozen=True, slots=True)
class Annotation:
    """Boxes of persons with labels (video.copies.Painting).

    with_clock: whether the time and the frame rate are written into the picture.
    leaves_out: whether frames without a person are left out.
    keeps_sound: whether the copy has sound, if no frame is left out.
    """

    with_clock: bool = False
    leaves_out: bool = False
    keeps_sound: bool = True

    def key(self, store: Store, video_id: str) -> str:
        """Return a text that changes with the boxes, the persons and the options."""
        with tables.damage_is_a_fault():
            contents = [store.read(f"{name}/{video_id}.parquet") for name in ("detections", "persons")]
        hashes = [sha256(content).hexdigest() for content in contents]
        return digest("annotation", self.with_clock, self.leaves_out, *hashes)

    def painter(self, store: Store, video_id: str, open_source: Opener, probe: Probe, cells: tuple[int, int]) -> Paint:
        """Return the function that draws the persons in the cells [first, end)."""
        with tables.damage_is_a_fault():
            persons = tables.read_one(store, "persons", video_id).to_pylist()
            columns = ("time_s", "person_id", *BOX)
            detections = tables.read_one(store, "detections", video_id, columns)
        boxes = boxes_of(detections, *(cell * int(CELL_S) if cell != OPEN_END else np.inf for cell in cells))
        painter = PeoplePainter({person["person_id"]: label_forms(person) for person in persons})

        def paint(canvas: Canvas, time_ns: int) -> bool:
            ids, at = boxes.at(time_ns)
            painter.draw(canvas, at * (canvas.width / probe.width), ids.tolist())
            if self.with_clock:
                painter.write(canvas, clock(time_ns, probe))
            return len(ids) > 0 or not self.leaves_out

        return paint


def boxes_of(detections: pa.Table, start_s: float, end_s: float) -> BoxesOverTime:
    """Return the boxes of persons from rows of `detections`, which hold a row for every frame, in [start_s, end_s)."""
    times_s = detections["time_s"].to_numpy()
    chosen = (times_s >= start_s - 1) & (times_s < end_s + 1)
    left, top, width, height = (detections[name].to_numpy()[chosen] for name in BOX)
    boxes: NDArray[np.float64] = np.stack([left, top, left + width, top + height], axis=1)
    persons = detections["person_id"].to_numpy()[chosen].astype(np.int64)
    times_ns = np.rint(times_s[chosen] * NS).astype(np.int64)
    return BoxesOverTime.of(persons, times_ns, boxes, max_gap_ns=0, hold_ns=SAME_FRAME_NS)


def label_forms(person: Mapping[str, Any]) -> Sequence[str]:
    """Return the label of a person from a row of `persons`, and shorter forms: the id, gender, age and its interval.

    A question mark stands for a gender or age that Rollcall does not state.
    """
    number = str(person["person_id"])
    has_gender, has_age = person["gender"] in ("F", "M"), person["age"] is not None
    if not has_gender and not has_age:
        return f"{number}  no estimate", f"{number} ?", number
    gender = person["gender"] if has_gender else "gender ?"
    age = f"{int(person['age'] + 0.5)}" if has_age else "age ?"
    interval = f" ({person['age_low']:.0f}-{person['age_high']:.0f})" if has_age else ""
    short_gender, short_age = gender.removeprefix("gender "), age.removeprefix("age ")
    return f"{number}  {gender}  {age}{interval}", f"{number} {short_gender} {short_age}", number


def clock(time_ns: int, probe: Probe) -> str:
    """Return the time of a frame and the frame rate of its video: 0:01:23.480  25 fps."""
    minutes, seconds = divmod(time_ns // (NS // 1000), 60_000)
    time = f"{minutes // 60}:{minutes % 60:02}:{seconds / 1000:06.3f}"
    return time if probe.kind == "image" else f"{time}  {float(probe.fps):.6g} fps"
