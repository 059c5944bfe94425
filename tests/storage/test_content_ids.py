from pathlib import Path

import pytest

from pipeline.errors import DataError
from pipeline.storage import content_ids
from pipeline.storage.content_ids import content_id
from pipeline.storage.sources import Source


def test_the_id_is_of_the_content_not_of_the_name(tmp_path: Path) -> None:
    for name, content in (("a.mp4", b"same"), ("b.mkv", b"same"), ("c.mp4", b"other")):
        (tmp_path / name).write_bytes(content)
    ids = [content_id(Source(uri=str(tmp_path / name), name=name, named_by="")) for name in ("a.mp4", "b.mkv", "c.mp4")]
    assert ids[0] == ids[1] != ids[2]
    assert [len(digits) for digits in ids] == [20] * 3


def test_a_large_file_is_known_by_its_size_and_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content_ids, "WHOLE_BYTES", 1000)
    monkeypatch.setattr(content_ids, "SAMPLE_BYTES", 10)
    path = tmp_path / "large.mp4"
    source = Source(uri=str(path), name="large.mp4", named_by="")
    ids = set()
    for change_at in (None, 0, 1999):
        content = bytearray(2000)
        if change_at is not None:
            content[change_at] = 1
        path.write_bytes(content)
        ids.add(content_id(source))
    path.write_bytes(bytes(2001))
    ids.add(content_id(source))
    assert len(ids) == 4


def test_a_file_that_cannot_be_read_is_a_fault_of_the_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be read: .*"):
        content_id(Source(uri=str(tmp_path), name="folder", named_by=""))
