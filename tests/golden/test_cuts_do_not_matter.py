"""People keep their ids over hard cuts, on a short film of real clips with the body embedding alone."""

from pathlib import Path

import pytest

from tests.bench.identity_over_cuts import Matches, Setup, follow, kept_film, truth_of
from tests.golden.by_hand import SHARED_WEIGHTS
from tests.shared import needs_shared

FILM = [
    ("street-backlit", 0, 2.6),
    ("TUD-Stadtmitte", 0, 2.2),
    ("multishot-anamorphic", 7, 9.2),
    ("street-backlit", 3, 5.6),
    ("TUD-Stadtmitte", 2.4, 4.6),
    ("multishot-anamorphic", 9.4, 11.6),
    ("street-backlit", 6, 8.6),
    ("TUD-Stadtmitte", 4.8, 7),
]


@needs_shared
@pytest.mark.slow
def test_cuts_do_not_matter(tmp_path: Path) -> None:
    setup = Setup([SHARED_WEIGHTS], [], tmp_path, faces=False)
    film = kept_film("short", FILM, tmp_path)
    tracks = follow(film, setup)
    assert tracks.num_shots == len(FILM)

    figures = Matches.of(film, tracks, truth_of(film, setup)).figures()
    assert figures["num_boxes"] > 2000
    assert figures["bare_recall"] < 0.6  # nobody's boxes lie in one segment
    assert figures["precision"] >= 0.97
    assert figures["recall"] >= 0.70
