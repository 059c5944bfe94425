from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from pipeline.arrays import Picture
from pipeline.evaluation.attributes import ALIGNED_PX
from pipeline.models.aligned import UTKFACE
from pipeline.models.attributes import Calibration
from pipeline.models.estimator import Heads, HeadsEstimator
from pipeline.models.face_embedder import FaceEmbedder
from pipeline.models.heads import HeadsFile
from pipeline.models.loading import load_estimator
from pipeline.models.mobilefacenet import MobileFaceNet
from pipeline.training import heads
from pipeline.training.loop import Run

pytestmark = pytest.mark.usefixtures("no_plots")


@pytest.fixture(scope="module")
def mobilefacenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("weights") / "mobilefacenet.ckpt"
    torch.save({"epoch": 1, "net_state_dict": MobileFaceNet().state_dict()}, path)
    return path


def faces(count: int, seed: int) -> heads.Vectors:
    """Return vectors whose first number depends on age and whose second depends on gender."""
    rng = np.random.default_rng(seed)
    ages, is_female = rng.uniform(1, 90, count).astype(np.float32), rng.random(count) < 0.5
    vectors = rng.normal(0, 0.1, (count, 6)).astype(np.float32)
    vectors[:, 0] += ages / 30 - 1.5
    vectors[:, 1] += np.where(is_female, 1, -1)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return heads.Vectors(vectors, vectors, ages, is_female)


RECIPE = heads.HeadTrainingParams(epochs=4, batch=32)


def test_a_run_that_goes_on_gives_what_an_unbroken_one_gives(tmp_path: Path) -> None:
    whole = heads.train(faces(200, 0), faces(60, 1), RECIPE, Run(tmp_path / "a", {}))

    def stop(done: int, _: object) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        heads.train(faces(200, 0), faces(60, 1), RECIPE, Run(tmp_path / "b", {}), stop)
    resumed = heads.train(faces(200, 0), faces(60, 1), RECIPE, Run(tmp_path / "b", {}))
    for name, tensor in whole.state_dict().items():
        assert_array_equal(resumed.state_dict()[name], tensor, err_msg=name)


def test_heads_learn_what_vectors_tell(tmp_path: Path) -> None:
    params = heads.HeadTrainingParams(epochs=25, batch=32, patience=25)
    heads.train(faces(600, 0), faces(100, 1), params, Run(tmp_path, {}))
    last = pd.read_csv(tmp_path / "history.csv").iloc[-1]
    assert last["mae"] < 12  # ages are spread over 90 years: a guess without the vectors gives 22
    assert last["gender_accuracy"] > 0.97


def test_it_ends_where_no_stack_gets_better(tmp_path: Path) -> None:
    """The labels do not depend on the vectors."""
    noise, other = faces(60, 0), faces(60, 3)
    noise = heads.Vectors(noise.vectors, noise.mirrored, other.ages, other.is_female)
    params = heads.HeadTrainingParams(epochs=300, batch=32, patience=4, learning_rate=0.01)
    heads.train(noise, faces(60, 1), params, Run(tmp_path, {}))
    assert len(pd.read_csv(tmp_path / "history.csv")) < 100


def test_each_stack_is_kept_where_it_was_best() -> None:
    network = Heads(4)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    best = heads.Best(network)
    best.take(network, {"age": 5.0, "gender": 0.5, "buckets": 2.0}, epoch=1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1)
    best.take(network, {"age": 4.0, "gender": 0.6, "buckets": 2.0}, epoch=2)
    assert best.epochs == {"age": 2, "gender": 1, "buckets": 1}
    state = network.state_dict()
    assert_array_equal(best.weights["age.0.bias"], state["age.0.bias"])
    assert_array_equal(best.weights["gender.0.bias"], before["gender.0.bias"])


def test_vectors_are_computed_once_and_of_the_mirror_image_too(tmp_path: Path, mobilefacenet: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    path = tmp_path / "30_0_0_2017.jpg"
    path.write_bytes(b"12345")
    table = pd.DataFrame({"path": [str(path)], "name": [path.name], "age": [30.0], "gender": ["M"]})
    embedder = FaceEmbedder(mobilefacenet, batch=2, device="cpu", half=False)
    reads = []

    def read(path: Path) -> Picture:
        reads.append(path)
        return picture

    def embed(weights: str) -> heads.Vectors:
        return heads.embed(table, read, embedder, tmp_path, weights=weights, batch=8)

    first = embed("a")
    assert_array_equal(first.vectors, embedder(UTKFACE.fill(picture[None], ALIGNED_PX)))
    assert_array_equal(first.mirrored, embedder(UTKFACE.fill(picture[None, :, ::-1], ALIGNED_PX)))
    assert_array_equal(embed("a").vectors, first.vectors)
    assert len(reads) == 1
    embed("b")  # other weights
    path.write_bytes(b"123456")  # another file
    embed("a")
    assert len(reads) == 3


CALIBRATION = Calibration(
    knots=(20.0, 60.0), shifts=(1.0, -2.0), years=(20.0, 60.0, 80.0), marks=(0.0, 10.0, 20.0), slope=0.5, offset=0.25
)


def test_what_is_written_loads_as_an_estimator_that_says_the_same(tmp_path: Path, mobilefacenet: Path) -> None:
    torch.manual_seed(3)
    network, path = Heads(128).eval(), tmp_path / "0123abcd"
    embedder = FaceEmbedder(mobilefacenet, batch=2, device="cpu", half=False)
    HeadsFile(dimensions=128, view=embedder.view, embedder="", calibration=CALIBRATION).write(path, network)
    estimator = load_estimator("heads", {"embedder": mobilefacenet, "heads": path}, batch=2, device="cpu", half=False)
    assert isinstance(estimator, HeadsEstimator)
    pictures = np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3), np.uint8)
    with torch.inference_mode():
        years, logits, _ = (output.numpy() for output in network.logits(torch.from_numpy(embedder(pictures))))
    estimates = estimator(pictures)
    assert_allclose(estimates.ages, CALIBRATION.age(years), atol=0.06)
    assert_allclose(estimates.age_stds, CALIBRATION.age_error(years, np.ones(3))[0], atol=0.06)
    assert_allclose(estimates.female_probs, CALIBRATION.female_prob(logits), atol=6e-4)
