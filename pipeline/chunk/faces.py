"""The faces of a chunk. They are found on the candidates' crops, restored if the configuration asks for it, and judged
by age and gender.

The module has three cores, without Ray. Each one takes rows of the columns that it NEEDS and returns those that it
ADDS, row for row. One row is one chunk. The values of a face depend on its frame alone, never on where a chunk
begins. Pictures are RGB.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import rows
from pipeline.arrays import Estimates, Faces, Picture, Quantised
from pipeline.config import Config
from pipeline.cores import gate
from pipeline.media.faces import align_face, face_detail, face_sharpness, resize_face
from pipeline.media.pictures import decode_jpeg, encode_jpeg

FIND_FACES_NEEDS = rows.join(rows.FRAMES, rows.DETECTIONS, rows.CANDIDATES)
FIND_FACES_ADDS = rows.join(rows.FACES, rows.ALIGNED_FACES)
FIND_FACES_DROPS = rows.CANDIDATES
RESTORE_FACES_NEEDS = rows.join(rows.FRAMES, rows.FACES, rows.ALIGNED_FACES)
RESTORE_FACES_ADDS = rows.join(rows.FACES, rows.ALIGNED_FACES)
RESTORE_FACES_DROPS = pa.schema([])
ESTIMATE_NEEDS = rows.join(rows.FACES, rows.ALIGNED_FACES)
ESTIMATE_ADDS = rows.FACES
ESTIMATE_DROPS = pa.schema([])

ALIGNED_PX, RESTORED_PX = 224, 512
JPEG_QUALITY = 95


class FaceDetector(Protocol):
    def __call__(self, crops: Sequence[Picture]) -> list[Faces]: ...


class Estimator(Protocol):
    def __call__(self, faces: NDArray[np.uint8]) -> Estimates: ...


FaceRestorer = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
"""(N, 512, 512, 3) aligned faces -> the same shape."""
FaceEmbedder = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""(N, S, S, 3) aligned faces -> (N, D) vectors of length one."""


@dataclass(frozen=True, slots=True)
class _Found:
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

    def __getitem__(self, index: NDArray[np.int64]) -> "_Found":
        return _Found(*(getattr(self, name)[index] for name in _Found.__slots__))


