"""MiVOLO reads the checkpoints of its authors, and a face and a body as they do."""

import re
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pipeline.config import load as config_of
from pipeline.errors import UserError
from pipeline.models.loading import Loader, load_estimator
from pipeline.models.mivolo import BODY_STD, BODY_SUREST, FACE_STD, MiVolo, build_mivolo
from pipeline.storage.blobs import fetch
from pipeline.weights import Registry, sha256_of

SIDE = 64
"""A small picture, so that the tests are quick. The layout is the same at 224 and 384 px."""
OFFICIAL = (
    r"cls_token|pos_embed|(norm|head|aux_head)\.(weight|bias)",
    r"patch_embed\.conv[12]\.[036]\.weight",
    r"patch_embed\.conv[12]\.[147]\.(weight|bias|running_mean|running_var|num_batches_tracked)",
    r"patch_embed\.proj[12]\.(weight|bias)",
    r"patch_embed\.map\.(qkv_[fp]\.weight|pos_embed\.(height|width)_rel|norm\.(weight|bias)|mlp\.fc[12]\.(weight|bias))",
    r"network\.0\.[0-3]\.(norm[12]\.(weight|bias)|attn\.(v\.weight|(attn|proj)\.(weight|bias)))",
    r"network\.[0-4]\.\d\.mlp\.fc[12]\.(weight|bias)",
    r"network\.1\.proj\.(weight|bias)",
    r"network\.[2-4]\.\d\.(norm[12]\.(weight|bias)|attn\.(qkv\.weight|proj\.(weight|bias)))",
    r"post_network\.[01]\.(norm[12]\.(weight|bias)|attn\.(kv|q)\.weight|attn\.proj\.(weight|bias)|mlp\.fc[12]\.(weight|bias))",
)
"""The names of the tensors in the authors' files: VOLO's of 2021 and those of mivolo_model.py and
cross_bottleneck_attn.py."""


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    torch.manual_seed(3)
    network = build_mivolo(SIDE)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.05)
    state = network.state_dict()
    for head in ("head", "aux_head"):
        state[f"{head}.weight"] *= 0.6
    state["head.bias"][2] += 0.5  # ages differ, and lie inside a life
    return state


def version_1(folder: Path, state: dict[str, Tensor], **changes: Any) -> Path:
    """Write a torch file as the authors' training does: numbers of numpy and arguments stand beside the tensors."""
    path = folder / "model_imdb_cross_person.pth.tar"
    facts = {"min_age": np.float64(1), "max_age": np.float64(95), "avg_age": 48.0, "no_gender": False}
    tensors = state | {"fds.running_mean_last_epoch": torch.zeros(3)}
    torch.save(facts | {"with_persons_model": True, "args": Namespace(lr=0.1), "state_dict": tensors} | changes, path)
    return path


def version_2(folder: Path, state: dict[str, Tensor]) -> Path:
    path = folder / "model.safetensors"
    safetensors.torch.save_file({f"mivolo.model.{name}": tensor for name, tensor in state.items()}, path)
    return path


def load(path: Path, batch: int = 4) -> MiVolo:
    estimator = load_estimator("mivolo", {"path": path}, batch=batch, device="cpu", half=False)
    assert isinstance(estimator, MiVolo)
    return estimator


def noise(count: int, height: int = 96, width: int = 96, seed: int = 0) -> NDArray[np.uint8]:
    """Return pictures of noise, each darker than the one before."""
    pictures = np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), np.uint8)
    return (pictures / np.arange(1, count + 1).reshape(-1, 1, 1, 1)).astype(np.uint8)


