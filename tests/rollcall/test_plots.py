"""Plots show what is in the tables, the uncertainty of ages included."""

from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.patches import Rectangle

import rollcall
from rollcall import plots
from tests.builders import Film, Walker, publish

FILM = Film(
    4.0,
    [
        Walker(0, 4, x=20, look=1, age=30.0),
        Walker(0, 4, x=200, look=3, age=50.0, female_prob=0.02),
        Walker(1, 3, x=400, look=2),
    ],
    cuts=[2.0],
)


@pytest.fixture(autouse=True)
def closed_figures() -> Iterator[None]:
    mpl.use("Agg")
    yield
    pyplot.close("all")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> rollcall.Output:
    folder = tmp_path_factory.mktemp("film")
    publish(FILM, [1, 3], str(folder))
    return rollcall.read(folder)


def test_a_timeline_has_a_bar_for_every_tracklet_and_a_row_for_every_person(run: rollcall.Output) -> None:
    ax = run.plot_timeline()
    persons, tracklets = run.persons(), run.tracklets()
    bars = [path for collection in ax.collections for path in collection.get_paths()]
    assert len(bars) == len(tracklets)
    starts = sorted(np.asarray(path.vertices)[:, 0].min() for path in bars)
    assert starts == pytest.approx(sorted(tracklets["start_s"]))
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert len(labels) == len(persons) == 3
    assert [label.endswith("no age") for label in labels] == list(persons["age"].isna())
    assert ax.get_title() == "v.mp4"
    assert len(ax.lines) == len(run.shots()) - 1


def test_ages_add_up_to_the_persons_who_have_one(run: rollcall.Output) -> None:
    ax = run.plot_ages()
    assert sum(bar.get_height() for bar in ax.patches if isinstance(bar, Rectangle)) == pytest.approx(2.0)
    assert "1 without an age" in ax.get_title()
    assert (legend := ax.get_legend()) is not None
    assert {text.get_text() for text in legend.get_texts()} == {"male: 1", "female: 1"}


def test_a_plot_is_drawn_on_the_axes_that_are_given(run: rollcall.Output) -> None:
    _, (left, right) = pyplot.subplots(1, 2)
    assert run.plot_timeline("v.mp4", ax=left) is left
    assert run.plot_ages(ax=right) is right


def test_an_age_is_spread_over_its_interval_and_over_nothing_else() -> None:
    person = {"age": 30.0, "age_low": 25.0, "age_high": 35.0}
    shares = plots.spread(person, np.array([0.0, 25.0, 35.0, 100.0]))
    assert shares == pytest.approx([0.1, 0.8, 0.1], abs=0.001)
    assert plots.spread({"age": 3.0, "age_low": 0.0, "age_high": 9.0}, np.array([0.0, 50.0])).sum() == 1.0


def test_an_output_without_persons_has_empty_plots(tmp_path: Path) -> None:
    publish(Film(2.0, []), [], str(tmp_path))
    run = rollcall.read(tmp_path)
    assert not run.plot_timeline().collections
    assert "0 persons" in run.plot_ages().get_title()


def test_a_missing_matplotlib_is_named_with_its_remedy(run: rollcall.Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(rollcall.UserError, match=r"pip install 'rollcall\[plots\]'"):
        run.plot_ages()
