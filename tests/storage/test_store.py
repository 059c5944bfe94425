import errno
import os
import pickle
import re
import tempfile
from pathlib import Path

import pytest

from pipeline.errors import MachineError, UserError
from pipeline.storage.source_files import opener
from pipeline.storage.store import Store


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


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_told_with_its_place_and_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(str(tmp_path))
    store.put("run.json", b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MachineError) as raised:
        store.put("run.json", b"new")
    assert str(raised.value).startswith(
        f"{tmp_path}: No space left on device; free some, and run the same command again"
    )
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("run.json", b"old")]


def test_a_disk_that_is_full_before_any_work_is_told_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"cannot write to .*: No space left on device; free some"):
        Store(str(tmp_path)).check_writable()


def test_a_full_folder_for_temporary_files_is_not_blamed_on_the_object_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MachineError, match=f"^{tempfile.gettempdir()}: No space left"):
        Store("memory://bucket").put("a", b"x")


def test_an_object_store_that_fails_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class GoneError(Exception):
        pass

    def fail(*_: object, **__: object) -> None:
        raise GoneError("could not connect to the endpoint\nURL")

    store = Store("memory://bucket")
    store.put("a", b"x")
    for method in ("put_file", "cat_file", "find", "exists"):
        monkeypatch.setattr(type(store._fs), method, fail)
    calls = (lambda: store.put("a", b""), lambda: store.read("a"), lambda: store.names(""), lambda: store.exists("a"))
    for call in calls:
        with pytest.raises(MachineError, match=r"^memory://bucket: could not connect to the endpoint; check the disk"):
            call()


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
    with pytest.raises(UserError, match="^" + re.escape(f"{tmp_path}/file is a file where a folder is needed; move")):
        Store(str(tmp_path / "file" / "out")).check_writable()
    with pytest.raises(UserError, match="^" + re.escape(f"{tmp_path}/file is a file where a folder is needed; move")):
        Store(str(tmp_path / "file")).check_writable()


def test_a_local_file_is_opened_by_its_path_and_others_as_files(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"abc")
    assert opener(str(tmp_path / "a.mp4"))() == str(tmp_path / "a.mp4")
    Store("memory://bucket").put("a.mp4", b"abc")
    file = opener("memory://bucket/a.mp4")()
    assert not isinstance(file, str)
    assert file.read() == b"abc"


@pytest.mark.parametrize("name", ["../x", "csv/../../x.csv", "/etc/x", "csv//x", "csv/./x", "csv/a\0.csv"])
def test_no_name_leads_out_of_the_place(tmp_path: Path, name: str) -> None:
    store = Store(str(tmp_path / "out"))
    store.put("csv/a.csv", b"")
    (tmp_path / "x").write_bytes(b"kept")
    for use in (store.exists, store.read, store.delete, store.delete_tree, store.names):
        with pytest.raises(ValueError, match="is no name below"):
            use(name)
    with pytest.raises(ValueError, match="is no name below"):
        store.put(name, b"")
    with pytest.raises(ValueError, match="is no name below"):
        store.move("csv/a.csv", name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "x"]


@pytest.mark.parametrize("part", ["a::b", "year [2024] *", "caf\udce9"])
def test_a_place_may_be_called_anything(tmp_path: Path, part: str) -> None:
    store = Store(str(tmp_path / part))
    store.put("a/1", b"one")
    store.put("a/2", b"two")
    assert Store(store.uri).names("") == ["a/1", "a/2"]
    assert store.uri.encode()
    store.move("a/1", "b/[1]*")
    assert pickle.loads(pickle.dumps(store)).read("b/[1]*") == b"one"
    store.delete_tree("a")
    assert store.names("") == ["b/[1]*"]


def test_a_file_may_be_called_as_long_as_the_file_system_lets_it(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.put("x" * 255, b"long")
    assert store.read("x" * 255) == b"long"


def test_a_file_takes_the_place_of_a_folder_that_is_empty(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.put("a.csv/b/c.csv", b"")
    with pytest.raises(IsADirectoryError):
        store.put("a.csv", b"")
    assert store.exists("a.csv/b/c.csv")
    store.delete("a.csv/b/c.csv")
    store.put("a.csv", b"now")
    assert store.read("a.csv") == b"now"


def test_a_store_tells_which_names_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path))
    assert store.holds("12:30?.mp4")
    assert not store.holds("x" * 254)
    assert list(tmp_path.rglob("*x*")) == []
    touch = Path.touch

    def refuse(path: Path) -> None:  # as exFAT does
        if set(path.name) & set(':?"*'):
            raise OSError(22, "Invalid argument")
        touch(path)

    monkeypatch.setattr(Path, "touch", refuse)
    assert not store.holds("12:30?.mp4")
    assert store.holds("12.30 (käse).mp4")


def test_a_source_of_another_store_that_cannot_be_opened_is_an_oserror() -> None:
    with pytest.raises(OSError, match="there is no such file"):
        opener("memory://bucket/absent.mp4")()
