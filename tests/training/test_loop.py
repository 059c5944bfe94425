from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from pipeline.errors import UserError
from pipeline.training import loop
from pipeline.training.loop import (
    CHECKPOINT,
    Progress,
    Run,
    Schedule,
    ahead,
    averaged,
    cosine,
    decayed,
    seed,
    set_rate,
)


def train(folder: Path, epochs: int, stop_after: int | None = None) -> nn.Linear:
    """Run a tiny training with noise in it, so that resuming needs the state of everything."""
    seed(0)
    network = nn.Linear(3, 1)
    average = averaged(network, 0.9)
    optimizer = torch.optim.AdamW(decayed(network, 0.1))
    run = Run(folder, {"epochs": epochs})
    progress = run.resume(network=network, average=average, optimizer=optimizer)
    while progress.epoch < epochs and progress.epoch != stop_after:
        set_rate(optimizer, 0.1, cosine(progress.epoch / epochs, warm_up=0.2))
        loss = network(torch.randn(4, 3)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        average.update_parameters(network)
        progress.epoch += 1
        run.save(progress, {"loss": float(loss.detach())}, network=network, average=average, optimizer=optimizer)
    inner = average.module
    assert isinstance(inner, nn.Linear)
    return inner


def test_a_run_that_was_killed_ends_as_one_that_was_not(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", 6)
    train(tmp_path / "broken", 6, stop_after=2)
    again = train(tmp_path / "broken", 6)
    assert torch.equal(whole.weight, again.weight)
    for name in ("history.csv",):
        assert (tmp_path / "whole" / name).read_text() == (tmp_path / "broken" / name).read_text()
    assert (tmp_path / "whole" / "history.png").read_bytes().startswith(b"\x89PNG")


def test_another_recipe_does_not_go_on(tmp_path: Path) -> None:
    train(tmp_path, 2)
    with pytest.raises(UserError, match=r"other settings \(epochs\)"):
        train(tmp_path, 3)


def test_a_history_without_its_checkpoint_begins_anew(tmp_path: Path) -> None:
    train(tmp_path, 2)
    (tmp_path / CHECKPOINT).unlink()
    train(tmp_path, 2)
    assert len((tmp_path / "history.csv").read_text().splitlines()) == 3


def test_rows_after_the_checkpoint_are_written_again(tmp_path: Path) -> None:
    run = Run(tmp_path, {})
    for epoch, loss in ((1, 0.5), (2, 0.25), (2, 0.125)):
        run.save(Progress(epoch, 1.0), {"loss": loss})
    assert (tmp_path / "history.csv").read_text().splitlines()[1:] == ["1,1,0.5", "2,1,0.125"]


def test_the_rate_rises_falls_and_ends_low() -> None:
    shares = [cosine(done / 100, warm_up=0.1) for done in range(101)]
    assert shares[10] == max(shares) == 1
    assert shares[:11] == sorted(shares[:11])
    assert shares[10:] == sorted(shares[10:], reverse=True)
    assert shares[-1] == pytest.approx(0.01)


def test_only_weights_of_layers_decay() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    weights, rest = decayed(network, 0.1)
    assert [p.shape for p in weights["params"]] == [(2, 1, 3, 3)]
    assert (weights["weight_decay"], rest["weight_decay"], len(rest["params"])) == (0.1, 0, 3)


def test_the_average_forgets_its_first_weights() -> None:
    network = nn.Linear(1, 1, bias=False)
    average = averaged(network, 0.999)
    for value in [100.0] + [1.0] * 60:
        with torch.no_grad():
            network.weight.fill_(value)
        average.update_parameters(network)
    inner = average.module
    assert isinstance(inner, nn.Linear)
    assert 1 <= float(inner.weight) < 2


def test_a_run_that_fails_before_its_first_epoch_leaves_no_folder(tmp_path: Path) -> None:
    Run(tmp_path / "run", {}).resume()
    assert not (tmp_path / "run").exists()


def test_inputs_made_ahead_come_in_order() -> None:
    def square(task: int) -> tuple[torch.Tensor, float]:
        return torch.tensor([task, task]) ** 2, task / 2

    for workers in (0, 3):
        made = list(ahead(square, range(20), workers=workers))
        assert [(each[0].tolist(), each[1]) for each in made] == [([n * n, n * n], n / 2) for n in range(20)]


def test_a_training_is_done_by_epochs_or_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [Schedule(4).done(epoch) for epoch in (0, 1, 3.5, 4, 5)] == [0, 0.25, 0.875, 1, 1]
    now = 1000.0
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: now))
    half = Schedule(100, minutes=2, spent_s=30, began_s=now - 30)
    assert half.done(1) == pytest.approx(0.5)
    assert half.done(90) == 0.9
    assert Schedule(100, minutes=2, spent_s=100, began_s=now - 30).done(1) == 1
