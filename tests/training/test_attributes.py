from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from jobs.shared.pictures import read_picture as read
from pipeline.corpora import utkface
from pipeline.media.pictures import encode_jpeg
from pipeline.models.attributes import AttributeNet, load_attributes
from pipeline.training.attribute_inputs import (
    AttributeTrainingParams,
    Augmentation,
    LabelledFaces,
    batches,
    damage,
    label_distributions,
    mixing,
    side_of,
    view,
)
from pipeline.training.attributes import blended, finish, read_faces, settings_of, train, validate
from pipeline.training.loop import Run, Schedule

pytestmark = pytest.mark.usefixtures("no_plots")

PLAIN = Augmentation(
    degraded=0, erased=0, scale=(1, 1), aspect=0, degrees=0, shift=0, brightness=0, contrast=0, tint=0, grey=0
)
TINY = AttributeTrainingParams(epochs=3, batch=8, side_px=48, small_px=32, learning_rate=3e-3, ema=0.9)


def faces(count: int) -> LabelledFaces:
    """Return faces that are brighter with age. Women are red, men are blue."""
    rng = np.random.default_rng(0)
    ages = rng.integers(0, 100, count).astype(np.float32)
    is_female = rng.random(count) < 0.5
    pictures = np.empty((count, 64, 64, 3), np.uint8)
    pictures[:] = (60 + ages[:, None, None, None]) + rng.normal(0, 5, (count, 64, 64, 1))
    pictures[..., 0] += np.where(is_female, 60, 0).astype(np.uint8)[:, None, None]
    pictures[..., 2] += np.where(is_female, 0, 60).astype(np.uint8)[:, None, None]
    return LabelledFaces(pictures, ages, is_female)


def weights(network: AttributeNet) -> torch.Tensor:
    return torch.cat([values.flatten().float() for values in network.state_dict().values()])


def test_a_run_that_was_killed_ends_as_one_that_was_not(tmp_path: Path) -> None:
    class KilledError(Exception):
        pass

    def kill(done: int, figures: object) -> None:
        if done == 5:  # in the second epoch
            raise KilledError

    params = settings_of(TINY)
    whole = train(faces(32), faces(4), TINY, Run(tmp_path / "whole", params))
    with pytest.raises(KilledError):
        train(faces(32), faces(4), TINY, Run(tmp_path / "broken", params), kill)
    again = train(faces(32), faces(4), TINY, Run(tmp_path / "broken", params))
    assert_allclose(weights(again), weights(whole), rtol=1e-4, atol=1e-6)
    columns = (tmp_path / "whole/history.csv").read_text().splitlines()[0].split(",")
    assert {"loss", "mae", "gender_accuracy", "mae_32px"} <= set(columns)


EAGER = replace(TINY, epochs=10, dropout=0.0, mixed=0.0, smoothing=0.0, augmentation=PLAIN, side_px=32)


@pytest.fixture(scope="module")
def taught(no_plots: None, tmp_path_factory: pytest.TempPathFactory) -> AttributeNet:
    """Return a network that has learnt the ages and genders of `faces`."""
    return train(faces(64), faces(8), EAGER, Run(tmp_path_factory.mktemp("taught"), settings_of(EAGER)))


def test_ages_and_genders_are_learnt(taught: AttributeNet) -> None:
    figures = validate(taught, faces(64), 32)
    assert figures["gender_accuracy"] == 1
    assert figures["mae"] < 12  # always guessing the middle gives 25


def test_label_distributions_are_gaussians_that_widen_with_age() -> None:
    years = torch.arange(101.0)
    shares = label_distributions(torch.tensor([10.0, 60.0]), (1.0, 0.05))
    assert_allclose(shares.sum(1), 1, rtol=1e-5)
    means = shares @ years
    assert_allclose(means, [10, 60], atol=1e-3)
    stds = ((shares * (years - means[:, None]) ** 2).sum(1)).sqrt()
    assert_allclose(stds, [1.5, 4.0], rtol=1e-2)


def test_small_pictures_come_first() -> None:
    params = AttributeTrainingParams(epochs=10, small_share=0.4, small_px=64, side_px=96)
    assert [side_of(done, params) for done in (0, 0.39, 0.4, 0.9)] == [64, 64, 96, 96]


def test_augmentation_is_a_function_of_the_generator_and_varies() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    params = AttributeTrainingParams(augmentation=Augmentation(degraded=1, erased=1))
    crops = []
    for number in (1, 1, 2):
        rng = np.random.default_rng(number)
        crops.append(damage(view(picture, 48, params.augmentation, rng), params, rng))
    assert (crops[0].shape, crops[0].dtype) == ((48, 48, 3), np.uint8)
    assert_array_equal(crops[0], crops[1])
    assert (crops[0] != crops[2]).mean() > 0.5


