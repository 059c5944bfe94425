"""Bodies on their way through a chunk: from the candidates to the estimates."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline import rows
from pipeline.arrays import Estimates, Picture
from pipeline.chunk import commit, estimate
from pipeline.chunk.bodies import FrameFaces
from pipeline.chunk.estimate import Estimate
from pipeline.columns import as_list, items_of, with_columns
from pipeline.media.pictures import decode_jpeg, encode_jpeg
from tests.chunk.red_patches import HEIGHT, WIDTH, Person, chunk, draw, find, load

BOTH = load(["estimate.uses=both"])


class Listener:
    """An estimator of faces and bodies: with a face 20 years, without 50. It keeps what it was given."""

    def __init__(self) -> None:
        self.pairs: list[tuple[Picture | None, Picture | None]] = []

    def judge(self, faces: Sequence[Picture | None], bodies: Sequence[Picture | None]) -> Estimates:
        assert all(face is not None or body is not None for face, body in zip(faces, bodies, strict=True))
        self.pairs += zip(faces, bodies, strict=True)
        ages = np.array([50 if face is None else 20 for face in faces], np.float32)
        return Estimates(ages, np.full_like(ages, 8), np.full_like(ages, 0.9))


def with_bodies(frames: Sequence[tuple[int, Sequence[Person]]]) -> pa.Table:
    """Return a row of `observe` whose candidates have their bodies, at half the size."""
    table = chunk(frames)
    candidates, detections = items_of(table, "candidates"), table["detections"][0].as_py()
    jpegs, corners = [], []
    for detection in candidates.field("detection").to_pylist():
        picture = draw(frames[detections[detection]["frame"]][1])
        left, top, right, bottom = (round(side) for side in detections[detection]["box"])
        left, top, right, bottom = max(left, 0), max(top, 0), min(right, WIDTH), min(bottom, HEIGHT)
        jpegs.append(encode_jpeg(picture[top:bottom:2, left:right:2], 95))
        corners.append((left, top))
    x, y = (pa.array([corner[axis] for corner in corners], pa.float32()) for axis in (0, 1))
    bodies = {"body": pa.array(jpegs, pa.large_binary()), "body_x": x, "body_y": y}
    bodies["body_scale"] = pa.array([0.5] * len(jpegs), pa.float32())
    column = as_list(with_columns(candidates, **bodies))
    return table.set_column(table.column_names.index("candidates"), rows.CANDIDATES[0], column)


def judged(table: pa.Table, estimator: Any, uses: str = "both") -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    config = load([f"estimate.uses={uses}"])
    found = find(table, config)
    estimated = Estimate(config, estimator, None)(found.select(estimate.NEEDS.names))
    assert estimated.schema == estimate.ADDS
    return estimated["faces"][0].as_py(), estimated["bodies"][0].as_py()


def test_other_people_and_all_faces_are_black_in_a_body() -> None:
    scene = with_bodies([(0, [Person(150), Person(240, face_px=36, top=50)])])
    first, second = find(scene, BOTH)["bodies"][0].as_py()
    picture = decode_jpeg(first["picture"])
    face = picture[int(0.4 * 50 / 2) + 5 : int(0.4 * 50 / 2) + 20, 25:35]
    assert face.max() < 20
    assert picture.shape[1] == pytest.approx(45, abs=1)  # the neighbour, from 180 px on, is cut off
    assert picture[100:, :40].mean() == pytest.approx(100, abs=5)
    assert 0 < first["quality"] < 0.9
    assert first["age"] is None
    assert (first["detection"], second["detection"]) == (0, 1)


def test_a_body_does_not_depend_on_other_frames() -> None:
    scene = [(0, [Person(150), Person(240)]), (0, [Person(155, face_px=0), Person(420)]), (1, [Person(150)])]
    whole = find(with_bodies(scene), BOTH)["bodies"][0].as_py()
    parts = [body for part in scene for body in find(with_bodies([part]), BOTH)["bodies"][0].as_py()]
    assert [body["picture"] for body in whole] == [body["picture"] for body in parts]
    assert [body["quality"] for body in whole] == [body["quality"] for body in parts]


def test_without_the_knob_there_are_no_bodies() -> None:
    assert find(with_bodies([(0, [Person(150)])]))["bodies"][0].as_py() == []


def test_a_face_is_judged_with_its_body_and_a_body_alone_where_no_face_shows() -> None:
    listener = Listener()
    faces, bodies = judged(with_bodies([(0, [Person(150), Person(450, face_px=0)])]), listener)
    assert [(face is None, body is None) for face, body in listener.pairs] == [(False, False), (True, False)]
    assert [face["age"] for face in faces] == [20]
    assert [body["age"] for body in bodies] == [None, 50]
    assert bodies[1]["female_prob"] == pytest.approx(0.9)


def test_with_bodies_alone_no_face_is_used() -> None:
    listener = Listener()
    faces, bodies = judged(with_bodies([(0, [Person(150), Person(450, face_px=0)])]), listener, "bodies")
    assert all(face is None for face, _ in listener.pairs)
    assert [face["age"] for face in faces] == [None]
    assert [body["age"] for body in bodies] == [50, 50]


def test_pictures_of_bodies_become_durable_only_with_kept_biometrics() -> None:
    found = find(with_bodies([(0, [Person(450, face_px=0)])]), BOTH)
    kept, bare = (commit._enriched(found.select(rows.ENRICHED.names), keep) for keep in (True, False))
    assert kept["bodies"][0].as_py()[0]["picture"]
    assert bare["bodies"][0].as_py()[0]["picture"] is None
    assert bare["bodies"][0].as_py()[0]["quality"] == kept["bodies"][0].as_py()[0]["quality"]
    assert rows.conform(bare, rows.ENRICHED).schema == rows.ENRICHED


def test_a_guess_of_head_and_shoulders_is_no_body() -> None:
    from pipeline.chunk.bodies import cut_bodies

    table = with_bodies([(0, [Person(150, face_px=0)])])
    detections = items_of(table, "detections")
    nothing = FrameFaces(np.zeros(0, np.int64), np.zeros((0, 4), np.float32))
    assert len(cut_bodies(items_of(table, "candidates"), detections, nothing, 0.4)) == 1
    bodiless = with_columns(detections, bodiless=pa.array([True]))
    assert len(cut_bodies(items_of(table, "candidates"), bodiless, nothing, 0.4)) == 0
