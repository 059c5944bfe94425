from pathlib import Path

import pytest
from numpy.testing import assert_allclose, assert_array_equal

from pipeline.corpora.people import read_people, read_truth_csv, read_truth_mot
from pipeline.errors import UserError
from tests.corpora.scenes import scene, write


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
