import pickle
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.storage.store import Store, opener


def fail_halfway(store: Store, name: str) -> None:
    with store.writing(name) as file:
        file.write(b"half")
        raise RuntimeError("disk full")


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        fail_halfway(Store(str(tmp_path)), "detections/a.parquet")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.put("run.json", b"old")
    with pytest.raises(RuntimeError):
        fail_halfway(store, "run.json")
    assert store.read("run.json") == b"old"


def test_files_on_the_way_are_not_among_the_names(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    with store.writing("a/b.parquet") as file:
        file.write(b"x")
        assert store.names("a") == []
    assert store.names("a") == ["a/b.parquet"]


def test_a_store_travels_to_another_process(tmp_path: Path) -> None:
    Store(str(tmp_path)).put("x", b"1")
    assert pickle.loads(pickle.dumps(Store(str(tmp_path)))).read("x") == b"1"


def test_memory_and_disk_behave_alike(tmp_path: Path) -> None:
    for uri in (str(tmp_path), "memory://bucket/prefix"):
        store = Store(uri)
        store.put("a/1", b"one")
        store.put("a/b/2", b"two")
        assert store.names("a") == ["a/1", "a/b/2"]
        assert (store.exists("a/1"), store.exists("a/3")) == (True, False)
        store.delete("a/1")
        store.delete("a/1")
        assert store.names("") == ["a/b/2"]
        store.delete_tree("a")
        store.delete_tree("a")
        assert store.names("") == []
        with pytest.raises(FileNotFoundError):
            store.read("a/1")


def test_a_place_that_cannot_be_written_to_is_told_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match=r"cannot write to .*/file/out: .*; check the place"):
        Store(str(tmp_path / "file" / "out")).check_writable()


def test_a_local_file_is_opened_by_its_path_and_others_as_files(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"abc")
    assert opener(str(tmp_path / "a.mp4"))() == str(tmp_path / "a.mp4")
    Store("memory://bucket").put("a.mp4", b"abc")
    file = opener("memory://bucket/a.mp4")()
    assert not isinstance(file, str)
    assert file.read() == b"abc"
