"""Draw pairs of tracklets: the last frame of one, the first frame of the other, and both people at three moments.

Heads and faces are covered, unless the video was processed with `biometrics.keep: true`. Forgotten persons are always
covered. In a close-up the head is most of what a box shows, so heads become a few blocks, which keep the colours of
clothes. Faces that a detector finds are filled.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.arrays import Picture
from pipeline.columns import flags, integers, reals
from pipeline.config import Config
from pipeline.cores.covering import FACE_TO_HEAD, Style, grown
from pipeline.cores.plan import NS, OPEN_END
from pipeline.cores.portraits import widened
from pipeline.interfaces import FaceDetector
from pipeline.media.canvas import Canvas
from pipeline.media.cover import cover
from pipeline.media.draw import caption, colour_of, encode_png, outline, sheet
from pipeline.media.pictures import cut_out, fitted_into
from pipeline.media.probing import probe
from pipeline.media.stills import analysed_stills
from pipeline.storage import tables
from pipeline.storage.content_ids import unchanged_source
from pipeline.storage.source_files import opener
from pipeline.storage.store import Store
from pipeline.video.anonymisation import NO_BOXES, Anonymisation, FrameFaces, PeopleOverTime
from pipeline.video.doubts import PairOfTracklets
from pipeline.video.left_out import boxes_of

FRAME_PX, CROP_PX = (640, 360), (202, 280)
"""Width and height of the two frames, and of the three crops below each."""
MARGIN = 0.1
NUM_MOMENTS = 3


@dataclass(frozen=True, slots=True)
class _Moments:
    """Some moments of a tracklet. times_s: s, rising. boxes: (M, 4) xyxy px."""

    times_s: Sequence[float]
    boxes: NDArray[np.float64]


def draw_pairs(
    store: Store,
    video_id: str,
    uris: Sequence[str],
    config: Config,
    pairs: Sequence[PairOfTracklets],
    faces: FrameFaces | None,
) -> Iterator[tuple[PairOfTracklets, bytes]]:
    """Yield each pair with a PNG of it. Raises DataError and PassingError if the source fails.

    uris: the sources. The first one that still has this content is read.
    config: of the video.
    faces: finds faces to be covered; None: biometrics were kept, and only forgotten persons are covered.
    """
    uri = unchanged_source(uris, video_id)
    probed = probe(opener(uri))
    with tables.damage_is_a_fault():
        columns = ("tracklet_id", "time_s", "bb_xmin", "bb_ymin", "bb_width", "bb_height", "interpolated")
        detections = tables.read_one(store, "detections", video_id, columns)
        persons = integers(tables.read_one(store, "persons", video_id, ["person_id"]), "person_id")
    detections = detections.filter(pa.array(~flags(detections, "interpolated")))
    moments = {number: _moments(detections, number) for pair in pairs for number in pair.tracklets}
    kept = frozenset() if faces else frozenset((video_id, person) for person in persons.tolist())
    painting = Anonymisation(faces, kept)
    people = PeopleOverTime.read(store, video_id, painting.kept_in(video_id), (0, OPEN_END))
    detector = faces.load(probed) if faces else None
    stills = analysed_stills(
        opener(uri),
        probed,
        sorted({time_s for of_tracklet in moments.values() for time_s in of_tracklet.times_s}),
        fps=config.observe.fps,
        cell_seconds=config.chunk.cell_seconds,
    )
    parts: dict[tuple[int, float], tuple[Picture, Picture]] = {}
    for time_s, picture in stills:
        time_ns = round(time_s * NS)
        shown = picture.copy()
        canvas = Canvas.of_picture(shown)
        cover(canvas, painting.places(people, NO_BOXES, time_ns).tolist(), Style.PIXELATE)
        cover(canvas, _faces(detector, picture).tolist(), Style.FILL)
        for number, of_tracklet in moments.items():
            if time_s in of_tracklet.times_s:
                box = of_tracklet.boxes[of_tracklet.times_s.index(time_s)]
                marked = shown.copy()
                outline(Canvas.of_picture(marked), box[None], colour_of(number))
                crop = fitted_into(cut_out(shown, widened(box, MARGIN)), *CROP_PX)
                parts[number, time_s] = fitted_into(marked, *FRAME_PX), crop
    for pair in pairs:
        yield pair, encode_png(_page(pair, [moments[number] for number in pair.tracklets], parts))


def _moments(detections: pa.Table, number: int) -> _Moments:
    """Return the first, a middle and the last detection of a tracklet."""
    rows = np.flatnonzero(integers(detections, "tracklet_id") == number)
    chosen = detections.take(rows[np.unique(np.linspace(0, len(rows) - 1, NUM_MOMENTS).round().astype(np.int64))])
    return _Moments(np.round(reals(chosen, "time_s"), 6).tolist(), boxes_of(chosen))


def _faces(detector: FaceDetector | None, picture: Picture) -> NDArray[np.float64]:
    """Return the heads around the faces that a detector finds in a frame, (N, 4) xyxy px."""
    boxes = np.zeros((0, 4)) if detector is None else detector([picture])[0].boxes.astype(np.float64)
    return grown(boxes.reshape(-1, 4), FACE_TO_HEAD)


def _page(
    pair: PairOfTracklets, both: Sequence[_Moments], parts: dict[tuple[int, float], tuple[Picture, Picture]]
) -> Picture:
    """Return the picture of a pair: its reason, two frames, and crops of both tracklets."""
    blank = np.zeros((*FRAME_PX[::-1], 3), np.uint8), np.zeros((*CROP_PX[::-1], 3), np.uint8)
    columns = []
    for side, (number, of_tracklet) in enumerate(zip(pair.tracklets, both, strict=True)):
        nearest_s = of_tracklet.times_s[0 if side else -1]
        frame, _ = parts.get((number, nearest_s), blank)
        title = f"tracklet {number}, person {pair.persons[side]}, at {nearest_s:.2f} s"
        crops = sheet([parts.get((number, time_s), blank)[1] for time_s in of_tracklet.times_s], NUM_MOMENTS)
        columns.append(
            np.concatenate([caption(title, FRAME_PX[0]), frame, fitted_into(crops, FRAME_PX[0], CROP_PX[1])])
        )
    body = sheet(columns, 2)
    return np.concatenate([caption(str(pair), body.shape[1]), body])