@dataclass(frozen=True, slots=True)
class _Crops:
    """The K candidates of one chunk. A point p of the displayed picture is at (p - corner) * scale in the crop's
    pixels.

    jpegs: (K,) encoded crops.
    detections: (K,) int64. Index of the person that each crop shows.
    corners: (K, 2) float64, px of the displayed picture.
    scales: (K,) float64.
    """

    jpegs: pa.LargeBinaryArray
    detections: NDArray[np.int64]
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

    def __init__(self, config: Config, detector: FaceDetector) -> None:
        self._config = config
        self._detector = detector

    def __call__(self, chunks: pa.Table) -> pa.Table:
        return _each(chunks, self._find, FIND_FACES_ADDS)

    def _find(self, chunk: pa.Table) -> dict[str, pa.Array]:
        detections, frames = _items(chunk, "detections"), _items(chunk, "frames")
        crops = _crops(_items(chunk, "candidates"))
        frame_by_detection = _integers(detections, "frame")
        people, person_scores = _vectors(detections, "box", 4), _reals(detections, "score")

        found, seen = self._look(crops)
        shown = crops.detections[found.crops]
        frame_by_face = frame_by_detection[shown]
        order = np.lexsort([shown, *found.boxes.T[::-1], frame_by_face])
        found, seen, frame_by_face = found[order], seen[order], frame_by_face[order]

        insides = gate.inside_shares(found.boxes, seen)
        kept, owners, hidden = [], [], []
        for in_frame in _groups(frame_by_face):
            # If one face is on two crops, a whole face on one crop is better than a slightly higher score on the other.
            ranks = insides[in_frame] + found.scores[in_frame].astype(np.float64)
            faces = in_frame[gate.distinct(found.boxes[in_frame], ranks)]
            present = np.flatnonzero(frame_by_detection == frame_by_face[faces[0]])
            owner = gate.assign(people[present], person_scores[present], found.boxes[faces], found.scores[faces])
            kept.append(faces)
            hidden.append(gate.hidden_shares(found.boxes[faces], owner, people[present], person_scores[present]))
            owners.append(np.where(owner == gate.NO_ONE, gate.NO_ONE, present[owner]))
        order = np.concatenate([*kept, np.zeros(0, np.int64)])
        found, frame_by_face = found[order], frame_by_face[order]
        owner_by_face = np.concatenate([*owners, np.zeros(0, np.int64)])

        pose = gate.read_pose(found.boxes, found.landmarks)
        why_not = gate.judge(
            owner_by_face,
            found.scores,
            found.sharpness,
            found.details,
            pose,
            insides[order],
            np.concatenate([*hidden, np.zeros(0)]),
            self._config.gate,
        )
        is_judged = why_not == gate.JUDGED
        cells = _integers(frames, "cell")[frame_by_face]
        restored = is_judged & _wants_restoration(self._config, cells, pose.eye_distances_px, found.sharpness)
        faces = {
            "detection": pa.array(owner_by_face, pa.int32(), mask=owner_by_face == gate.NO_ONE),
            "frame": pa.array(frame_by_face, pa.int32()),
            "box": _vector_column(found.boxes),
            "landmarks": _vector_column(found.landmarks.reshape(-1, 10)),
            "score": pa.array(found.scores, pa.float32()),
            "sharpness": pa.array(found.sharpness, pa.float32()),
            "quality": pa.array(gate.weigh(found.scores, found.sharpness, pose), pa.float32()),
            "judged": pa.array(is_judged),
            "why_not": pa.array(why_not, pa.string(), mask=is_judged),
            "restored": pa.array(np.zeros(len(order), bool)),
        }
        return {
            "faces": _records(faces, rows.FACE, len(order)),
            "aligned": _align(found, crops, is_judged, np.where(restored, RESTORED_PX, ALIGNED_PX)),
        }

    def _look(self, crops: _Crops) -> tuple[_Found, NDArray[np.float32]]:
        """Return every face on every crop, even the same face twice, and the area of each face's crop as (N, 4)
        boxes."""
        found, seen = [], []
        for indices in _blocks(len(crops), self._config.faces.batch):
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
                found.append(_Found(np.full(count, index), boxes, landmarks, scores, *clear))
                whole = np.array([[0, 0], picture.shape[1::-1]], np.float32)
                seen.append(np.tile(crops.outward(index, whole).reshape(1, 4), (count, 1)))
        if not found:
            nothing = np.zeros((0, 4), np.float32)
            points, numbers = np.zeros((0, 5, 2), np.float32), np.zeros(0, np.float32)
            return _Found(np.zeros(0, np.int64), nothing, points, numbers, np.zeros(0), np.zeros(0)), nothing
        columns = [np.concatenate([getattr(part, name) for part in found]) for name in _Found.__slots__]
        return _Found(*columns), np.concatenate(seen)


class RestoreFaces:
    """Adds a restored picture after the picture of every judged face that the configuration wants restored.

    `aligned` then holds two pictures of that face. The first is the original, which alone serves identity. The
    second is the restored one.
    """

    def __init__(self, config: Config, restorer: FaceRestorer | None) -> None:
        if config.restore.mode != "off" and restorer is None:
            raise ValueError(f"restore.mode {config.restore.mode} must have a restorer, got None")
        self._config = config
        self._restorer = restorer

    def __call__(self, chunks: pa.Table) -> pa.Table:
        return _each(chunks, self._restore, RESTORE_FACES_ADDS)

    def _restore(self, chunk: pa.Table) -> dict[str, pa.Array]:
        faces, aligned, frames = _items(chunk, "faces"), _items(chunk, "aligned"), _items(chunk, "frames")
        pose = gate.read_pose(_vectors(faces, "box", 4), _vectors(faces, "landmarks", 10).reshape(-1, 5, 2))
        cells = _integers(frames, "cell")[_integers(faces, "frame")]
        sharpness = _reals(faces, "sharpness")
        wanted = _wants_restoration(self._config, cells, pose.eye_distances_px, sharpness)
        restored = _flags(faces, "judged") & wanted
        if self._restorer is None or not restored.any():
            return {"faces": faces, "aligned": aligned}

        face_by_picture = _integers(aligned, "face")
        plain = np.flatnonzero(~restored[face_by_picture])
        soft = np.flatnonzero(restored[face_by_picture])
        owners, jpegs = [face_by_picture[plain]], [aligned.field("picture").take(pa.array(plain)).to_pylist()]
        for block in _blocks(len(soft), self._config.restore.batch):
            indices = soft[block]
            before = _pictures(aligned, indices)
            pairs = zip(before, self._restorer(np.stack(before)), strict=True)
            pictures = [resize_face(picture, ALIGNED_PX) for pair in pairs for picture in pair]
            owners.append(np.repeat(face_by_picture[indices], 2))
            jpegs.append([encode_jpeg(picture, JPEG_QUALITY) for picture in pictures])
        return {
            "faces": _with_columns(faces, restored=pa.array(restored)),
            "aligned": _aligned_records(np.concatenate(owners), [jpeg for block in jpegs for jpeg in block]),
        }


