from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from facenet_pytorch import InceptionResnetV1
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from pipeline.errors import UserError
from pipeline.interfaces import AttributeEstimator
from pipeline.media.pictures import decode_jpeg
from pipeline.models.aligned import UTKFACE, Window
from pipeline.models.estimator import BoschHeads
from pipeline.models.loading import load_estimator
from tests.shared import SHARED, needs_shared

HEADS = SHARED / "weights/bosch-data-huber.h5"
SSRNET = {"age": SHARED / "weights/ssrnet_wiki.h5", "gender": SHARED / "weights/ssrnet_wiki_gender_models.h5"}


@pytest.fixture(scope="module")
def ssrnet() -> AttributeEstimator:
    return load_estimator("ssrnet", SSRNET, batch=8, device="cpu", half=False)


def random_embeddings(count: int) -> NDArray[np.float32]:
    vectors = np.random.default_rng(2).normal(size=(count, 512)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def dense(file: h5py.File, layer: int, x: NDArray[np.float64]) -> NDArray[np.float64]:
    name = f"model_weights/dense_{layer}/dense_{layer}"
    return x @ np.asarray(file[f"{name}/kernel:0"], np.float64) + np.asarray(file[f"{name}/bias:0"], np.float64)


def stack(file: h5py.File, layers: range, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute dense layers with ReLU between them. The last has none."""
    for layer in layers[:-1]:
        x = np.maximum(dense(file, layer, x), 0)
    return dense(file, layers[-1], x)


@needs_shared
def test_the_bosch_heads_say_what_their_layers_say_in_numpy() -> None:
    embeddings = random_embeddings(11)
    years, female_probs, buckets = BoschHeads(HEADS, batch=4, device="cpu", half=False)(embeddings)
    with h5py.File(HEADS) as file:
        x = embeddings.astype(np.float64)
        expected_years = 116 / (1 + np.exp(-stack(file, range(17, 23), x)[:, 0]))
        expected_probs = 1 / (1 + np.exp(-stack(file, range(28, 34), x)[:, 0]))
        powers = np.exp(stack(file, range(23, 28), x))
    assert_allclose(years, expected_years, rtol=1e-5)
    assert_allclose(female_probs, expected_probs, rtol=1e-4, atol=1e-6)
    assert_allclose(buckets, powers / powers.sum(axis=1, keepdims=True), rtol=1e-4, atol=1e-6)
    assert buckets.shape == (11, 12)
    assert np.ptp(years) > 1


@needs_shared
def test_the_bosch_estimator_runs_on_facenets_official_layout_and_rounds_no_age_up(tmp_path: Path) -> None:
    """Seed B took the ceiling of every age."""
    torch.manual_seed(1)
    path = tmp_path / "facenet.pt"
    torch.save(InceptionResnetV1(classify=True, num_classes=8631).state_dict(), path)
    estimator = load_estimator("heads", {"embedder": path, "heads": HEADS}, batch=4, device="cpu", half=False)
    faces = np.random.default_rng(0).integers(0, 256, (6, 224, 224, 3), np.uint8)
    estimates = estimator(faces)
    assert estimates.ages.shape == estimates.age_stds.shape == estimates.female_probs.shape == (6,)
    assert (estimates.ages % 1 != 0).any()
    assert_array_equal(estimates.ages, np.round(estimates.ages, 1))


@needs_shared
@pytest.mark.parametrize("place", [0, 3, 8])
def test_an_estimate_does_not_depend_on_neighbours(place: int, ssrnet: AttributeEstimator) -> None:
    faces = np.random.default_rng(0).integers(0, 256, (9, 224, 224, 3), np.uint8)
    alone, among = ssrnet(faces[place : place + 1]), ssrnet(faces)
    assert alone.ages[0] == among.ages[place]
    assert alone.female_probs[0] == among.female_probs[place]


@needs_shared
def test_ssrnet_judges_utkface_as_well_as_it_was_measured() -> None:
    """Judge 200 faces, each picture put where UTKFace's mostly lie. tests/bench/ssrnet_on_utkface.py has the
    figures."""
    paths = sorted((SHARED / "datasets/UTKFace").glob("*.jpg"))[::104][:200]
    pictures = np.stack([decode_jpeg(path.read_bytes()) for path in paths])
    ages, genders = np.array([[int(part) for part in path.name.split("_")[:2]] for path in paths]).T
    faces = UTKFACE.fill(pictures, 224)
    estimator = load_estimator("ssrnet", SSRNET, batch=50, device="cpu", half=False)
    estimates = estimator(faces)
    adult = ages >= 18
    assert np.abs(estimates.ages - ages)[adult].mean() < 10.5
    assert np.mean((estimates.female_probs > 0.5) == (genders == 1)) > 0.8
    blue = estimator(np.ascontiguousarray(faces[..., ::-1]))
    assert np.mean((blue.female_probs > 0.5) == (genders == 1)) < 0.8  # the wrong colour order is noticeable


@needs_shared
def test_no_faces_give_no_estimates(ssrnet: AttributeEstimator) -> None:
    assert len(ssrnet(np.zeros((0, 224, 224, 3), np.uint8)).ages) == 0


@pytest.mark.parametrize(
    ("kind", "parts", "message"),
    [
        ("oracle", {}, "estimator kind must be one of .*ssrnet, got 'oracle'"),
        ("ssrnet", {"age": Path("age.h5")}, "kind ssrnet has no part gender"),
    ],
)
def test_what_cannot_be_loaded_is_told(kind: str, parts: Mapping[str, Path], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_estimator(kind, parts, batch=1, device="cpu", half=False)


def test_heads_of_another_layout_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "heads.h5"
    with h5py.File(path, "w") as file:
        file["model_weights/dense/kernel:0"] = np.zeros((512, 1))
    with pytest.raises(UserError, match=r"heads\.h5 are no heads in the layout of data-huber\.h5"):
        BoschHeads(path, batch=1, device="cpu", half=False)


def test_a_window_repeats_the_border_where_it_reaches_beyond_the_face() -> None:
    face = np.zeros((1, 100, 100, 3), np.uint8)
    face[:, :, 0], face[:, -1] = 90, 200
    seen = Window(left=-0.2, top=0.0, right=0.8, bottom=1.2).cut(face, 100)[0]
    assert (seen[:60, :18] == 90).all()
    assert (seen[85:, 20:] == 200).all()
    assert (seen[10:60, 23:] == 0).all()


def test_filling_a_window_is_the_way_back_from_cutting_it() -> None:
    crop = np.random.default_rng(0).integers(0, 256, (1, 62, 64, 3), np.uint8)
    face = UTKFACE.fill(crop, 100)
    assert face.shape == (1, 100, 100, 3)
    assert_array_equal(face[:, 29:91, 19:83], crop)
    assert_array_equal(face[0, :29, 19:83], np.repeat(crop[0, :1], 29, axis=0))
