"""Tests of the chart library of the page, and of its place in the user's cache."""

from pathlib import Path

import pytest
import vl_convert

from pipeline.report.library import chart_library


@pytest.fixture
def bundles(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Make bundles of a few bytes. Return those that were made."""
    made: list[str] = []

    def bundle(snippet: str) -> str:
        made.append(snippet)
        return f"'</script>';{snippet}"

    monkeypatch.setattr(vl_convert, "javascript_bundle", bundle)
    return made


def test_the_library_is_made_once_and_cannot_end_its_element(
    bundles: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert chart_library() == chart_library() == "'<\\/script>';window.vegaEmbed=vegaEmbed;"
    assert len(bundles) == 1
    assert [path.suffix for path in (tmp_path / "rollcall").iterdir()] == [".js"]


def test_a_cache_that_cannot_be_written_is_not_needed(
    bundles: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert "vegaEmbed" in chart_library()
    assert len(bundles) == 1
