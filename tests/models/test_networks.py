from pathlib import Path

import numpy as np
import pytest
import torch
from facenet_pytorch import InceptionResnetV1
from facexlib.detection.retinaface import RetinaFace as FacexlibRetinaFace
from numpy.testing import assert_array_equal
from retinaface.model.retinaface_pth_model import RetinaFace as RetinaFaceR50

from pipeline.errors import UserError
from pipeline.models import networks
from pipeline.models.body_embedder import build_osnet
from pipeline.models.mobilefacenet import MobileFaceNet
from pipeline.models.networks import Runner, fill, for_inference, halve, read_checkpoint, read_facts, write_checkpoint


def test_a_safetensors_file_is_known_by_its_bytes_and_says_what_it_is(tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    path = tmp_path / "no-suffix"
    write_checkpoint(path, network.state_dict(), {"kind": "test", "sizes": [3, 2]}, half=True)
    state = read_checkpoint(path)
    assert state["0.weight"].dtype == torch.float16
    assert state["1.num_batches_tracked"].dtype == torch.int64
    assert read_facts(path) == {"kind": "test", "sizes": [3, 2]}
    filled = fill(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)), state, path)
    weight = filled.state_dict()["0.weight"]
    assert weight.dtype == torch.float32
    assert_array_equal(weight, network.state_dict()["0.weight"].half().float())
    assert [each.name for each in tmp_path.iterdir()] == ["no-suffix"]


def test_a_file_of_torch_says_nothing_of_itself(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "file")
    assert read_facts(tmp_path / "file") == {}
    assert_array_equal(read_checkpoint(tmp_path / "file")["a"], torch.ones(2))


@pytest.mark.parametrize(
    "content", [b"", b"\x08\0\0\0\0\0\0\0{broken}", b"PK\x03\x04 and no more", b"hello, this is text", b"M"]
)
def test_what_cannot_be_read_is_told_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(UserError, match=r"file cannot be read .*get the file again") as caught:
        read_checkpoint(tmp_path / "file")
    assert "\n" not in str(caught.value)


class Headed(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU())
        self.heads = torch.nn.ModuleList([torch.nn.Linear(8, 4), torch.nn.Linear(8, 2)])

    def forward(self, pictures: torch.Tensor) -> list[torch.Tensor]:
        features = self.body(pictures).mean((2, 3))
        assert features.dtype == self.body[0].weight.dtype
        return [head(features) for head in self.heads]


def test_half_weights_are_stored_as_such_and_norms_and_heads_are_not() -> None:
    torch.manual_seed(0)
    whole, half = (Headed().eval().requires_grad_(False) for _ in range(2))
    half.load_state_dict(whole.state_dict())
    halve(half, "heads")
    halved = {name for name, tensor in half.state_dict().items() if tensor.dtype == torch.float16}
    assert halved == {"body.0.weight", "body.0.bias"}
    pictures = torch.rand(2, 3, 8, 8)
    for one, other in zip(whole(pictures), half(pictures), strict=True):
        assert other.dtype == torch.float32
        assert 0 < (one - other).abs().max() < 0.01


@pytest.mark.parametrize(
    ("on_card", "samples_a_pass", "passes"),
    [
        (True, 1, [1] * 12),
        (True, 2, [2] * 6),
        (True, 4, [2] * 6),
        (True, 8, [2] * 6),
        (True, 6, [6] * 2),
        (False, 2, [6] * 2),
    ],
)
def test_a_network_whose_rows_depend_on_their_place_takes_few_samples_a_pass_on_a_card_and_equally_many_in_each(
    monkeypatch: pytest.MonkeyPatch, on_card: bool, samples_a_pass: int, passes: list[int]
) -> None:
    sizes = []

    def forward(samples: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        sizes.append(len(samples))
        return samples.float() * 2, samples.sum(dim=1)

    monkeypatch.setattr(networks, "is_card", lambda device: on_card)
    run = Runner(forward, batch=6, device="cpu", half=False, samples_a_pass=samples_a_pass)
    samples = np.arange(24, dtype=np.uint8).reshape(8, 3)
    doubled, sums = run(samples)
    assert_array_equal(doubled, samples * np.float32(2))
    assert_array_equal(sums, samples.sum(axis=1))
    assert sizes == passes


def some_network(name: str) -> tuple[torch.nn.Module, torch.Tensor]:
    """Return a network that is folded, and an input of it."""
    if name == "osnet":
        return build_osnet("osnet_x0_25"), torch.randn(1, 3, 256, 128)
    if name == "retinaface-mobile0.25":
        return FacexlibRetinaFace("mobile0.25", device=torch.device("cpu")), torch.randn(1, 3, 96, 96)
    if name == "retinaface-r50":
        return RetinaFaceR50(), torch.randn(1, 64, 64, 3)
    if name == "facenet":
        return InceptionResnetV1(), torch.randn(1, 3, 96, 96)
    return MobileFaceNet(), torch.randn(1, 3, 112, 96)


@pytest.mark.parametrize("name", ["osnet", "retinaface-mobile0.25", "retinaface-r50", "facenet", "mobilefacenet"])
def test_preparing_a_network_changes_no_more_than_rounding_and_leaves_no_slow_convolution(name: str) -> None:
    torch.manual_seed(0)
    network, inputs = some_network(name)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)  # pyright: ignore[reportOptionalMemberAccess]
            module.running_var.uniform_(0.5, 2)  # pyright: ignore[reportOptionalMemberAccess]
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.1)
    network.eval()
    with torch.inference_mode():
        before = network(inputs)
        norms = sum(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())
        after = for_inference(network, "cpu")(inputs)
        with torch.profiler.profile() as operators:
            network(torch.cat([inputs, inputs]))  # torch has another rule for very small inputs
    assert not any("slow_conv" in operator.key for operator in operators.key_averages())
    pairs = zip(before, after, strict=True) if isinstance(before, tuple | list) else [(before, after)]
    for plain, folded in pairs:
        torch.testing.assert_close(folded, plain, rtol=1e-3, atol=1e-4 * float(plain.abs().max()))
    assert sum(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules()) < norms / 2
