from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from pipeline.errors import UserError
from pipeline.models import face_restorer
from pipeline.models.face_restorer import FaceRestorer, GFPGANv1Clean, PictureUpsampler, RRDBNet, paste_faces

PX = 32
"""Side of the faces. The network of the release needs seconds for one of 512 px."""


@pytest.fixture(scope="module")
def restorer(tmp_path_factory: pytest.TempPathFactory) -> FaceRestorer:
    """Load a file in the layout of GFPGANv1.4.pth: the network of its release under `params_ema`, with random
    values, for smaller faces."""
    torch.manual_seed(1)
    network = GFPGANv1Clean(PX, 512, 2, None, False, 8, True, True, 1, True)
    for name, tensor in network.state_dict().items():
        if name.endswith("style_convs.0.weight") or name == "stylegan_decoder.style_conv1.weight":
            tensor.fill_(0.3)  # the strength of the noise, which is 0 without training
    path = tmp_path_factory.mktemp("weights") / "GFPGANv1.4.pth"
    torch.save({"params_ema": network.state_dict()}, path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(face_restorer, "FACE_PX", PX)
        loaded = FaceRestorer(path, batch=2, device="cpu", half=False)
    path.unlink()
    return loaded


@pytest.fixture(scope="module")
def upsampler_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a file in the layout of RealESRGAN_x2plus.pth, with random values that leave a picture recognisable."""
    torch.manual_seed(2)
    network = RRDBNet(num_in_ch=3, num_out_ch=3, num_feat=64, num_block=23, num_grow_ch=32, scale=2)
    network.state_dict()["conv_last.bias"].fill_(0.5)
    path = tmp_path_factory.mktemp("weights") / "RealESRGAN_x2plus.pth"
    torch.save({"params_ema": network.state_dict()}, path)
    return path


def noise(seed: int, *shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


def test_a_face_is_restored_alike_each_time_whatever_its_place_and_neighbours(restorer: FaceRestorer) -> None:
    """The network draws new noise at each call by default."""
    first, second = noise(0, PX, PX), noise(1, PX, PX)
    pair = restorer(np.stack([first, second]))
    alone = restorer(second[None])
    assert pair.shape == (2, PX, PX, 3)
    assert pair.dtype == np.uint8
    assert_array_equal(pair[1], alone[0])
    assert (pair[0] != pair[1]).any()
    assert restorer(np.zeros((0, PX, PX, 3), np.uint8)).shape == (0, PX, PX, 3)


def test_a_picture_is_twice_as_large_and_no_tile_shows(upsampler_file: Path) -> None:
    picture = noise(3, 50, 70)
    in_tiles = PictureUpsampler(upsampler_file, tile_px=40, batch=3, device="cpu", half=False)(picture)
    in_one = PictureUpsampler(upsampler_file, tile_px=100, batch=1, device="cpu", half=False)(picture)
    assert in_tiles.shape == in_one.shape == (100, 140, 3)
    assert np.abs(in_tiles.astype(int) - in_one).max() <= 1
    assert np.ptp(in_one) > 3


@pytest.mark.parametrize("tile_px", [20, 41])
def test_tiles_must_be_even_and_larger_than_their_borders(tile_px: int, upsampler_file: Path) -> None:
    with pytest.raises(ValueError, match="tile_px must be even and more than 20"):
        PictureUpsampler(upsampler_file, tile_px=tile_px, batch=1, device="cpu", half=False)


def test_faces_are_pasted_where_they_came_from_and_fade_into_the_picture() -> None:
    picture = np.full((100, 120, 3), 50, np.uint8)
    face = np.full((1, 80, 80, 3), 200, np.uint8)
    alignment = np.array([[[2.0, 0.0, -60.0], [0.0, 2.0, -40.0]]])  # the face's square is x 30..70, y 20..60
    pasted = paste_faces(picture, face, alignment)
    assert (pasted[28:52, 38:62] == 200).all()
    inside = np.zeros((100, 120), bool)
    inside[20:61, 30:71] = True
    assert_array_equal(pasted[~inside], picture[~inside])
    assert (np.diff(pasted[40, 29:36, 0].astype(int)) >= 0).all()
    assert 50 < pasted[40, 32, 0] < 200


def test_a_checkpoint_of_another_project_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"params": {}}, path)
    with pytest.raises(UserError, match=r"other\.pth hold no `params_ema`") as caught:
        PictureUpsampler(path, tile_px=64, batch=1, device="cpu", half=False)
    assert "\n" not in str(caught.value)
    torch.save({"params_ema": {"conv_first.weight": torch.zeros(1)}}, path)
    with pytest.raises(UserError, match="do not fit RRDBNet"):
        PictureUpsampler(path, tile_px=64, batch=1, device="cpu", half=False)
