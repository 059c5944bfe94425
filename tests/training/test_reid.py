from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from pipeline.models.body_embedder import BodyEmbedder, build_osnet
from pipeline.models.networks import write_checkpoint
from pipeline.training import reid, reid_crops, reid_losses
from pipeline.training.loop import Run

pytestmark = pytest.mark.usefixtures("no_plots")


def coloured(num_people: int, crops_each: int, seed: int = 0) -> reid_crops.People:
    """Return noisy crops of people whose clothes differ in colour, under two cameras."""
    rng = np.random.default_rng(seed)
    people = np.repeat(np.arange(num_people), crops_each)
    crops = np.empty((len(people), reid_crops.HEIGHT, reid_crops.WIDTH, 3), np.uint8)
    colours = rng.integers(0, 256, (num_people, 2, 3))
    for crop, person in zip(crops, people, strict=True):
        crop[:128], crop[128:] = colours[person]
        crop[:] = (crop.astype(int) + rng.integers(-20, 21, crop.shape)).clip(0, 255)
    return reid_crops.People(crops, people, np.arange(len(people)) % 2)


def teacher() -> torch.nn.Module:
    torch.manual_seed(9)
    return build_osnet(reid.ARCHITECTURE).eval().requires_grad_(False)


RECIPE = reid.ReidTrainingParams(epochs=2, people_per_batch=2, crops_per_person=2, staged=0.5)
NOBODY = np.zeros((0, reid_crops.HEIGHT, reid_crops.WIDTH, 3), np.uint8)


def trained(folder: Path, epochs_first: int | None) -> tuple[dict[str, torch.Tensor], str]:
    """Return the averaged weights and the history of a training that stops after `epochs_first` epochs and is
    resumed."""

    def start() -> tuple[reid.Trainer, Run]:
        trainer = reid.Trainer(coloured(3, 3), coloured(2, 2).crops, RECIPE, reid_crops.Augmentation(), teacher())
        return trainer, Run(folder, {"test": 1})

    if epochs_first:
        trainer, run = start()
        epochs = iter(range(epochs_first))
        stopped = trainer.figures

        def figures(held_out: reid_crops.People) -> dict[str, float]:
            if next(epochs, None) is None:
                raise KeyboardInterrupt
            return stopped(held_out)

        trainer.figures = figures  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            reid.train(trainer, run, coloured(2, 4, seed=5))
    trainer, run = start()
    network = reid.train(trainer, run, coloured(2, 4, seed=5))
    columns = [line.split(",")[2:] for line in (folder / "history.csv").read_text().splitlines()]
    return network.state_dict(), str(columns)


def test_a_run_that_goes_on_gives_what_an_unbroken_one_gives(tmp_path: Path) -> None:
    unbroken, history = trained(tmp_path / "a", None)
    resumed, same_history = trained(tmp_path / "b", 1)
    assert history == same_history
    assert "rank1" in history
    for name, tensor in unbroken.items():
        assert_array_equal(resumed[name], tensor, err_msg=name)


def test_what_is_written_embeds_as_the_network_does(tmp_path: Path) -> None:
    network = build_osnet(reid.ARCHITECTURE).eval()
    path = tmp_path / "0123abcd"  # the cache names files so
    write_checkpoint(path, network.state_dict(), {"architecture": reid.ARCHITECTURE}, half=True)
    crops = coloured(3, 1).crops
    with torch.inference_mode():
        expected = torch.nn.functional.normalize(network(reid_crops.samples(crops))).numpy()
    assert_allclose(BodyEmbedder(path, batch=2, device="cpu", half=False)(crops), expected, atol=2e-3)


def test_stages_make_up_the_network() -> None:
    network = teacher()
    samples = reid_crops.samples(coloured(2, 1).crops)
    x = samples
    for stage in reid_losses.stages_of(network):
        x = stage(x)
    assert_allclose(x.numpy(), network(samples).numpy(), atol=1e-5)


def test_losses_are_zero_where_nothing_is_left_to_learn() -> None:
    vectors = torch.tensor([[1.0, 0], [2, 0], [0, 3], [0, 1]])
    people = torch.tensor([0, 0, 1, 1])
    assert reid_losses.vector_loss(vectors, 5 * vectors).item() == pytest.approx(0, abs=1e-6)
    assert reid_losses.feature_loss(vectors, vectors).item() == 0
    assert reid_losses.triplet_loss(vectors, people, 0.3).item() == 0
    # The hardest pair counts. The two crops of one person lie at right angles, and the nearest other person is at
    # distance 0.
    mixed = torch.tensor([0, 1, 0, 1])
    assert reid_losses.triplet_loss(vectors, mixed, 0.3).item() == pytest.approx(2**0.5 + 0.3, abs=2e-3)


@pytest.mark.parametrize(
    ("settings", "whole"),
    [
        (reid_crops.Augmentation(occluded=1, erased=0, small=0, blurred=0), False),
        (reid_crops.Augmentation(occluded=0, erased=1, small=0, blurred=0), False),
        (reid_crops.Augmentation(occluded=0, erased=0, small=1, blurred=1), True),
        (reid_crops.Augmentation(occluded=0, erased=0, small=0, blurred=0), True),
    ],
)
def test_only_what_hides_something_makes_a_crop_less_than_whole(settings: reid_crops.Augmentation, whole: bool) -> None:
    rng = np.random.default_rng(0)
    crop, other = coloured(2, 1).crops
    before = crop.copy()
    for _ in range(20):
        spoilt, is_whole = reid_crops.student_view(crop, other, settings, rng)
        assert is_whole == whole
        assert spoilt.shape == crop.shape
        hidden = np.mean((spoilt != crop).any(axis=2))
        assert (hidden > 0) == bool(settings.occluded or settings.erased or settings.small)
        if settings.occluded:
            assert hidden <= settings.cover[1] + 0.01
    assert_array_equal(crop, before)


def test_each_person_comes_once_before_anybody_comes_again() -> None:
    names = np.repeat(np.arange(4), [1, 2, 5, 3])
    batches = reid._people_in_turn(names, RECIPE, np.random.default_rng(0))
    for _ in range(3):
        first, second = next(batches), next(batches)
        assert sorted({*names[first], *names[second]}) == [0, 1, 2, 3]
        assert len(first) == RECIPE.people_per_batch * RECIPE.crops_per_person


def small(boxes: list[list[float]]) -> NDArray[np.float32]:
    return np.array(boxes, np.float32)


def test_low_boxes_are_left_out() -> None:
    picture = np.full((100, 100, 3), 7, np.uint8)
    crops = reid_crops.crops_of([picture, picture], [small([[0, 0, 20, 80], [0, 0, 20, 30]]), small([[5, 5, 9, 50]])])
    assert crops.shape == (2, reid_crops.HEIGHT, reid_crops.WIDTH, 3)
    assert (crops == 7).all()
