"""Estimating the faces of a chunk."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from pipeline.arrays import Estimates
from pipeline.chunk import estimate, find_faces
from pipeline.chunk.estimate import Estimate
from pipeline.chunk.find_faces import FindFaces
from pipeline.config import Config, fixed
from pipeline.media.pictures import encode_jpeg
from tests.chunk.red_patches import FAR_AND_NEAR, Blue, Person, chunk, faces_of, load, restore
from tests.shared import SHARED, needs_shared


@dataclass
class Painter:
    """An estimator that judges the age by the blue channel. Faces are 20.04 years old as found and 60.06 when
    restored.

    calls: shape of the faces in each call so far.
    """

    calls: list[tuple[int, ...]] = field(default_factory=list)

    def __call__(self, faces: NDArray[np.uint8]) -> Estimates:
        self.calls.append(faces.shape)
        ages = np.where(faces[:, 112, 112, 2] > 200, 60.06, 20.04)
        return Estimates(
            ages.astype(np.float32), np.full(len(ages), 7.06, np.float32), np.full(len(ages), 0.70049, np.float32)
        )


def embed_red(faces: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return embeddings of two values, how red and how blue each face is."""
    colours = faces[:, 112, 112][:, [0, 2]].astype(np.float32)
    return colours / np.linalg.norm(colours, axis=1, keepdims=True)


def judged(config: Config, table: pa.Table, *, estimator: Any = None, embedder: Any = None) -> list[dict[str, Any]]:
    table = restore(table, config, Blue() if config.restore.mode != "off" else None)
    estimated = Estimate(config, estimator, embedder)(table)
    assert estimated.schema == estimate.ADDS
    return faces_of(estimated)


def test_judged_faces_get_an_estimate_in_steps_and_the_others_none() -> None:
    faces = judged(load(), chunk([(0, [Person(150), Person(480, face_px=16)])]), estimator=Painter())
    given = [(face["age"], face["age_std"], face["female_prob"]) for face in faces]
    assert given[0] == pytest.approx((20.0, 7.1, 0.7))
    assert given[1] == (None, None, None)


def test_a_face_has_the_distribution_of_its_estimator_or_none() -> None:
    def sure(faces: NDArray[np.uint8]) -> Estimates:
        estimates = Painter()(faces)
        dists = np.zeros((len(faces), 12), np.float32)
        dists[:, 2] = 1
        return Estimates(estimates.ages, estimates.age_stds, estimates.female_probs, dists)

    table = chunk([(0, [Person(150), Person(480, face_px=16)])])
    first, second = judged(load(), table, estimator=sure)
    assert first["age_dist"] == [0, 0, 1, *[0] * 9]
    assert second["age_dist"] is None
    assert judged(load(), table, estimator=Painter())[0]["age_dist"] is None


def test_a_face_has_the_lean_of_its_interval_or_none() -> None:
    def leaning(faces: NDArray[np.uint8]) -> Estimates:
        return replace(Painter()(faces), age_leans=np.full(len(faces), 0.257, np.float32))

    table = chunk([(0, [Person(150), Person(480, face_px=16)])])
    first, second = judged(load(), table, estimator=leaning)
    assert first["age_lean"] == pytest.approx(0.26)
    assert second["age_lean"] is None
    assert judged(load(), table, estimator=Painter())[0]["age_lean"] is None


def test_ages_come_from_restored_faces_and_identity_never_does() -> None:
    config = load(settings=["restore.mode=auto", "restore.every_cells=1", "restore.below_sharpness=0"])
    faces = judged(config, chunk(FAR_AND_NEAR), estimator=Painter(), embedder=embed_red)
    assert [face["restored"] for face in faces] == [True, False, True]
    assert [face["age"] for face in faces] == pytest.approx([60.1, 20.0, 60.1], abs=0.01)
    for face in faces:
        red, blue = np.frombuffer(face["embedding"]["codes"], np.int8)
        assert red == 127
        assert blue < 40
        assert face["embedding"]["scale"] > 0


def test_without_an_estimator_or_an_embedder_their_columns_stay_empty() -> None:
    table = chunk([(0, [Person(150)])])
    assert judged(load(), table, embedder=embed_red)[0]["age"] is None
    assert judged(load(), table, estimator=Painter())[0]["embedding"] is None


def test_an_estimator_that_says_nothing_of_a_face_leaves_it_empty() -> None:
    def silent(faces: NDArray[np.uint8]) -> Estimates:
        nothing = np.full(len(faces), np.nan, np.float32)
        return Estimates(nothing, nothing, nothing)

    face = judged(load(), chunk([(0, [Person(150)])]), estimator=silent)[0]
    assert (face["age"], face["age_std"], face["female_prob"]) == (None, None, None)


def test_the_estimator_never_gets_more_than_a_batch() -> None:
    estimator = Painter()
    judged(load(settings=["estimate.batch=4"]), chunk([(0, [Person(100), Person(300)])] * 3), estimator=estimator)
    assert [shape[0] for shape in estimator.calls] == [4, 2]


def test_a_chunk_without_faces_is_estimated_without_a_model() -> None:
    assert judged(load(), chunk([(0, [])]), estimator=Painter(), embedder=embed_red) == []


@needs_shared
def test_a_woman_and_a_man_in_a_talkshow_are_told_apart() -> None:
    import av

    from pipeline.models.loading import load_estimator, load_face_detector

    with av.open(str(SHARED / "clips" / "talkshow.mp4")) as container:
        picture = np.asarray(next(container.decode(video=0)).to_ndarray(format="rgb24"), np.uint8)
    config = load(settings=["faces.min_score=0.5"])
    detector = load_face_detector(
        "retinaface-mobile0.25",
        {"path": SHARED / "weights" / "mobilenet0.25_Final.pth"},
        input_px=config.faces.input_px,
        batch=fixed(config.faces.batch),
        min_score=config.faces.min_score,
        device="cpu",
        half=False,
    )
    parts = {
        "age": SHARED / "weights" / "ssrnet_imdb.h5",
        "gender": SHARED / "weights" / "ssrnet_imdb_gender_models.h5",
    }
    estimator = load_estimator("ssrnet", parts, batch=config.estimate.batch, device="cpu", half=False)

    woman, man = [126, 216, 741, 1072], [1144, 110, 1649, 803]
    candidates = []
    for index, (left, top, right, _) in enumerate([woman, man]):
        crop = picture[top - 40 : top + 500, left - 40 : right + 40]
        jpeg = encode_jpeg(np.ascontiguousarray(crop), 92)
        place = {"x": left - 40, "y": top - 40, "scale": 1}
        candidates.append({"detection": index, "chain": index, "crop": jpeg, **place})
    row = {
        "width": picture.shape[1],
        "height": picture.shape[0],
        "thumbnail_pixels": 1,
        "frames": [{"time_ns": 0, "cell": 0, "analysed": True}],
        "detections": [{"frame": 0, "box": box, "score": 0.9, "bodiless": False} for box in (woman, man)],
        "candidates": candidates,
    }
    found = FindFaces(config, detector)(pa.Table.from_pylist([row], schema=find_faces.NEEDS))
    faces = faces_of(Estimate(config, estimator, None)(found))
    assert [face["detection"] for face in faces] == [0, 1]
    assert [face["why_not"] for face in faces] == [None, None]
    assert faces[0]["female_prob"] > 0.5 > faces[1]["female_prob"]
    assert all(15 < face["age"] < 70 for face in faces)
