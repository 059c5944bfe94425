from pathlib import Path

import pytest

from pipeline.corpora.mot import parse_mot, read_mot
from pipeline.errors import UserError


def test_a_line_is_a_box_and_0_in_the_seventh_column_does_not_count() -> None:
    rows = parse_mot("2,7,10,20,30,40.5,1,-1,-1,-1\n\n1, 8.0, 0, 0, 5, 5, 0, 1\n3,-1,1,1,1,1,0.25\n3,9,1,1,1,1\n")
    assert rows.frames.tolist() == [2, 1, 3, 3]
    assert rows.ids.tolist() == [7, 8, -1, 9]
    assert rows.boxes.tolist() == [[10, 20, 40, 60.5], [0, 0, 5, 5], [1, 1, 2, 2], [1, 1, 2, 2]]
    assert rows.counts.tolist() == [True, False, True, True]
    assert len(parse_mot("")) == 0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("frame,id,x,y,w,h,score", "line 2: could not convert"),
        ("1,2,3,4,5", "line 2 has 5 of 6 columns"),
        ("1,2,3,4,5,nan", "line 2 has a number that is not finite"),
        ("0,2,3,4,5,6", "line 2: frames are whole numbers from 1"),
        ("1,2.5,3,4,5,6", "ids whole numbers"),
    ],
)
def test_a_line_that_is_none_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "gt.txt"
    path.write_text(f"1,1,1,1,1,1\n{line}\n")
    with pytest.raises(UserError, match=rf"gt\.txt is not in MOT form: .*{message}"):
        read_mot(path)
    with pytest.raises(UserError, match=r"gt cannot be read: No such file or directory; name a MOT text"):
        read_mot(path.with_suffix(""))
