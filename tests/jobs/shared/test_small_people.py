"""The hint after a run on people who are small in the picture."""

from pathlib import Path

import pytest

from jobs.shared.small_people import small_people
from pipeline.config import Config, load
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.store import Store
from tests.builders import Film, Walker, publish


def hint_of(tmp_path: Path, config: Config, *, width: int) -> str | None:
    """Return the hint for a film of one walker whose box is 200 px high, as if its picture were `width` px wide."""
    publish(Film(2.0, [Walker(0, 2, x=20)]), [], str(tmp_path))
    store = Store(str(tmp_path))
    rows = [row | {"width": width} for row in OutputIndex.load(store).videos.values()]
    return small_people(store, rows, config)


def test_people_who_are_small_for_the_detector_are_told_once_with_what_sees_them(tmp_path: Path) -> None:
    hint = hint_of(tmp_path, load(profile="starter"), width=40_000)
    assert hint is not None
    assert "100% of the people seen are lower than 40 px" in hint
    assert "--set observe.detector.image_size=960 or --profile full sees more of them" in hint


def test_nothing_is_said_of_people_who_are_large_enough_or_where_there_are_none(tmp_path: Path) -> None:
    assert hint_of(tmp_path, load(profile="starter"), width=640) is None
    assert small_people(Store(str(tmp_path)), [], load(profile="starter")) is None


@pytest.mark.parametrize("size", [1920])
def test_nothing_is_said_where_nothing_would_help(tmp_path: Path, size: int) -> None:
    config = load(settings=[f"observe.detector.image_size={size}"], profile="full")
    assert hint_of(tmp_path, config, width=40_000) is None
