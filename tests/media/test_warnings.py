from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.media.probing import probe
from pipeline.media.warnings import DAMAGED, describe_warnings
from tests import clips


def test_warnings_name_stretches_and_not_single_cells(tmp_path: Path) -> None:
    probed = replace(probe(lambda: str(clips.make_clip(tmp_path / "a.mp4"))), promised_s=20.0)
    warning = describe_warnings(probed, [(cell, DAMAGED) for cell in (4, 3, 9, 3)], np.array([0, 12_260_000_000]), 1)
    assert warning == "damaged at 3 to 5 s, 9 to 10 s; ends early: 12.3 of 20.0 s"


def test_a_hole_in_the_clock_is_named(tmp_path: Path) -> None:
    probed = replace(probe(lambda: str(clips.make_clip(tmp_path / "a.mp4"))), promised_s=0.0)
    seconds = np.array([0, 0.04, 0.08, 7200.0, 7200.04])
    warning = describe_warnings(probed, [], (seconds * 1e9).astype(np.int64), 1)
    assert warning == "no picture at 0.1 to 7200.0 s: the clock jumps there"
    assert describe_warnings(probed, [], np.arange(20) * 600 * 10**9, 1) is None  # a picture every ten minutes
