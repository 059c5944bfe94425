from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch.nn import functional

from pipeline.errors import UserError
from pipeline.models.aligned import UTKFACE
from pipeline.models.attributes import Calibration
from pipeline.models.classics import ClassicFile, SsrNets, Torchvision, build_classic, load_classic, read_imagenet
from pipeline.models.loading import load_estimator
from pipeline.training import networks
from pipeline.training.attribute_inputs import LabelledFaces
from pipeline.training.loop import Run

pytestmark = pytest.mark.usefixtures("no_plots")


def faces(count: int, side_px: int, seed: int = 0) -> LabelledFaces:
    rng = np.random.default_rng(seed)
    ages = rng.integers(0, 100, count).astype(np.float32)
    return LabelledFaces(rng.integers(0, 256, (count, side_px, side_px, 3), np.uint8), ages, rng.random(count) < 0.5)


def test_a_run_that_goes_on_gives_what_an_unbroken_one_gives(tmp_path: Path) -> None:
    params = networks.NetworkTrainingParams(epochs=3, batch=4)

    def run(folder: str, stop_after: int | None = None) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)

        def stop(done: int, _: object) -> None:
            if done == stop_after:
                raise KeyboardInterrupt

        training, validation = faces(8, 72), faces(4, 72, 1)
        return networks.train(
            build_classic("ssrnet"), training, validation, params, Run(tmp_path / folder, {}), stop
        ).state_dict()

    whole = run("a")
    with pytest.raises(KeyboardInterrupt):
        run("b", stop_after=1)
    for name, tensor in run("b").items():
        assert_array_equal(whole[name], tensor, err_msg=name)


@pytest.mark.parametrize("name", ["mobilenetv2", "ssrnet", "inceptionv3", "levi-hassner"])
def test_a_step_moves_every_weight_that_is_learned(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build_classic(name)
    before = {key: tensor.clone() for key, tensor in network.named_parameters()}
    some = faces(4, network.stored_px)
    epochs = 1 if name != "ssrnet" else 3  # some pictures close its ReLUs
    trained = networks.train(
        network, some, some, networks.NetworkTrainingParams(epochs=epochs, batch=4), Run(tmp_path, {})
    )
    moved = [key for key, tensor in trained.named_parameters() if not torch.equal(tensor, before[key])]
    assert len(moved) > 0.9 * len(before)
    header = (tmp_path / "history.csv").read_text().splitlines()[0]
    assert "mae" in header
    assert ("group_or_next" in header) == (name == "levi-hassner")


def test_the_best_weights_are_kept_not_the_last(tmp_path: Path) -> None:
    network = SsrNets()
    best = networks.Best(network)
    best.take(network, 7.0, 1)
    kept = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with torch.no_grad():
        network.age.fusions[0].weight += 1  # pyright: ignore
    best.take(network, 8.0, 2)
    assert (best.mae, best.epoch) == (7.0, 1)
    assert_array_equal(best.weights["age.fusions.0.weight"], kept["age.fusions.0.weight"])


def test_an_age_between_groups_is_of_the_nearer_one() -> None:
    ages = np.array([0, 3, 7, 13, 22, 23, 36, 57, 99], np.float32)
    assert networks.nearest_groups(ages).tolist() == [0, 0, 1, 2, 3, 4, 5, 7, 7]


def test_crops_are_cut_inside_and_mirrored_half_of_the_time() -> None:
    picture = np.arange(10, dtype=np.uint8)[None, :, None].repeat(10, 0).repeat(3, 2)
    rng = np.random.default_rng(0)
    crops = [networks.cut_anywhere(picture, 8, rng)[0, :, 0].astype(int) for _ in range(200)]
    assert {int(crop.min()) for crop in crops} == {0, 1, 2}
    rising = np.mean([crop[1] > crop[0] for crop in crops])
    assert 0.4 < rising < 0.6


CALIBRATION = Calibration(knots=(30.0,), shifts=(2.0,), years=(0.0, 90.0), marks=(0.0, 60.0), slope=2.0, offset=-0.5)


@pytest.mark.parametrize(("name", "crops"), [("mobilenetv2", 10), ("ssrnet", 10), ("levi-hassner", 1)])
def test_what_is_written_loads_as_an_estimator_that_says_the_same(name: str, crops: int, tmp_path: Path) -> None:
    torch.manual_seed(2)
    network = build_classic(name, crops).eval()
    path = tmp_path / "0123abcd"
    ClassicFile(name=name, crops=crops, calibration=CALIBRATION).write(path, network)
    pictures = np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3), np.uint8)
    stored = torch.from_numpy(UTKFACE.cut(pictures, network.stored_px))
    with torch.inference_mode():
        means, spreads, logits, *shares = (output.numpy() for output in network(stored))
    estimates = load_estimator("network", {"path": path}, batch=2, device="cpu", half=False)(pictures)
    assert_allclose(estimates.ages, CALIBRATION.age(means), atol=0.2)
    assert_allclose(estimates.age_stds, CALIBRATION.age_error(means, spreads)[0], atol=0.2)
    assert_allclose(estimates.female_probs, CALIBRATION.female_prob(logits), atol=5e-3)
    if name == "ssrnet":  # a single number
        assert (shares, estimates.age_dists) == ([], None)
        return
    assert estimates.age_dists is not None
    assert_allclose(estimates.age_dists.sum(axis=1), 1, atol=0.01)
    middles = np.arange(5, 125, 10)
    assert_allclose(estimates.age_dists @ middles, estimates.ages, atol=6)


