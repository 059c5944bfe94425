import subprocess
import sys

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
    """They load neither torch's compiler, nor Ray (which starts them if it runs), nor the face restorer, which is
    off."""
    result = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    loaded = set(result.stdout.split())
    assert {"torch", "torchvision", "boxmot", "ultralytics"} <= loaded
    assert not loaded & {"torch._dynamo", "sympy", "triton", "ray", "gfpgan", "basicsr"}


def test_the_compiler_is_there_when_it_is_asked() -> None:
    code = "from pipeline.models import lean; print(lean._is_compile_supported('cpu'))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "True"
