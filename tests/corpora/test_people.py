from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from pipeline.arrays import Picture
from pipeline.corpora.people import (
    frames_of,
    held_out,
    near_duplicates,
    read_frames,
    read_people,
    read_truth_csv,
    read_truth_mot,
    read_unlabelled,
)
from pipeline.errors import UserError
from pipeline.media.film import write_mp4


def scene(seed: int, height: int = 60, width: int = 80) -> Picture:
    """Coarse noise: no two seeds look alike."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def write(path: Path, picture: Picture) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture[..., ::-1])


def test_labels_in_yolo_form_become_boxes_in_pixels(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        write(tmp_path / "images" / name, scene(0, height=50, width=100))
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.5 0.2 0.4\n1 0.0 0.1 0.2 0.2\n")
    a, b = read_people(tmp_path)
    assert_allclose(a.boxes, [[40, 15, 60, 35], [0, 0, 10, 10]], atol=1e-4)  # the second is cut at the border
    assert_array_equal(a.picture, scene(0, height=50, width=100))
    assert b.boxes.shape == (0, 4)


def test_a_broken_label_file_is_named(tmp_path: Path) -> None:
    write(tmp_path / "images" / "a.png", scene(0))
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.5 0.2\n0 0.5 0.5 0.2 high\n")
    with pytest.raises(UserError, match=r"a\.txt is not in YOLO form"):
        read_people(tmp_path)
    with pytest.raises(UserError, match="has no pictures"):
        read_people(tmp_path / "labels")


def test_near_duplicates_share_a_group_also_mirrored_darkened_and_over_a_third() -> None:
    first = scene(1)
    dark = (first * 0.6).astype(np.uint8)
    moved = np.roll(first, 2, axis=1)
    pictures = [scene(2), first, scene(3), np.ascontiguousarray(first[:, ::-1]), dark, moved, scene(4)]
    groups = near_duplicates(pictures)
    assert len({groups[index] for index in (1, 3, 4, 5)}) == 1
    assert len(set(groups.tolist())) == 4


def test_whole_groups_are_held_out_up_to_the_share() -> None:
    groups = np.repeat(np.arange(40), 5)
    chosen = held_out(groups, 0.1, seed=0)
    assert chosen.sum() == 20
    assert all(len(set(chosen[groups == group].tolist())) == 1 for group in range(40))
    assert (held_out(groups, 0.1, seed=1) != chosen).any()


def test_a_group_larger_than_the_share_stays() -> None:
    groups = np.array([0] * 90 + list(range(1, 11)))
    assert not held_out(groups, 0.1, seed=3)[:90].any()


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


def test_truth_as_csv_counts_pictures_without_rows_as_empty(tmp_path: Path) -> None:
    path = tmp_path / "gt.csv"
    path.write_text("image,xmin,ymin,xmax,ymax\nb.jpg,1,2,3,4\nb.jpg,5,6,7,8\nc.jpg,,,,\n")
    a, b, c = read_truth_csv(path, ["a.jpg", "b.jpg", "c.jpg"])
    assert_array_equal(b.boxes, [[1, 2, 3, 4], [5, 6, 7, 8]])
    assert len(a.boxes) == len(c.boxes) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,xmin,ymin,xmax\na.jpg,1,2,3\n", "lacks the column ymax"),
        ("image,xmin,ymin,xmax,ymax\nz.jpg,1,2,3,4\n", r"names z\.jpg, which is not in --images"),
        ("image,xmin,ymin,xmax,ymax\na.jpg,1,2,3,far\n", "a box that is no number"),
        ("", "cannot be read as CSV"),
    ],
)
def test_a_truth_that_cannot_be_used_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "gt.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_truth_csv(path, ["a.jpg"])


def test_truth_in_mot_form_ignores_rows_that_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "gt.txt"
    path.write_text("3,1,10,20,30,40,1,-1,-1,-1\n1,1,1,2,3,4,1,-1,-1,-1\n3,2,5,5,5,5,0,-1,-1,-1\n")
    first, second, third = read_truth_mot(path)
    assert_array_equal(first.boxes, [[1, 2, 4, 6]])
    assert len(second.boxes) == 0
    assert_array_equal(third.boxes, [[10, 20, 40, 60]])
    assert_array_equal(third.ignored, [[5, 5, 10, 10]])
    path.write_text("no,numbers\n")
    with pytest.raises(UserError, match="not in MOT form"):
        read_truth_mot(path)
