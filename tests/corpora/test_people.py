from pathlib import Path

import pytest
from numpy.testing import assert_allclose, assert_array_equal

from pipeline.corpora.people import check_any_box, read_face_crops, read_people, read_truth_csv, read_truth_mot
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


def labelled(folder: Path, *labels: str | bytes | None) -> Path:
    """Write a picture for each label file, which is left out for None."""
    (folder / "labels").mkdir(parents=True)
    for name, text in zip("abcdefgh", labels, strict=False):
        write(folder / "images" / f"{name}.png", scene(0, height=50, width=100))
        if text is not None:
            (folder / "labels" / f"{name}.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


@pytest.mark.parametrize(
    "line",
    [
        "0 nan 5 -1 2",
        "0 0.5 0.5 0.2",
        "0 0.5 0.5 0.2 0.2 0.9",
        "0 0.5 0.5 0.2 high",
        "0 0.5 0.5 inf 0.2",
        "0 0.5 0.5 0.2 nan",
        "nan 0.5 0.5 0.2 0.2",
        "inf 0.5 0.5 0.2 0.2",
        "0 320 240 64 64",
        "0 0.5 0.5 -0.2 0.2",
        "-1 0.5 0.5 0.2 0.2",
        "0.5 0.5 0.5 0.2 0.2",
    ],
)
def test_a_line_that_is_no_box_is_named(line: str, tmp_path: Path) -> None:
    labelled(tmp_path, f"0 0.5 0.5 0.2 0.2\n\n{line}\n")
    for read in (read_people, read_face_crops):
        with pytest.raises(UserError, match=rf"a\.txt, line 3 is not in YOLO form: {line}; each line must be"):
            read(tmp_path)


def test_a_label_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.txt is not text in YOLO form"):
        read_people(labelled(tmp_path, b"\xff\xd8\xff"))


def test_labels_that_rounding_or_an_editor_changed_are_read(tmp_path: Path) -> None:
    labelled(tmp_path, b"\xef\xbb\xbf0 0.9 0.5 0.200002 1.000001\r\n0 1.0 0.5 0.000000 0.2\r\n")
    (picture,) = read_people(tmp_path)
    assert_allclose(picture.boxes, [[80, 0, 100, 50]], atol=1e-3)  # the second has no area


def test_pictures_without_label_files_are_named(tmp_path: Path) -> None:
    some = labelled(tmp_path / "some", "", None, None)
    message = r"2 of 3 pictures in \S+ have no label file in \S+: b\.png, c\.png; add"
    with pytest.raises(UserError, match=message):
        read_face_crops(some)
    assert len(read_people(some)) == 3
    others = labelled(tmp_path / "others", *[None] * 7)
    (others / "labels" / "x.txt").write_text("")
    with pytest.raises(UserError, match=r"7 of 7 .*a\.png, b\.png, c\.png, d\.png, e\.png and 2 more; add"):
        read_people(others)
    empty = labelled(tmp_path / "empty", None)
    with pytest.raises(UserError, match=r"empty/labels is empty, so no picture of"):
        read_people(empty)


def test_a_folder_of_another_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no folder \S+/absent; name a folder with images/ and labels/"):
        read_people(tmp_path / "absent")
    write(tmp_path / "a.png", scene(0))
    with pytest.raises(UserError, match=r"has no folder images; name a folder that `rollcall datasets faces` wrote"):
        read_face_crops(tmp_path)
    (tmp_path / "images").mkdir()
    with pytest.raises(UserError, match="has no folder labels; "):
        read_people(tmp_path)
    (tmp_path / "labels").mkdir()
    with pytest.raises(UserError, match="images has no pictures"):
        read_people(tmp_path)


def test_labels_without_a_box_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no face in --data x: "):
        check_any_box(read_people(labelled(tmp_path / "none", "", "\n")), "face", "--data x")
    check_any_box(read_people(labelled(tmp_path / "one", "", "0 0.5 0.5 0.2 0.2")), "face", "--data x")


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