def test_the_middle_is_judged_and_ages_are_expectations() -> None:
    network = build_classic("mobilenetv2").eval()
    pictures = torch.from_numpy(faces(2, network.stored_px).pictures)
    cut = pictures[:, 6:102, 6:102].permute(0, 3, 1, 2).float()
    with torch.inference_mode():
        ages, genders = network.outputs(cut)
        means, _, logits, shares = network(pictures)
    assert_allclose(shares, functional.softmax(ages, 1), rtol=1e-5)
    shares = shares.numpy()
    assert_allclose(means, shares @ np.arange(101), rtol=1e-4)
    assert_allclose(logits, (genders[:, 1] - genders[:, 0]).numpy(), rtol=1e-4, atol=1e-6)


def test_ten_crops_are_four_corners_the_middle_and_their_mirror_images() -> None:
    """The network averages probabilities over ten crops of a picture of 256 px. The order of the crops does not
    matter."""
    network = build_classic("levi-hassner").eval()
    picture = faces(1, 256).pictures
    pictures = np.concatenate([picture, picture[:, ::-1], picture[:, :, ::-1]])
    with torch.inference_mode():
        means, _, logits, shares = network(torch.from_numpy(pictures.copy()))
        views, ages = [], []
        for top, left in ((0, 0), (0, 29), (29, 0), (29, 29), (14, 14)):
            crop = torch.from_numpy(picture[:, top : top + 227, left : left + 227].copy()).permute(0, 3, 1, 2).float()
            for view in (crop, crop.flip(3)):
                views.append(functional.softmax(network.outputs(view)[1], 1).numpy())
                ages.append(functional.softmax(network.outputs(view)[0], 1).numpy())
    mean = np.mean(views, axis=0)[0]
    assert logits[0].item() == pytest.approx(np.log(mean[1] / mean[0]), abs=1e-3)
    assert_allclose(shares[0], np.mean(ages, axis=0)[0], atol=1e-4)
    assert means[2].item() == pytest.approx(means[0].item(), abs=0.1)  # the middle crop is half a pixel off


def test_imagenet_weights_fill_the_trunk_and_only_where_there_are_any(tmp_path: Path) -> None:
    import torchvision

    torch.manual_seed(5)
    theirs = torchvision.models.mobilenet_v2(weights=None).state_dict()
    path = tmp_path / "mobilenet_v2-abcd.pth"
    torch.save(theirs, path)
    network = read_imagenet(build_classic("mobilenetv2"), path)
    assert isinstance(network, Torchvision)
    assert_array_equal(network.trunk.state_dict()["features.18.0.weight"], theirs["features.18.0.weight"])
    assert all(parameter.requires_grad for parameter in network.parameters())
    with pytest.raises(UserError, match="only inceptionv3 and mobilenetv2"):
        read_imagenet(build_classic("ssrnet"), path)
    with pytest.raises(UserError, match="do not fit"):
        read_imagenet(build_classic("inceptionv3"), path)


def test_a_file_of_something_else_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(UserError, match="are no network of `rollcall train networks`") as caught:
        load_classic(path)
    assert "\n" not in str(caught.value)
