from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from pipeline import rows
from pipeline.video import windows
from pipeline.video.reduce import reduce_video
from pipeline.video.track import track_part
from tests.builders import FPS, Film, Walker, job

CHUNK_S = 3
FILM = Film(6.0, [Walker(0.0, 6.0, x=20, look=1), Walker(1.3, 6.0, x=500, speed=-20, look=2)])


def test_a_column_that_observe_knows_is_copied_to_tracked_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`frame` is a field of rows.DETECTION: the index of the frame in its chunk."""
    schema = rows.DATASETS["detections"]
    monkeypatch.setitem(rows.DATASETS, "detections", schema.append(pa.field("frame", pa.int64())))
    monkeypatch.setattr(windows, "FRAMES_PER_WINDOW", 40)
    reduce_video(job(FILM, [CHUNK_S], str(tmp_path)), lambda parts: [track_part(part) for part in parts])
    table = pd.read_parquet(tmp_path / "detections")
    assert table["frame"].isna().tolist() == table["interpolated"].tolist()
    tracked = table[~table["interpolated"]]
    assert len(tracked) > 20
    frames = tracked["frame_num"] - 1
    assert tracked["frame"].tolist() == (frames - FPS * CHUNK_S * (frames >= FPS * CHUNK_S)).tolist()
