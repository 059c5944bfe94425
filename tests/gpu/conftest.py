"""Tests that need a GPU. Without one they are skipped, and the reason is shown."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pipeline.models.gpu import has_gpu
from tests.gpu.cases import MADE

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            item.add_marker(pytest.mark.skipif(not has_gpu(), reason="needs a GPU that torch can use"))


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that returns the path of a checkpoint of MADE."""
    folder = tmp_path_factory.mktemp("checkpoints")

    def path(name: str) -> Path:
        if not (folder / name).exists():
            MADE[name](folder / name)
        return folder / name

    return path


@pytest.fixture(scope="session", autouse=True)
def as_in_a_run() -> None:
    """Set what pipeline.models.loading sets, with more threads for the results of the CPU."""
    torch.set_num_threads(4)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
