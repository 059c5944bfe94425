from pathlib import Path

import numpy as np
import pytest

from pipeline.corpora.frames import frames_of, read_frames, read_unlabelled
from pipeline.errors import UserError
from pipeline.media.film import write_mp4
from tests.corpora.scenes import scene, write


def test_frames_of_a_video_by_time_and_by_number(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with path.open("wb") as file:
        write_mp4(file, [scene(seed, height=64, width=96) for seed in range(20)], fps=10, keyframe_every=10)
    every = list(frames_of(path))
    assert len(every) == 20
    assert np.abs(every[3].astype(int) - scene(3, height=64, width=96)).mean() < 25  # RGB, in order
    some = read_frames(path, per_second=2, long_side=48)
    assert [frame.shape for frame in some] == [(32, 48, 3)] * 4


def test_unlabelled_folders_hold_videos_and_pictures(tmp_path: Path) -> None:
    write(tmp_path / "b.jpg", scene(5, height=64, width=96))
    assert [picture.shape for picture in read_unlabelled([tmp_path], per_second=2, long_side=48)] == [(32, 48, 3)]
    with pytest.raises(UserError, match="there is no file or folder"):
        read_unlabelled([tmp_path / "absent"], per_second=2, long_side=48)
    (tmp_path / "c.mp4").write_bytes(b"no video")
    with pytest.raises(UserError, match=r"c\.mp4 cannot be read as a video"):
        read_unlabelled([tmp_path], per_second=2, long_side=48)