def test_without_augmentation_a_crop_is_the_picture_or_its_mirror_image() -> None:
    picture = faces(1).pictures[0].copy()
    picture[:, :32] //= 2
    views = {view(picture, 64, PLAIN, np.random.default_rng(number)).tobytes() for number in range(9)}
    assert views == {picture.tobytes(), picture[:, ::-1].tobytes()}


def test_the_inputs_do_not_depend_on_the_number_of_workers() -> None:
    params = replace(TINY, passes=2)
    streams = [batches(faces(20), params, Schedule(params.epochs), 1, workers=workers) for workers in (0, 2)]
    count = 0
    for here, there in zip(*streams, strict=True):
        assert here.done == there.done
        assert all(torch.equal(mine, its) for mine, its in zip(here[:4], there[:4], strict=True))
        count += 1
    assert count == 2 * 5  # two of three epochs of 40 pictures


def test_a_student_learns_what_its_teachers_say(taught: AttributeNet, tmp_path: Path) -> None:
    wrong = replace(faces(64), ages=np.full(64, 50, np.float32), is_female=~faces(64).is_female)
    trusting = replace(EAGER, teacher_share=1.0)
    student = train(wrong, faces(8), trusting, Run(tmp_path, {}), teachers=[taught])
    assert validate(student, faces(64), 32)["gender_accuracy"] == 1


def test_a_training_may_begin_with_the_weights_of_another(tmp_path: Path) -> None:
    still = replace(TINY, epochs=1, learning_rate=0.0, small_share=0.0)
    torch.manual_seed(7)  # another one than a training begins with
    start = AttributeNet()
    ours, others = (
        train(faces(16), faces(4), still, Run(tmp_path / n, {}), start=s) for n, s in (("a", start), ("b", None))
    )
    assert_allclose(ours.heads.weight.detach(), start.heads.weight.detach(), atol=1e-6)
    assert (others.heads.weight != start.heads.weight).any()
    shown = {inputs.crops.shape[1] for inputs in batches(faces(16), still, Schedule(1), 0)}
    assert shown == {still.side_px}


def test_a_blend_lies_between_the_start_and_the_trained_weights() -> None:
    start, trained = AttributeNet(width=0.25), AttributeNet(width=0.25)
    mean = blended(start, trained, 0.75)
    for ours, theirs, between in zip(start.parameters(), trained.parameters(), mean.parameters(), strict=True):
        assert_allclose(between.detach(), 0.25 * ours.detach() + 0.75 * theirs.detach(), atol=1e-6)
    assert (trained.heads.weight != mean.heads.weight).any()


def test_mixing_keeps_most_of_a_picture() -> None:
    rng = np.random.default_rng(0)
    shares = np.array([mixing(AttributeTrainingParams(mixed=0.5), rng) for _ in range(400)])
    assert 0.4 < (shares == 1).mean() < 0.75
    assert shares.min() >= 0.5


def write_faces(folder: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    for number in range(count):
        texture = rng.integers(0, 256, (16, 16, 3), np.uint8).repeat(4, 0).repeat(4, 1)
        name = f"{rng.integers(0, 117)}_{number % 2}_0_2017{number:013d}.jpg.chip.jpg"
        (folder / name).write_bytes(encode_jpeg(texture, 95))


def test_faces_without_a_class_or_a_label_are_left_out(tmp_path: Path) -> None:
    write_faces(tmp_path, 40)
    table = utkface.load(tmp_path)
    table.loc[0, "gender"] = None
    known = read_faces(table, read)
    assert len(known) == (table["age"][1:] <= 100).sum() < 39
    assert known.pictures.shape[1:] == (160, 160, 3)


def test_what_is_written_is_calibrated_and_can_be_loaded(tmp_path: Path) -> None:
    write_faces(tmp_path, 24)
    table = utkface.load(tmp_path)
    torch.manual_seed(0)
    path = tmp_path / "it.safetensors"
    network = AttributeNet(width=1.25).eval()
    calibration = finish(network, TINY.side_px, table, read, path, mirrored=True, batch=4)
    loaded, file = load_attributes(path)
    assert loaded.width == 1.25
    assert (file.side_px, file.mirrored, file.calibration) == (48, True, calibration)
    assert any(shift != 0 for shift in calibration.shifts)
