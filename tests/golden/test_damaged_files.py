"""Hundreds of damaged files in one run: none crashes or hangs it, and none harms another file."""

from pathlib import Path

import pandas as pd
import pytest

from tests.clips import make_clip, picture_file
from tests.commands import rollcall
from tests.damage import damaged

pytestmark = pytest.mark.slow
PER_SOURCE = 27
SEED = 12
TABLES = ("shots", "tracklets", "detections", "persons", "faces", "links")
SETTINGS = ("--set", "observe.fps=2", "--set", "run.chunk_deadline_s=120")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with sound files of many containers and codecs."""
    folder = tmp_path_factory.mktemp("sound")
    make_clip(folder / "a.mp4", seconds=2, b_frames=2)
    make_clip(folder / "b.mkv", seconds=2, codec="libx265")
    make_clip(folder / "c.webm", seconds=2, codec="libvpx-vp9")
    make_clip(folder / "d.ts", seconds=2, codec="mpeg2video")
    make_clip(folder / "e.avi", seconds=2, codec="mpeg4")
    make_clip(folder / "f.mov", seconds=2, codec="mjpeg", sound_s=2)
    picture_file(folder / "g.jpg")
    picture_file(folder / "h.png")
    return folder


def test_damaged_files_end_done_or_with_a_reason_and_harm_no_neighbour(sound: Path, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    paths = [path for source in sorted(sound.iterdir()) for path in damaged(source, archive, PER_SOURCE, SEED)]
    assert len(paths) >= 200
    for source in sound.iterdir():
        (archive / source.name).write_bytes(source.read_bytes())
    done = rollcall("process", archive, "--output", tmp_path / "out", *SETTINGS)
    assert done.returncode == 3, done.stdout[-2000:] + done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    sources = pd.read_parquet(tmp_path / "out" / "sources")
    assert len(sources) == len(paths) + len(list(sound.iterdir()))
    assert set(sources.status) == {"done", "quarantined"}
    given_up = sources[sources.status == "quarantined"]
    assert given_up.reason.str.len().gt(0).all()
    assert not given_up.reason.str.contains("worker died|a bug").any(), given_up[["uri", "reason"]].to_string()
    assert rollcall("process", sound, "--output", tmp_path / "alone", *SETTINGS).returncode == 0
    for video_id in pd.read_parquet(tmp_path / "alone" / "videos").video_id:
        for table in TABLES:
            file = f"{table}/{video_id}.parquet"
            assert (tmp_path / "out" / file).read_bytes() == (tmp_path / "alone" / file).read_bytes()
