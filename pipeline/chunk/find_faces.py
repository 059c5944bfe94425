"""Stage find_faces: find the faces on the candidates of a chunk, assign each to a person, and cut the judged ones out.

The values of a face depend on its frame alone, never on where a chunk begins.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import rows
from pipeline.arrays import Picture
from pipeline.chunk.aligned import ALIGNED_PX, JPEG_QUALITY, RESTORED_PX, aligned_items, blocks
from pipeline.chunk.bodies import FrameFaces, cut_bodies, no_bodies
from pipeline.chunk.restore_faces import faces_to_restore
from pipeline.columns import extend_each, integers, items_of, reals, structs, vector_column, vectors
from pipeline.config import Config, fixed
from pipeline.cores import gate
from pipeline.interfaces import FaceDetector
from pipeline.media.faces import align_face, face_detail, face_sharpness
from pipeline.media.pictures import decode_jpeg, encode_jpeg
from pipeline.weights import Registry

NEEDS = rows.join(rows.FRAMES, rows.DETECTIONS, rows.CANDIDATES)
ADDS = rows.join(rows.FACES, rows.ALIGNED_FACES, rows.BODIES)
DROPS = tuple(rows.CANDIDATES.names)


def build(config: Config, registry: Registry, threads: int = 0) -> "FindFaces":
    """Return the core of the stage with its models.

    threads: number of threads that may run models at the same time on a CPU. 0: none but the caller's.
    """
    from pipeline.models.loading import Loader

    load = Loader(config, registry, fixed(config.run.face_spans), threads)
    at_once = fixed(config.faces.batch) * (load.threads.number if load.threads else 1)
    return load.together(FindFaces(config, load.face_detector(), at_once))


@dataclass(frozen=True, slots=True)
class _FacesOnCrops:
    """N faces on the crops of one chunk, in px of the displayed picture.

    crops: (N,) int64. Index of the candidate on which each face was found.
    boxes: (N, 4) float32, as in arrays.Faces.
    landmarks: (N, 5, 2) float32, as in arrays.Faces.
    scores: (N,) float32, as in arrays.Faces.
    sharpness: (N,) float64, from media.faces.
    details: (N,) float64, from media.faces.
    """

    crops: NDArray[np.int64]
    boxes: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    scores: NDArray[np.float32]
    sharpness: NDArray[np.float64]
    details: NDArray[np.float64]

    def __getitem__(self, index: NDArray[np.int64]) -> "_FacesOnCrops":
        return _FacesOnCrops(*(getattr(self, name)[index] for name in _FacesOnCrops.__slots__))


@dataclass(frozen=True, slots=True)
class _Crops:
    """The K candidates of one chunk. A point p of the displayed picture is at (p - corner) * scale in the crop's
    pixels.

    jpegs: (K,) encoded crops.
    detections: (K,) int64. Index of the person that each crop shows.
    chains: (K,) int64. Equal for the crops of one person in a cell. The index of the person's first detection there.
    corners: (K, 2) float64, px of the displayed picture.
    scales: (K,) float64.
    """

    jpegs: pa.LargeBinaryArray
    detections: NDArray[np.int64]
    chains: NDArray[np.int64]
    corners: NDArray[np.float64]
    scales: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.detections)

    def picture(self, index: int) -> Picture:
        return decode_jpeg(self.jpegs[index].as_py())

    def inward(self, index: int, points: NDArray[np.float32]) -> NDArray[np.float64]:
        return (points - self.corners[index]) * self.scales[index]

    def outward(self, index: int, points: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.round(points / self.scales[index] + self.corners[index], 1).astype(np.float32)


class FindFaces:
    """Finds the faces on the crops, assigns each to the person whose head it is, and decides which may be judged."""

    def __init__(self, config: Config, detector: FaceDetector, at_once: int | None = None) -> None:
        """at_once: number of crops that the detector gets in a call. None: a batch."""
        self._config = config
        self._detector = detector
        self._at_once = at_once or fixed(config.faces.batch)

    def __call__(self, chunks: pa.Table) -> pa.Table:
        return extend_each(chunks, self._find, ADDS)

    def _find(self, chunk: pa.Table) -> dict[str, pa.Array]:
        detections, frames = items_of(chunk, "detections"), items_of(chunk, "frames")
        candidates = items_of(chunk, "candidates")
        crops = _crops(candidates)
        frame_by_detection = integers(detections, "frame")
        people, person_scores = vectors(detections, "box", 4), reals(detections, "score")

        faces, areas = self._find_on_crops(crops)
        shown = crops.detections[faces.crops]
        frame_by_face = frame_by_detection[shown]
        order = np.lexsort([shown, *faces.boxes.T[::-1], frame_by_face])
        faces, areas, frame_by_face = faces[order], areas[order], frame_by_face[order]

        insides = gate.inside_shares(faces.boxes, areas)
        kept, owners, hidden = [], [], []
        for in_frame in _groups(frame_by_face):
            # If one face is on two crops, a whole face on one crop is better than a slightly higher score on the other.
            ranks = insides[in_frame] + faces.scores[in_frame].astype(np.float64)
            distinct = in_frame[gate.distinct(faces.boxes[in_frame], ranks)]
            present = np.flatnonzero(frame_by_detection == frame_by_face[distinct[0]])
            owner = gate.assign(people[present], person_scores[present], faces.boxes[distinct], faces.scores[distinct])
            kept.append(distinct)
            hidden.append(gate.hidden_shares(faces.boxes[distinct], owner, people[present], person_scores[present]))
            owners.append(np.where(owner == gate.NO_ONE, gate.NO_ONE, present[owner]))
        order = np.concatenate([*kept, np.zeros(0, np.int64)])
        faces, frame_by_face = faces[order], frame_by_face[order]
        owner_by_face = np.concatenate([*owners, np.zeros(0, np.int64)])

        pose = gate.read_pose(faces.boxes, faces.landmarks)
        why_not = gate.judge(
            owner_by_face,
            faces.scores,
            faces.sharpness,
            faces.details,
            pose,
            insides[order],
            np.concatenate([*hidden, np.zeros(0)]),
            self._config.gate,
        )
        is_judged = why_not == gate.JUDGED
        cells = integers(frames, "cell")[frame_by_face]
        qualities = gate.weigh(faces.scores, faces.sharpness, pose)
        chains = np.arange(len(people) + 1)  # the last one is NO_ONE's
        chains[crops.detections] = crops.chains
        restored = faces_to_restore(
            self._config.restore,
            is_judged,
            cells,
            chains[owner_by_face],
            faces.boxes,
            qualities,
            pose.eye_distances_px,
            faces.sharpness,
        )
        columns = {
            "detection": pa.array(owner_by_face, pa.int32(), mask=owner_by_face == gate.NO_ONE),
            "frame": pa.array(frame_by_face, pa.int32()),
            "box": vector_column(faces.boxes),
            "landmarks": vector_column(faces.landmarks.reshape(-1, 10)),
            "score": pa.array(faces.scores, pa.float32()),
            "sharpness": pa.array(faces.sharpness, pa.float32()),
            "quality": pa.array(qualities, pa.float32()),
            "judged": pa.array(is_judged),
            "why_not": pa.array(why_not, pa.string(), mask=is_judged),
            "restored": pa.array(restored),
        }
        bodies = no_bodies()
        if self._config.estimate.uses != "faces":
            all_faces = FrameFaces(frame_by_face, faces.boxes)
            bodies = cut_bodies(candidates, detections, all_faces, self._config.candidates.min_score)
        return {
            "faces": structs(rows.FACE, columns, len(order)),
            "aligned": _align(faces, crops, is_judged, np.where(restored, RESTORED_PX, ALIGNED_PX)),
            "bodies": bodies,
        }

    def _find_on_crops(self, crops: _Crops) -> tuple[_FacesOnCrops, NDArray[np.float32]]:
        """Return every face on every crop, even the same face twice, and the area of each face's crop as (N, 4)
        boxes."""
        parts, areas = [], []
        for indices in blocks(len(crops), self._at_once):
            pictures = [crops.picture(index) for index in indices]
            for index, picture, faces in zip(indices, pictures, self._detector(pictures), strict=True):
                count = len(faces)
                landmarks = crops.outward(index, faces.landmarks)
                inward = [crops.inward(index, points) for points in landmarks]
                clear = [
                    np.array([measure(picture, points) for points in inward], np.float64)
                    for measure in (face_sharpness, face_detail)
                ]
                boxes = crops.outward(index, faces.boxes.reshape(-1, 2, 2)).reshape(-1, 4)
                scores = np.round(faces.scores, 3)
                parts.append(_FacesOnCrops(np.full(count, index), boxes, landmarks, scores, *clear))
                whole = np.array([[0, 0], picture.shape[1::-1]], np.float32)
                areas.append(np.tile(crops.outward(index, whole).reshape(1, 4), (count, 1)))
        if not parts:
            no_boxes = np.zeros((0, 4), np.float32)
            points, numbers = np.zeros((0, 5, 2), np.float32), np.zeros(0, np.float32)
            return _FacesOnCrops(np.zeros(0, np.int64), no_boxes, points, numbers, np.zeros(0), np.zeros(0)), no_boxes
        columns = [np.concatenate([getattr(part, name) for part in parts]) for name in _FacesOnCrops.__slots__]
        return _FacesOnCrops(*columns), np.concatenate(areas)


def _align(
    faces: _FacesOnCrops, crops: _Crops, is_judged: NDArray[np.bool_], sizes_px: NDArray[np.int64]
) -> pa.StructArray:
    """Return aligned pictures of the judged faces, each cut from the crop on which the face was found."""
    judged = np.flatnonzero(is_judged)
    jpegs: list[bytes] = [b""] * len(judged)
    # The loop takes one crop after the other, so that each crop is decoded once and only one is in memory at a time.
    for places in _groups(faces.crops[judged]):
        crop = int(faces.crops[judged[places[0]]])
        picture = crops.picture(crop)
        for place in places:
            face = judged[place]
            size_px = int(sizes_px[face])
            landmarks = crops.inward(crop, faces.landmarks[face])
            aligned = align_face(picture, landmarks, size_px, bicubic=size_px != RESTORED_PX)
            jpegs[place] = encode_jpeg(aligned, JPEG_QUALITY)
    return aligned_items(judged, jpegs)


def _crops(candidates: pa.StructArray) -> _Crops:
    corners = np.stack([reals(candidates, axis) for axis in "xy"], axis=1)
    detections, chains = integers(candidates, "detection"), integers(candidates, "chain")
    return _Crops(candidates.field("crop"), detections, chains, corners, reals(candidates, "scale"))


def _groups(keys: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Yield the positions of equal `keys`, in ascending order of the key. The positions ascend too."""
    order = np.argsort(keys, kind="stable")
    borders = np.flatnonzero(np.diff(keys[order], prepend=-1, append=-1)) if len(keys) else []
    return (order[start:end] for start, end in pairwise(borders))