class Estimate:
    """Fills age, age_std, female_prob and embedding of the judged faces. The values of all other faces stay null."""

    def __init__(self, config: Config, estimator: Estimator | None, face_embedder: FaceEmbedder | None) -> None:
        self._config = config
        self._estimator = estimator
        self._embedder = face_embedder

    def __call__(self, chunks: pa.Table) -> pa.Table:
        return _each(chunks, self._estimate, ESTIMATE_ADDS)

    def _estimate(self, chunk: pa.Table) -> dict[str, pa.Array]:
        faces, aligned = _items(chunk, "faces"), _items(chunk, "aligned")
        face_by_picture = _integers(aligned, "face")
        _, seen = np.unique(face_by_picture, return_index=True)
        judged, from_end = np.unique(face_by_picture[::-1], return_index=True)
        clearest = len(face_by_picture) - 1 - from_end  # the restored picture, if there is one

        ages, stds, probs = np.full((3, len(faces)), np.nan, np.float64)
        if self._estimator is not None:
            for block in _blocks(len(judged), self._config.estimate.batch):
                estimates = self._estimator(np.stack(_pictures(aligned, clearest[block])))
                ages[judged[block]] = np.round(estimates.ages.astype(np.float64), 1)
                stds[judged[block]] = np.round(estimates.age_stds.astype(np.float64), 1)
                probs[judged[block]] = np.round(estimates.female_probs.astype(np.float64), 3)

        vectors: list[dict[str, bytes | float] | None] = [None] * len(faces)
        if self._embedder is not None:
            for block in _blocks(len(judged), self._config.estimate.batch):
                quantised = Quantised.of(self._embedder(np.stack(_pictures(aligned, seen[block]))))
                for face, codes, scale in zip(judged[block], quantised.codes, quantised.scales.tolist(), strict=True):
                    vectors[face] = {"codes": codes.tobytes(), "scale": scale}
        columns = {
            "age": pa.array(ages, pa.float32(), mask=np.isnan(ages)),
            "age_std": pa.array(stds, pa.float32(), mask=np.isnan(stds)),
            "female_prob": pa.array(probs, pa.float32(), mask=np.isnan(probs)),
            "embedding": pa.array(vectors, rows.VECTOR),
        }
        return {"faces": _with_columns(faces, **columns)}


