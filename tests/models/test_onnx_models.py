"""Models from ONNX files run as their registry entry describes them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from pipeline.errors import DataError, UserError
from pipeline.models.loading import load_estimator, load_face_detector, load_model
from tests.models.onnx_files import write_fixed, write_means

INPUT: dict[str, Any] = {"size": 8, "std": 255}
AGE = {"output": "age", "form": "years", "scale": 100, "std": 6}
GENDER = {"output": "sex", "form": "logits", "female": 1}
RED_IS_OLD = ([[1], [0], [0]], [0])
BLUE_IS_FEMALE = ([[0, 0], [0, 0], [-4, 4]], [2, -2])


def faces(*colours: tuple[int, int, int]) -> NDArray[np.uint8]:
    return np.stack([np.full((32, 32, 3), colour, np.uint8) for colour in colours])


def estimator(path: Path, *, batch: int = 4, **options: Any) -> Any:
    knobs: dict[str, Any] = {"batch": batch, "device": "cpu", "half": False, "options": options, "name": "mine"}
    return load_estimator("onnx-estimator", {"path": path}, **knobs)


def test_an_estimator_reads_years_and_two_genders_by_the_names_of_its_outputs(tmp_path: Path) -> None:
    path = write_means(tmp_path / "n.onnx", {"sex": BLUE_IS_FEMALE, "age": RED_IS_OLD})
    estimates = estimator(path, input=INPUT, age=AGE, gender=GENDER)(faces((51, 0, 255), (204, 0, 0)))
    assert_allclose(estimates.ages, [20, 80])
    assert_allclose(estimates.age_stds, 6)
    assert_allclose(estimates.female_probs, [0.982, 0.018], atol=0.001)
    assert estimates.age_dists is None


@pytest.mark.parametrize(("layout", "colours", "age"), [("nchw", "rgb", 20), ("nhwc", "rgb", 20), ("nchw", "bgr", 80)])
def test_layout_and_order_of_colours_are_those_of_the_entry(
    layout: str, colours: str, age: float, tmp_path: Path
) -> None:
    path = write_means(tmp_path / "n.onnx", {"age": RED_IS_OLD}, layout=layout)
    spec = INPUT | {"layout": layout, "colours": colours}
    estimates = estimator(path, input=spec, age=AGE)(faces((51, 0, 204)))
    assert_allclose(estimates.ages, [age])
    assert np.isnan(estimates.female_probs).all()


def test_classes_of_years_give_a_mean_a_spread_and_a_distribution(tmp_path: Path) -> None:
    path = write_means(tmp_path / "n.onnx", {"prob": (np.zeros((3, 2)), [0.25, 0.75])})
    age = {"output": "prob", "form": "probabilities", "classes": [[20, 29], [40, 49]]}
    estimates = estimator(path, input=INPUT, age=age)(faces((9, 9, 9)))
    assert_allclose(estimates.ages, [39.5])
    assert estimates.age_stds[0] == pytest.approx(9.1, abs=0.2)
    assert estimates.age_dists is not None
    assert_allclose(estimates.age_dists[0, [2, 4]], [0.25, 0.75])


@pytest.mark.parametrize("batch", ["N", 1, 3])
def test_an_estimate_does_not_depend_on_its_neighbours_or_on_a_batch_that_the_file_fixes(
    batch: int | str, tmp_path: Path
) -> None:
    path = write_means(tmp_path / "n.onnx", {"age": RED_IS_OLD}, batch=batch)
    judge = estimator(path, input=INPUT, age=AGE)
    many = faces(*((red, 0, 0) for red in range(0, 250, 25)))
    together = judge(many).ages
    assert len(together) == 10
    assert_array_equal(together, [judge(many[i : i + 1]).ages[0] for i in range(10)])


def test_two_files_for_age_and_gender_are_one_estimator(tmp_path: Path) -> None:
    files = {
        "age": write_means(tmp_path / "a.onnx", {"age": RED_IS_OLD}),
        "gender": write_means(tmp_path / "g.onnx", {"sex": BLUE_IS_FEMALE}),
    }
    options = {"age": {"input": INPUT, "age": AGE}, "gender": {"input": INPUT, "gender": GENDER}}
    judge = load_estimator("onnx-estimators", files, batch=2, device="cpu", half=False, options=options)
    estimates = judge(faces((51, 0, 255)))
    assert (estimates.ages[0], estimates.female_probs[0]) == (20, pytest.approx(0.982))
    swapped = {"age": files["gender"], "gender": files["age"]}, {"age": options["gender"], "gender": options["age"]}
    with pytest.raises(UserError, match="the part age has options that name no age"):
        load_estimator("onnx-estimators", swapped[0], batch=2, device="cpu", half=False, options=swapped[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"age": AGE | {"output": "ag"}}, r"have no output ag; did you mean age\?"),
        ({"input": INPUT | {"size": 9}}, r"take tensor\(float\) of Nx3x8x8, and the entry gives nchw of 3x9x9"),
        ({"input": INPUT | {"layout": "nhwc"}}, "correct size and layout"),
        ({"input": INPUT | {"name": "image"}}, "have the inputs picture, and the entry uses image alone"),
        ({"age": AGE | {"output": "sex"}}, "an age in years must be one column of sex, got 2"),
        ({"age": AGE | {"columns": [3, 4]}}, "give 1 columns in age, and the entry uses columns 3 to 4"),
        ({"age": {"output": "age", "form": "logits", "classes": [[0, 2], [3, 5]]}}, "the entry has 2 classes"),
        ({"gender": GENDER | {"columns": [0, 3]}}, "uses columns 0 to 3"),
        ({"age": {"output": "age", "form": "logits"}}, "needs a column for each class, got one column of age"),
        ({"gender": {"output": "down", "form": "probabilities"}}, "down has -.*no probability; the form may be logits"),
        ({"gender": {"output": "two", "form": "probabilities"}}, "the probabilities in two sum to 1.4 and not to 1"),
        ({"gender": {"output": "over", "form": "probabilities"}}, "over has 1.2, which is no probability"),
        ({"age": AGE | {"scale": 800}}, "mine, kind onnx-estimator: its ages go to 398.4 years, and only -20 to 130"),
        ({"age": AGE | {"scale": 1, "offset": -60}}, "its ages go to -59.5 years.*; correct the options of this"),
    ],
)
def test_an_entry_that_does_not_fit_its_file_is_refused_when_it_is_loaded(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    outputs: dict[str, Any] = {"sex": BLUE_IS_FEMALE, "age": RED_IS_OLD, "down": ([[-1, 1], [0, 0], [0, 0]], [0, 0])}
    outputs["two"] = (np.zeros((3, 2)), [0.6, 0.8])
    outputs["over"] = (np.zeros((3, 1)), [1.2])
    path = write_means(tmp_path / "n.onnx", outputs)
    with pytest.raises(UserError, match=message):
        estimator(path, **({"input": INPUT, "age": AGE, "gender": GENDER} | options))


def test_a_network_that_gives_no_numbers_is_refused_and_later_ends_the_video(tmp_path: Path) -> None:
    broken = write_means(tmp_path / "nan.onnx", {"age": ([[np.nan], [0], [0]], [0])})
    with pytest.raises(UserError, match="not finite in the output age; check mean and std"):
        estimator(broken, input=INPUT, age=AGE)
    weak = write_means(tmp_path / "inf.onnx", {"age": ([[1e38], [0], [0]], [0])})
    with pytest.raises(DataError, match="not finite in the output age"):
        estimator(weak, input=INPUT | {"std": 60}, age=AGE | {"scale": 1e-37})(faces((255, 0, 0)))


def test_an_impossible_age_of_one_face_names_the_model_and_ends_the_video(tmp_path: Path) -> None:
    judge = estimator(write_means(tmp_path / "n.onnx", {"age": RED_IS_OLD}), input=INPUT, age=AGE | {"scale": 200})
    assert_allclose(judge(faces((140, 0, 0))).ages, [109.8], atol=0.1)
    assert_allclose(judge(faces((150, 0, 0))).ages, [110])
    with pytest.raises(DataError, match=r"^mine, kind onnx-estimator: its ages go to 200 years"):
        judge(faces((255, 0, 0)))


def test_scores_that_are_no_probabilities_are_refused(tmp_path: Path) -> None:
    path = write_fixed(tmp_path / "d.onnx", {"boxes": [[[8, 8, 24, 40]]], "scores": [[4.0]]}, side=64)
    spec: dict[str, Any] = {"input": {}, "boxes": {"output": "boxes", "form": "xyxy"}}
    with pytest.raises(UserError, match="scores has 4, which is no probability; the form may be logits"):
        detector(path, **spec, scores={"output": "scores"})
    (found,) = detector(path, **spec, scores={"output": "scores", "form": "logits"})([np.ones((64, 64, 3), np.uint8)])
    assert_allclose(found.scores, [0.982], atol=0.001)


def test_a_file_that_is_no_network_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "text.onnx"
    path.write_text("hello")
    with pytest.raises(UserError, match=r"text\.onnx are no network that ONNX Runtime can read") as error:
        estimator(path, input=INPUT, age=AGE)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["onnx-face-embedder", "onnx-body-embedder"])
def test_an_embedder_gives_unit_vectors(kind: str, tmp_path: Path) -> None:
    path = write_means(tmp_path / "e.onnx", {"vector": (np.eye(3), [0, 0, 0])}, side="S")
    spec = {"input": {"size": [16, 8]}}
    embed = load_model(kind, {"path": path}, spec, batch=2, device="cpu", half=False)
    pictures = faces((0, 30, 40), (255, 0, 0), (0, 0, 9))
    if kind == "onnx-body-embedder":
        pictures = np.concatenate(
            [embed.crops(picture, np.array([[4, 4, 20, 30]], np.float32)) for picture in pictures]
        )
        assert pictures.shape == (3, 16, 8, 3)
    assert_allclose(embed(pictures), [[0, 0.6, 0.8], [1, 0, 0], [0, 0, 1]], atol=1e-6)
    assert embed(pictures[:0]).shape == (0, 3)


def detector(path: Path, **options: Any) -> Any:
    settings: dict[str, Any] = {"input_px": 64, "batch": 8, "min_score": 0.5, "device": "cpu", "half": False}
    return load_face_detector("onnx-face-detector", {"path": path}, **settings, options=options)


LANDMARKS = np.arange(10).reshape(1, 1, 10) + np.array([0, 0.5]).reshape(1, 2, 1)


@pytest.mark.parametrize(
    ("form", "unit", "boxes"),
    [
        ("xyxy", "px", [[8, 8, 24, 40], [40, 8, 56, 40]]),
        ("xywh", "px", [[8, 8, 16, 32], [40, 8, 16, 32]]),
        ("centre", "share", [[0.25, 0.375, 0.25, 0.5], [0.75, 0.375, 0.25, 0.5]]),
    ],
)
def test_a_face_detector_reads_boxes_of_every_form_in_the_pixels_of_the_crop(
    form: str, unit: str, boxes: list[list[float]], tmp_path: Path
) -> None:
    outputs = {"boxes": [boxes], "scores": [[[0.1, 0.9], [0.7, 0.3]]], "points": LANDMARKS}
    path = write_fixed(tmp_path / "d.onnx", outputs, side=64)
    find = detector(
        path,
        input={},
        boxes={"output": "boxes", "form": form, "unit": unit},
        scores={"output": "scores", "column": 1},
        landmarks={"output": "points"},
    )
    (found,) = find([np.full((128, 128, 3), 200, np.uint8)])
    assert_allclose(found.boxes, [[16, 16, 48, 80]])
    assert_allclose(found.scores, [0.9])
    assert found.landmarks.shape == (1, 5, 2)
    assert find([np.zeros((128, 128, 3), np.uint8)])[0].scores.tolist() == []


def test_a_face_detector_with_distances_from_cells_is_decoded_as_scrfd(tmp_path: Path) -> None:
    scores, boxes, points = (np.zeros((16, columns), np.float32) for columns in (1, 4, 10))
    scores[5], boxes[5], points[5] = 0.8, [0.5, 0.5, 1, 1], np.arange(10) / 10  # the cell at column 1, row 1
    outputs = {"s": scores, "b": boxes, "k": points}
    path = write_fixed(tmp_path / "d.onnx", outputs, side=64)
    find = detector(
        path,
        input={"mean": 127.5, "std": 128},
        boxes={"output": ["b"], "form": "distances"},
        scores={"output": ["s"]},
        landmarks={"output": ["k"]},
        strides=[16],
    )
    (found,) = find([np.full((64, 64, 3), 200, np.uint8)])
    assert_allclose(found.boxes, [[8, 8, 32, 32]])
    assert_allclose(found.landmarks[0, 1], [16 + 0.2 * 16, 16 + 0.3 * 16])
    with pytest.raises(UserError, match="give 16 boxes at stride 16, and there are 32 places"):
        detector(
            path,
            input={},
            boxes={"output": ["b"], "form": "distances"},
            scores={"output": ["s"]},
            strides=[16],
            anchors=2,
        )