def test_the_tensors_have_the_names_of_the_official_files(state: dict[str, Tensor]) -> None:
    assert [name for name in state if not any(re.fullmatch(pattern, name) for pattern in OFFICIAL)] == []
    blocks = {int(name.split(".")[1]): 0 for name in state if name.startswith("network.")}
    for name in state:
        if found := re.match(r"network\.([0-4])\.(\d)\.norm1\.weight", name):
            blocks[int(found[1])] += 1
    assert blocks == {0: 4, 1: 0, 2: 4, 3: 8, 4: 2}
    assert state["patch_embed.map.qkv_f.weight"].shape == (576, 192, 1, 1)
    assert state["patch_embed.map.mlp.fc1.weight"].shape == (768, 384, 1, 1)
    assert state["patch_embed.map.norm.weight"].shape == (384, SIDE // 8, SIDE // 8)
    sides = {size: build_mivolo(size).state_dict()["pos_embed"].shape[1] for size in (224, 384)}
    assert sides == {224: 14, 384: 24}


def test_both_versions_give_the_same_output_on_their_scale_of_ages(state: dict[str, Tensor], tmp_path: Path) -> None:
    faces = noise(3)
    first, second = load(version_1(tmp_path, state)), load(version_2(tmp_path, state))
    ages_1, ages_2 = first(faces), second(faces)
    assert first.side_px == second.side_px == SIDE
    assert_array_equal(ages_1.female_probs, ages_2.female_probs)
    assert np.ptp(ages_1.ages) > 0.5
    outputs = (ages_1.ages.astype(np.float64) - 48) / 94
    assert_allclose(ages_2.ages, outputs * 122 + 61, atol=0.15)


def test_face_and_body_attend_to_each_other_as_in_the_paper(state: dict[str, Tensor]) -> None:
    network = build_mivolo(SIDE).eval()
    network.load_state_dict(state)
    attention: Any = network.patch_embed.map
    side, width = SIDE // 8, 192
    face, body = torch.randn(2, 1, width, side, side, generator=torch.Generator().manual_seed(1))

    def parts(maps: Tensor, name: str) -> list[NDArray[np.float64]]:
        weights = state[f"patch_embed.map.{name}.weight"][:, :, 0, 0].double().numpy()
        flat = weights @ maps[0].reshape(width, -1).double().numpy()
        return [flat[start : start + width].T for start in range(0, 3 * width, width)]

    def attend(queries: NDArray[np.float64], keys: NDArray[np.float64], values: NDArray[np.float64]) -> Any:
        vertical, horizontal = (
            state[f"patch_embed.map.pos_embed.{axis}_rel"].double().numpy() for axis in ("height", "width")
        )
        logits = queries @ keys.T * width**-0.5
        for i in range(side * side):
            for j in range(side * side):
                (y, x), (v, u) = divmod(i, side), divmod(j, side)
                logits[i, j] += queries[i] @ vertical[v - y + side - 1] + queries[i] @ horizontal[u - x + side - 1]
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        return (weights / weights.sum(axis=1, keepdims=True) @ values).T.reshape(1, width, side, side)

    (q_f, k_f, v_f), (q_p, k_p, v_p) = parts(face, "qkv_f"), parts(body, "qkv_p")
    joined = torch.from_numpy(np.concatenate([attend(q_f, k_p, v_p), attend(q_p, k_f, v_f)], axis=1)).float()
    with torch.inference_mode():
        normed = functional.layer_norm(
            joined, attention.norm.normalized_shape, attention.norm.weight, attention.norm.bias
        )
        assert_allclose(attention(face, body).numpy(), attention.mlp(normed).numpy(), atol=1e-4)


def test_a_missing_part_is_a_black_picture(state: dict[str, Tensor], tmp_path: Path) -> None:
    estimator = load(version_2(tmp_path, state))
    face, body, black = noise(1)[0], noise(1, 120, 50, seed=1)[0], np.zeros((64, 64, 3), np.uint8)
    explicit = estimator.judge([face, black, face], [black, body, body])
    missing = estimator.judge([face, None, face], [None, body, body])
    assert_array_equal(explicit.ages, missing.ages)
    assert len(set(missing.ages.tolist())) == 3
    assert_array_equal(missing.ages[:1], estimator(face[None]).ages)


def test_a_body_alone_is_less_sure_than_a_face(state: dict[str, Tensor], tmp_path: Path) -> None:
    tensors = state | {"head.bias": torch.tensor([-50.0, 50.0, 0.0])}
    estimates = load(version_2(tmp_path, tensors)).judge([noise(1)[0], None], [None, noise(1, 120, 50)[0]])
    assert_allclose(estimates.age_stds, [FACE_STD, BODY_STD])
    assert estimates.female_probs[0] > estimates.female_probs[1] == pytest.approx(BODY_SUREST)


def test_the_second_output_is_the_woman(state: dict[str, Tensor], tmp_path: Path) -> None:
    man = load(version_2(tmp_path, state | {"head.bias": torch.tensor([50.0, -50.0, 0.0])}))
    assert (man(noise(2)).female_probs < 0.01).all()


def test_an_estimate_does_not_depend_on_its_neighbours(state: dict[str, Tensor], tmp_path: Path) -> None:
    estimator = load(version_2(tmp_path, state), batch=3)
    faces = noise(5)
    together = estimator(faces).ages
    assert_array_equal(together, [estimator(faces[i : i + 1]).ages[0] for i in range(5)])


def test_checkpoints_of_faces_alone_are_read_with_and_without_gender(tmp_path: Path) -> None:
    torch.manual_seed(1)
    for outputs in (1, 3):
        tensors = build_mivolo(SIDE, outputs=outputs, reads_bodies=False).state_dict()
        estimator = load(version_1(tmp_path, tensors, no_gender=outputs == 1, with_persons_model=False))
        assert not estimator.reads_bodies
        estimates = estimator(noise(2))
        assert np.isfinite(estimates.ages).all()
        assert np.isnan(estimates.female_probs).all() == (outputs == 1)


def test_a_checkpoint_of_faces_alone_is_refused_where_bodies_are_asked_for(tmp_path: Path) -> None:
    tensors = build_mivolo(SIDE, reads_bodies=False).state_dict()
    entry = {"kind": "mivolo", "uri": str(version_1(tmp_path, tensors)), "licence": "MIT"}
    config = config_of(settings=["estimate.estimator=mine", "estimate.uses=both"]).on_device("cpu")
    entry |= {"sha256": sha256_of(Path(entry["uri"]))}
    config = config.model_copy(update={"weights": config.weights.model_copy(update={"extra": {"mine": entry}})})
    with pytest.raises(UserError, match=r"estimate\.uses=both needs .* the file of mine reads faces alone"):
        Loader(config, Registry.of(config, fetch)).estimator()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"state_dict": {}}, "hold no VOLO"),
        ({"max_age": None}, "do not state the scale of their ages"),
        ({"max_age": -5}, "do not state the scale of their ages.*from 1 to -5 years"),
    ],
)
def test_a_file_of_another_network_is_refused_in_one_line(
    changes: dict[str, Any], message: str, state: dict[str, Tensor], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message) as error:
        load(version_1(tmp_path, state, **changes))
    assert "\n" not in str(error.value)


def test_a_tensor_of_another_shape_is_named(state: dict[str, Tensor], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"do not fit VOLO .*patch_embed\.map\.norm\.weight"):
        load(version_1(tmp_path, {k: v for k, v in state.items() if k != "patch_embed.map.norm.weight"}))