def _wants_restoration(
    config: Config, cells: NDArray[np.int64], eye_distances_px: NDArray[np.float64], sharpness: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Return which of N judged faces are restored, as (N,) bool."""
    restore = config.restore
    if restore.mode == "off":
        return np.zeros(len(cells), bool)
    is_poor = (eye_distances_px < restore.below_eye_distance_px) | (np.round(sharpness, 1) < restore.below_sharpness)
    return (cells % restore.every_cells == 0) & (is_poor | (restore.mode == "always"))


def _align(found: _Found, crops: _Crops, is_judged: NDArray[np.bool_], sizes_px: NDArray[np.int64]) -> pa.StructArray:
    """Return aligned pictures of the judged faces, each cut from the crop on which the face was found."""
    judged = np.flatnonzero(is_judged)
    jpegs: list[bytes] = [b""] * len(judged)
    # The loop goes crop by crop, so that each crop is decoded once and only one is in memory at a time.
    for places in _groups(found.crops[judged]):
        crop = int(found.crops[judged[places[0]]])
        picture = crops.picture(crop)
        for place in places:
            face = judged[place]
            aligned = align_face(picture, crops.inward(crop, found.landmarks[face]), int(sizes_px[face]))
            jpegs[place] = encode_jpeg(aligned, JPEG_QUALITY)
    return _aligned_records(judged, jpegs)


# --- reading and writing columns --------------------------------------------------------------------------------------


def _each(chunks: pa.Table, core: Callable[[pa.Table], dict[str, pa.Array]], adds: pa.Schema) -> pa.Table:
    """Apply `core`, which returns the items of each added column for one chunk, to every row."""
    columns: dict[str, list[pa.Array]] = {name: [] for name in adds.names}
    for index in range(chunks.num_rows):
        for name, items in core(chunks.slice(index, 1)).items():
            columns[name].append(pa.ListArray.from_arrays(pa.array([0, len(items)], pa.int32()), items))
    return pa.table([pa.chunked_array(columns[field.name], field.type) for field in adds], schema=adds)


def _items(chunk: pa.Table, name: str) -> pa.StructArray:
    """Return the items of a list column in a table of one row."""
    return chunk[name].combine_chunks().flatten()


def _crops(candidates: pa.StructArray) -> _Crops:
    corners = np.stack([_reals(candidates, axis) for axis in "xy"], axis=1)
    detections, scales = _integers(candidates, "detection"), _reals(candidates, "scale")
    return _Crops(candidates.field("crop"), detections, corners, scales)


def _integers(items: pa.StructArray, name: str) -> NDArray[np.int64]:
    return items.field(name).to_numpy(zero_copy_only=False).astype(np.int64)


def _reals(items: pa.StructArray, name: str) -> NDArray[np.float64]:
    return items.field(name).to_numpy(zero_copy_only=False).astype(np.float64)


def _flags(items: pa.StructArray, name: str) -> NDArray[np.bool_]:
    return items.field(name).to_numpy(zero_copy_only=False).astype(bool)


def _vectors(items: pa.StructArray, name: str, size: int) -> NDArray[np.float32]:
    return items.field(name).flatten().to_numpy(zero_copy_only=False).reshape(-1, size)


def _vector_column(vectors: NDArray[np.float32]) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel(), pa.float32()), vectors.shape[1])


def _records(columns: dict[str, pa.Array], kind: pa.StructType, num_items: int) -> pa.StructArray:
    """Return items of `kind` from columns. Fields without a column are null."""
    fields = [kind.field(index) for index in range(kind.num_fields)]
    arrays = [columns.get(field.name, pa.nulls(num_items, field.type)) for field in fields]
    return pa.StructArray.from_arrays(arrays, fields=fields)


def _with_columns(items: pa.StructArray, **columns: pa.Array) -> pa.StructArray:
    fields = [items.type.field(index) for index in range(items.type.num_fields)]
    arrays = [columns.get(field.name, items.field(field.name)) for field in fields]
    return pa.StructArray.from_arrays(arrays, fields=fields)


def _aligned_records(faces: NDArray[np.int64], jpegs: list[bytes]) -> pa.StructArray:
    """Return the pictures in the order of their faces. Pictures of one face keep the given order."""
    order = np.argsort(faces, kind="stable")
    pictures = pa.array([jpegs[index] for index in order], pa.large_binary())
    return _records({"face": pa.array(faces[order], pa.int32()), "picture": pictures}, rows.ALIGNED, len(order))


def _pictures(aligned: pa.StructArray, indices: NDArray[np.int64]) -> list[Picture]:
    return [decode_jpeg(jpeg) for jpeg in aligned.field("picture").take(pa.array(indices)).to_pylist()]


def _blocks(count: int, size: int) -> Iterator[NDArray[np.int64]]:
    """Yield the positions 0 … count in blocks of `size`. A model takes one block at a time, so that few pictures are
    in memory."""
    return (np.arange(start, min(start + size, count)) for start in range(0, count, size))


def _groups(keys: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Yield the positions of equal `keys`, in ascending order of the key. The positions ascend too."""
    order = np.argsort(keys, kind="stable")
    borders = np.flatnonzero(np.diff(keys[order], prepend=-1, append=-1)) if len(keys) else []
    return (order[start:end] for start, end in pairwise(borders))
