import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from safetensors.torch import save_file

from pipeline.cores.vote import Z_80
from pipeline.errors import UserError
from pipeline.models.aligned import UTKFACE
from pipeline.models.attributes import (
    AttributeFile,
    AttributeNet,
    Calibration,
    judge,
    load_attributes,
    moments,
)
from pipeline.models.estimator import StarterEstimator
from pipeline.models.loading import WHOLE, load_estimator
from pipeline.models.networks import FACTS, write_checkpoint

SIDE_PX = 48
CALIBRATION = Calibration(
    knots=(0.0, 40.0, 80.0),
    shifts=(0.0, 2.0, 6.0),
    years=(0.0, 30.0, 60.0),
    marks=(0.0, 60.0, 90.0),
    slope=0.5,
    offset=0.1,
)
STARTER = Path(__file__).parents[2] / "weights/starter-attributes.safetensors"


@pytest.fixture(scope="module")
def network() -> AttributeNet:
    """Return a network with random weights. Its norms and its last layer are set so that faces differ."""
    torch.manual_seed(0)
    network = AttributeNet()
    with torch.no_grad():
        for _ in range(20):
            network(torch.rand(8, 3, 32, 32) * 255)
        network.heads.weight.mul_(10)
    return network.eval()


@pytest.fixture(scope="module")
def path(network: AttributeNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("attributes") / "random.safetensors"
    AttributeFile(side_px=SIDE_PX, mirrored=True, calibration=CALIBRATION).write(path, network)
    return path


def faces(count: int) -> NDArray[np.uint8]:
    """Return faces of coarse noise."""
    return np.random.default_rng(0).integers(0, 256, (count, 10, 10, 3), np.uint8).repeat(10, 1).repeat(10, 2)


def load(path: Path, batch: int = 4) -> StarterEstimator:
    estimator = load_estimator("attributes", {WHOLE: path}, batch=batch, device="cpu", half=False)
    assert isinstance(estimator, StarterEstimator)
    return estimator


def test_a_file_gives_back_what_was_written(path: Path, network: AttributeNet) -> None:
    loaded, file = load_attributes(path)
    assert file == AttributeFile(side_px=SIDE_PX, mirrored=True, calibration=CALIBRATION)
    assert_allclose(loaded.heads.weight, network.heads.weight.detach(), rtol=1e-3, atol=1e-4)
    assert path.stat().st_size < 6_000_000


def test_estimates_are_the_calibrated_moments_of_the_distribution(path: Path) -> None:
    estimator, crops = load(path), faces(6)
    network, _ = load_attributes(path)
    means, spreads, logits = judge(network, torch.from_numpy(UTKFACE.cut(crops, SIDE_PX)), mirrored=True)
    found = estimator(crops)
    assert np.ptp(found.ages) > 5
    assert_allclose(found.ages, CALIBRATION.age(means.numpy()), atol=0.051)
    stds, leans = CALIBRATION.age_error(means.numpy(), spreads.numpy())
    assert_allclose(found.age_stds, stds, atol=0.051)
    assert found.age_leans is not None
    assert_allclose(found.age_leans, leans, atol=0.0051)
    assert_allclose(found.female_probs, CALIBRATION.female_prob(logits.numpy()), atol=0.00051)
    assert_array_equal(found.ages, np.round(found.ages, 1))


def test_a_mirror_image_is_judged_alike(path: Path) -> None:
    """This holds as far as the window is symmetrical. The test therefore passes the crops themselves."""
    network, _ = load_attributes(path)
    crops = torch.from_numpy(UTKFACE.cut(faces(3), SIDE_PX))
    ours, theirs = (judge(network, each, mirrored=True)[0] for each in (crops, crops.flip(2)))
    assert_allclose(ours, theirs, rtol=1e-4)
    alone, mirrored_alone = (judge(network, each, mirrored=False)[0] for each in (crops, crops.flip(2)))
    assert not np.allclose(alone, mirrored_alone, rtol=1e-4)


@pytest.mark.parametrize("place", [0, 3, 8])
def test_an_estimate_does_not_depend_on_neighbours(place: int, path: Path) -> None:
    estimator, crops = load(path), faces(9)
    alone, among = estimator(crops[place : place + 1]), estimator(crops)
    assert alone.ages[0] == among.ages[place]
    assert alone.age_stds[0] == among.age_stds[place]
    assert alone.female_probs[0] == among.female_probs[place]


def test_only_what_the_window_shows_counts(path: Path) -> None:
    crops = faces(4)
    bordered = crops.copy()
    bordered[:, :28], bordered[:, 92:] = 0, 255
    estimator = load(path)
    assert_array_equal(estimator(crops).ages, estimator(bordered).ages)


def test_no_faces_give_no_estimates(path: Path) -> None:
    assert len(load(path)(faces(0)).ages) == 0


def test_moments_are_those_of_the_distribution() -> None:
    logits = torch.full((1, 101), -1e4)
    logits[0, 20] = logits[0, 30] = 0
    means, spreads = moments(logits)
    assert_allclose(means, 25)
    assert_allclose(spreads, 5)


def test_calibration_interpolates_and_ends_at_its_ends() -> None:
    assert_allclose(CALIBRATION.age(np.array([0.0, 20.0, 40.0, 60.0, 100.0])), [0, 21, 42, 64, 100])
    neutral = Calibration.neutral()
    assert_allclose(neutral.age(np.array([3.0, 70.0])), [3, 70])
    stds, leans = neutral.age_error(np.array([3.0, 70.0]), np.array([2.0, 0.0]))
    assert_allclose(stds, [2, 0.2])
    assert_allclose(leans, 0, atol=1e-9)
    # On CALIBRATION's scale a year up to 30 is as long as two later ones.
    stds, leans = CALIBRATION.age_error(np.array([10.0, 28.5714286, 57.0]), np.array([4.0, 4.0, 4.0]) / Z_80)
    assert_allclose(stds * Z_80, [2, 3, 4], atol=0.01)
    assert_allclose(leans, [0, 1 / 3, 0], atol=0.01)
    assert_allclose(replace(neutral, slope=2.0, offset=-1.0).female_prob(np.array([0.5])), 0.5)


def test_another_file_is_refused(tmp_path: Path, network: AttributeNet) -> None:
    other = tmp_path / "other.safetensors"
    write_checkpoint(other, network.state_dict(), {"kind": "reid"}, half=True)
    with pytest.raises(UserError, match=r"other\.safetensors hold no estimator of kind attributes"):
        load(other)


@pytest.mark.parametrize(
    "calibration",
    [{}, {"knots": [0]}, {"knots": [0, 1], "shifts": [0], "years": [0, 1], "marks": [0, 1], "slope": 1, "offset": 0}],
)
def test_metadata_that_say_nothing_useful_are_refused(
    tmp_path: Path, network: AttributeNet, calibration: dict[str, object]
) -> None:
    path = tmp_path / "it.safetensors"
    facts = {"kind": "attributes", "side_px": 96, "mirrored": True, "calibration": calibration}
    save_file(dict(network.state_dict()), path, {FACTS: json.dumps(facts)})
    with pytest.raises(UserError, match="its metadata do not describe an estimator of kind attributes"):
        load(path)


@pytest.mark.skipif(not STARTER.exists(), reason="the starter estimator is not trained yet")
def test_the_starter_can_be_loaded_and_has_an_opinion() -> None:
    estimates = load(STARTER, batch=2)(np.full((2, 224, 224, 3), 128, np.uint8))
    assert ((estimates.ages >= 0) & (estimates.ages <= 100)).all()
    assert (estimates.age_stds > 0).all()
