"""Stage estimate: estimate age and gender of the judged faces of a chunk, and embed them."""

import numpy as np
import pyarrow as pa

from pipeline import rows
from pipeline.arrays import Quantised
from pipeline.chunk.aligned import blocks, decode_pictures
from pipeline.columns import extend_each, integers, items_of, vectors_or_null, with_columns
from pipeline.config import Config
from pipeline.cores.age_dist import GROUPS
from pipeline.interfaces import AttributeEstimator, FaceEmbedder
from pipeline.weights import Registry

NEEDS = rows.join(rows.FACES, rows.ALIGNED_FACES)
ADDS = rows.FACES


def build(config: Config, registry: Registry) -> "Estimate":
    """Return the core of the stage with its models."""
    from pipeline.models.loading import Loader

    load = Loader(config, registry)
    return Estimate(config, load.estimator(), load.face_embedder())


class Estimate:
    """Fills age, age_std, female_prob, age_dist and embedding of the judged faces. They stay null for all others."""

    def __init__(
        self, config: Config, estimator: AttributeEstimator | None, face_embedder: FaceEmbedder | None
    ) -> None:
        self._config = config
        self._estimator = estimator
        self._embedder = face_embedder

    def __call__(self, chunks: pa.Table) -> pa.Table:
        return extend_each(chunks, self._estimate, ADDS)

    def _estimate(self, chunk: pa.Table) -> dict[str, pa.Array]:
        faces, aligned = items_of(chunk, "faces"), items_of(chunk, "aligned")
        face_by_picture = integers(aligned, "face")
        _, originals = np.unique(face_by_picture, return_index=True)  # the first picture of each face
        judged, from_end = np.unique(face_by_picture[::-1], return_index=True)
        clearest = len(face_by_picture) - 1 - from_end  # the restored picture, if there is one

        ages, stds, probs = np.full((3, len(faces)), np.nan, np.float64)
        dists = np.full((len(faces), GROUPS), np.nan, np.float32)
        if self._estimator is not None:
            for block in blocks(len(judged), self._config.estimate.batch):
                estimates = self._estimator(np.stack(decode_pictures(aligned, clearest[block])))
                ages[judged[block]] = np.round(estimates.ages.astype(np.float64), 1)
                stds[judged[block]] = np.round(estimates.age_stds.astype(np.float64), 1)
                probs[judged[block]] = np.round(estimates.female_probs.astype(np.float64), 3)
                if estimates.age_dists is not None:
                    dists[judged[block]] = estimates.age_dists

        vectors: list[dict[str, bytes | float] | None] = [None] * len(faces)
        if self._embedder is not None:
            for block in blocks(len(judged), self._config.estimate.batch):
                quantised = Quantised.of(self._embedder(np.stack(decode_pictures(aligned, originals[block]))))
                for face, codes, scale in zip(judged[block], quantised.codes, quantised.scales.tolist(), strict=True):
                    vectors[face] = {"codes": codes.tobytes(), "scale": scale}
        columns = {
            "age": pa.array(ages, pa.float32(), mask=np.isnan(ages)),
            "age_std": pa.array(stds, pa.float32(), mask=np.isnan(stds)),
            "female_prob": pa.array(probs, pa.float32(), mask=np.isnan(probs)),
            "age_dist": vectors_or_null(dists, rows.AGE_DIST),
            "embedding": pa.array(vectors, rows.VECTOR),
        }
        return {"faces": with_columns(faces, **columns)}
