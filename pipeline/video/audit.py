"""Search anonymised copies for faces that are still there, and show the frames that have some on a sheet."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pipeline.arrays import Picture
from pipeline.cores.covering import centres, heads_of, not_inside
from pipeline.cores.plan import NS, OPEN_END
from pipeline.media.canvas import Canvas
from pipeline.media.decode import SpanDecoder
from pipeline.media.draw import encode_png, outline, sheet
from pipeline.media.pictures import decode_jpeg, encode_jpeg, fitted_into
from pipeline.media.probing import probe
from pipeline.storage.source_files import opener
from pipeline.storage.store import Store
from pipeline.video.anonymisation import FACES_FPS, FrameFaces, PeopleOverTime

FOLDER = "anonymised"
FACTS, SHEET = f"{FOLDER}/_audit.json", f"{FOLDER}/_audit.png"
THUMBNAIL = (320, 180)
COLUMNS, MOST_SHOWN = 4, 40
FOUND = (255, 0, 0)
JPEG_QUALITY = 80


@dataclass(frozen=True, slots=True)
class Finding:
    """A frame of a copy in which a detector finds faces.

    time_s: s.
    boxes: of the faces, xyxy px of the copy.
    scores: of the faces, 0..1.
    thumbnail: JPEG of the frame, with the faces marked.
    """

    time_s: float
    boxes: list[list[float]]
    scores: list[float]
    thumbnail: bytes


@dataclass(frozen=True, slots=True)
class CopyAudit:
    """What a detector still finds in a copy.

    name: of the copy in the output.
    num_frames: number of frames that were searched.
    findings: frames with faces, except those of persons who stay visible on purpose.
    """

    name: str
    num_frames: int
    findings: tuple[Finding, ...]


def audit_copy(store: Store, video_id: str, name: str, kept: frozenset[int], faces: FrameFaces) -> CopyAudit:
    """Search a copy for faces. kept: the persons who stay visible in it. Raises DataError."""
    open_copy = opener(store.full(name))
    probed = probe(open_copy)
    whole = (0, OPEN_END)
    people = PeopleOverTime.read(store, video_id, set(kept), whole)
    detector = faces.load(probed)
    decoder = SpanDecoder(
        open_copy, probed, *whole, fps=FACES_FPS, cell_seconds=1, thumbnail_px=16, threads=1, careful=True
    )
    num_frames, findings = 0, []
    for frame in decoder:
        if frame.picture is None:
            continue
        num_frames += 1
        detections = detector([frame.picture])[0]
        _, visible = people.at(frame.time_ns)
        boxes = detections.boxes.astype(np.float64)
        chosen = not_inside(centres(boxes), heads_of(visible))
        if chosen.any():
            findings.append(_finding(frame.picture, frame.time_ns, boxes[chosen], detections.scores[chosen]))
    return CopyAudit(name, num_frames, tuple(findings))


def _finding(picture: Picture, time_ns: int, boxes: NDArray[np.float64], scores: NDArray[np.float32]) -> Finding:
    marked = picture.copy()
    outline(Canvas.of_picture(marked), boxes, FOUND)
    thumbnail = encode_jpeg(fitted_into(marked, *THUMBNAIL), JPEG_QUALITY)
    rounded = np.round(scores.astype(np.float64), 3).tolist()
    return Finding(round(time_ns / NS, 6), np.round(boxes, 1).tolist(), rounded, thumbnail)


def write_audit(store: Store, audits: Sequence[CopyAudit], detector: str) -> None:
    """Write the findings as JSON, and the frames as one picture. Without findings there is no picture."""
    facts = {
        "detector": detector,
        "frames_per_second": float(Fraction(FACES_FPS)),
        "copies": [
            {
                "name": audit.name,
                "frames_searched": audit.num_frames,
                "frames_with_faces": len(audit.findings),
                "faces": [
                    {"time_s": finding.time_s, "box": box, "score": score}
                    for finding in audit.findings
                    for box, score in zip(finding.boxes, finding.scores, strict=True)
                ],
            }
            for audit in audits
        ],
    }
    store.put(FACTS, json.dumps(facts, indent=2).encode())
    thumbnails = [decode_jpeg(finding.thumbnail) for audit in audits for finding in audit.findings]
    if thumbnails:
        shown = thumbnails[:: -(-len(thumbnails) // MOST_SHOWN)]
        store.put(SHEET, encode_png(sheet(shown, min(COLUMNS, len(shown)))))
    else:
        store.delete(SHEET)
