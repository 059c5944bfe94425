"""Stage estimate: estimate age and gender of the judged faces and of the bodies of a chunk, and embed the faces."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import rows
from pipeline.arrays import Estimates, Picture, Quantised
from pipeline.chunk.aligned import blocks, decode_pictures
from pipeline.columns import extend_each, integers, items_of, reals_or_null, vectors_or_null, with_columns
from pipeline.config import Config, fixed
from pipeline.cores.age_dist import GROUPS
from pipeline.interfaces import AttributeEstimator, FaceAndBodyEstimator, FaceEmbedder
from pipeline.weights import Registry

NEEDS = rows.join(rows.FACES, rows.ALIGNED_FACES, rows.BODIES)
ADDS = rows.join(rows.FACES, rows.BODIES)


def build(config: Config, registry: Registry) -> "Estimate":
    """Return the core of the stage with its models."""
    from pipeline.models.loading import Loader

    load = Loader(config, registry, fixed(config.run.face_spans))
    return load.together(Estimate(config, load.estimator(), load.face_embedder()))


@dataclass(slots=True)
class _Estimated:
    """The estimates of N faces or bodies. nan where there is none.

    values: (3, N) float64. Ages and their standard errors in steps of 0.1 year, probabilities in steps of 0.001.
    dists: (N, 12) float32.
    leans: (N,) float64, in steps of 0.01.
    """

    count: int
    values: NDArray[np.float64] = field(init=False)
    dists: NDArray[np.float32] = field(init=False)
    leans: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        self.values = np.full((3, self.count), np.nan, np.float64)
        self.dists = np.full((self.count, GROUPS), np.nan, np.float32)
        self.leans = np.full(self.count, np.nan)

    def put(self, places: NDArray[np.int64], estimates: Estimates) -> None:
        parts = (estimates.ages, 1), (estimates.age_stds, 1), (estimates.female_probs, 3)
        for row, (values, digits) in zip(self.values, parts, strict=True):
            row[places] = np.round(values.astype(np.float64), digits)
        if estimates.age_dists is not None:
            self.dists[places] = estimates.age_dists
        if estimates.age_leans is not None:
            self.leans[places] = np.round(estimates.age_leans.astype(np.float64), 2)

    def columns(self) -> dict[str, pa.Array]:
        names = ("age", "age_std", "female_prob")
        return {name: reals_or_null(row, pa.float32()) for name, row in zip(names, self.values, strict=True)}


class Estimate:
    """Fills age, age_std, age_lean, female_prob, age_dist and embedding of the judged faces.

    They stay null for all others.

    Where estimate.uses asks for bodies, a face is judged together with its body, and a body without a judged face
    alone.
    """

    def __init__(
        self,
        config: Config,
        estimator: AttributeEstimator | FaceAndBodyEstimator | None,
        face_embedder: FaceEmbedder | None,
    ) -> None:
        self._config = config
        self._estimator: Any = estimator
        self._embedder = face_embedder

    def __call__(self, chunks: pa.Table) -> pa.Table:
        return extend_each(chunks, self._estimate, ADDS)

    def _estimate(self, chunk: pa.Table) -> dict[str, pa.Array]:
        faces, aligned, bodies = (items_of(chunk, name) for name in ("faces", "aligned", "bodies"))
        face_by_picture = integers(aligned, "face")
        _, originals = np.unique(face_by_picture, return_index=True)  # the first picture of each face
        judged, from_end = np.unique(face_by_picture[::-1], return_index=True)
        clearest = len(face_by_picture) - 1 - from_end  # the restored picture, if there is one

        of_faces, of_bodies = _Estimated(len(faces)), _Estimated(len(bodies))
        if self._estimator is not None and self._config.estimate.uses == "faces":
            for block in blocks(len(judged), self._config.estimate.batch):
                of_faces.put(judged[block], self._estimator(np.stack(decode_pictures(aligned, clearest[block]))))
        elif self._estimator is not None:
            self._judge_with_bodies(faces, aligned, bodies, judged, clearest, of_faces, of_bodies)

        vectors: list[dict[str, bytes | float] | None] = [None] * len(faces)
        if self._embedder is not None:
            for block in blocks(len(judged), self._config.estimate.batch):
                quantised = Quantised.of(self._embedder(np.stack(decode_pictures(aligned, originals[block]))))
                for face, codes, scale in zip(judged[block], quantised.codes, quantised.scales.tolist(), strict=True):
                    vectors[face] = {"codes": codes.tobytes(), "scale": scale}
        columns = of_faces.columns() | {
            "age_lean": reals_or_null(of_faces.leans, pa.float32()),
            "age_dist": vectors_or_null(of_faces.dists, rows.AGE_DIST),
            "embedding": pa.array(vectors, rows.VECTOR),
        }
        return {"faces": with_columns(faces, **columns), "bodies": with_columns(bodies, **of_bodies.columns())}

    def _judge_with_bodies(
        self,
        faces: pa.StructArray,
        aligned: pa.StructArray,
        bodies: pa.StructArray,
        judged: NDArray[np.int64],
        clearest: NDArray[np.int64],
        of_faces: _Estimated,
        of_bodies: _Estimated,
    ) -> None:
        """Judge the faces with their bodies, and the bodies without a judged face; with estimate.uses=bodies, all
        bodies and no face."""
        estimator = cast(FaceAndBodyEstimator, self._estimator)
        has_picture = bodies.field("picture").is_valid().to_numpy(zero_copy_only=False)
        body_by_detection = {
            detection: place
            for place, detection in enumerate(integers(bodies, "detection").tolist())
            if has_picture[place]
        }
        batch = self._config.estimate.batch
        with_face: set[int] = set()
        if self._config.estimate.uses == "both":
            owners = integers(faces, "detection", null=-1)[judged]
            with_face = set(owners.tolist())
            for block in blocks(len(judged), batch):
                shown = [body_by_detection.get(owner) for owner in owners[block].tolist()]
                pictures = [None if place is None else _body(bodies, place) for place in shown]
                of_faces.put(judged[block], estimator.judge(decode_pictures(aligned, clearest[block]), pictures))
        alone = np.array([place for owner, place in body_by_detection.items() if owner not in with_face], np.int64)
        for block in blocks(len(alone), batch):
            nothing: Sequence[Picture | None] = [None] * len(block)
            of_bodies.put(alone[block], estimator.judge(nothing, decode_pictures(bodies, alone[block])))


def _body(bodies: pa.StructArray, place: int) -> Picture:
    return decode_pictures(bodies, np.array([place]))[0]
