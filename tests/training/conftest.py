from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def no_plots() -> Iterator[None]:
    """Leave out plots, which take longer than the training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.training.loop.plot_history", lambda *_: None)
        yield
