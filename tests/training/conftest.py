import pytest
import torch


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out plots, which take longer than the training."""
    monkeypatch.setattr("pipeline.training.loop.plot_history", lambda *_: None)
