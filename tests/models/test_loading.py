import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import load
from pipeline.errors import UserError
from pipeline.models import loading
from pipeline.models.loading import Loader
from pipeline.weights import Registry

CODE = """
import sys
import numpy as np
from pipeline.config import load
from pipeline.models.loading import Loader
from pipeline.chunk.observe import SpanObserver
from pipeline.video.track import track_part
from pipeline.weights import Registry
config = load(profile="starter").on_device("cpu")
models = Loader(config, Registry.of(config, lambda uri: iter(())))
picture = np.full((160, 120, 3), 127, np.uint8)
models.person_detector()([picture])
models.body_embedder()(np.zeros((1, 256, 128, 3), np.uint8))
models.face_check()([picture])
models.face_detector()([picture])
models.estimator()
print(*sys.modules)
"""


def test_workers_do_not_load_what_they_have_no_use_for() -> None:
    """They load neither torch's compiler and what it needs alone, nor the export to ONNX, nor Ray (which starts them if
    it runs), nor the face restorer, which is off, nor what downloads weights."""
    result = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    loaded = set(result.stdout.split())
    assert {"torch", "torchvision", "boxmot", "ultralytics"} <= loaded
    assert not loaded & {"torch._dynamo", "sympy", "triton", "ray", "gfpgan", "basicsr"}
    assert not loaded & {"torch._decomp", "torch.onnx", "requests"}


def test_the_compiler_is_whole_when_an_optimizer_asks_for_it() -> None:
    """The shape of a convolution without data comes from what torch registers for its compiler."""
    code = """
from pipeline.models import lean
import sys, torch
from torch._subclasses import FakeTensorMode
layer = torch.nn.Linear(3, 2)
optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
before = layer.bias.clone()
layer(torch.ones(1, 3)).sum().backward()
optimizer.step()
with FakeTensorMode():
    shape = torch.nn.functional.conv2d(torch.ones(1, 1, 5, 5), torch.ones(1, 1, 3, 3)).shape
print((before - layer.bias).round().tolist(), tuple(shape), "torch._dynamo" in sys.modules)
print(hasattr(torch._meta_registrations, "meta_conv"), lean._is_compile_supported("cpu"))
"""
    printed = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert printed.split("\n")[:2] == ["[1.0, 1.0] (1, 1, 3, 3) True", "True True"]


SQUARE = {"input": {"size": 8}}


@pytest.mark.parametrize(
    ("knob", "kind", "options", "loading"),
    [
        ("observe.detector.weights", "yolo", None, "person_detector"),
        ("observe.body.weights", "onnx-body-embedder", SQUARE, "body_embedder"),
        ("candidates.look", "retinaface-mobile0.25", None, "face_check"),
        ("faces.detector", "yunet", None, "face_detector"),
        ("restore.weights", "gfpgan", None, "restorer"),
        ("estimate.estimator", "onnx-estimator", SQUARE | {"gender": {"output": "g", "form": "logits"}}, "estimator"),
        ("estimate.face_embedding", "onnx-face-embedder", SQUARE, "face_embedder"),
    ],
)
def test_a_file_that_is_no_model_is_refused_with_the_name_of_its_entry(
    knob: str, kind: str, options: Any, loading: str, tmp_path: Path
) -> None:
    path = tmp_path / "text.bin"
    path.write_text("hello, this is no model")
    entry = {"kind": kind, "uri": str(path), "licence": "MIT", "note": "Made here.", "options": options}
    extra = json.dumps({"mine": entry})
    knobs = [f"{knob}=mine", "restore.mode=always", f"weights.extra={extra}", f"weights.cache={tmp_path}"]
    config = load(settings=knobs, profile="starter").on_device("cpu")
    loader = Loader(config, Registry.of(config, lambda _: iter(())))
    with pytest.raises(UserError, match=rf"^registry entry mine: weights {re.escape(str(path))} .*; ") as refusal:
        getattr(loader, loading)()
    assert "weights pull" not in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_worker_with_another_card_than_that_of_the_keys_refuses_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "card", lambda: "sm_89 58 torch 2.11.0 cudnn 9.19")
    config = load(profile="starter").on_device("cuda", "sm_90 132 torch 2.11.0 cudnn 9.19")
    with pytest.raises(UserError, match=r"must be the card of every machine, sm_89 .* on this one, got sm_90 132"):
        Loader(config, Registry.of(config, lambda uri: iter(())))
