from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from pipeline.errors import UserError
from pipeline.storage.blobs import fetch
from pipeline.storage.store import Store
from pipeline.weights import LOCK, Registry
from tests.weights.registries import BYTES, OTHER, SHA256, URI, entry, offline, registry, serve


def test_the_file_is_the_one_named_and_fetched_once(tmp_path: Path) -> None:
    path = registry(tmp_path).path("reid")
    assert path.read_bytes() == BYTES
    assert path == tmp_path / SHA256
    assert registry(tmp_path, get=offline).path("reid") == path


def test_other_bytes_are_refused_and_leave_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{URI} must have sha256 {OTHER}, got {SHA256}"):
        registry(tmp_path, entry(sha256=OTHER)).path("reid")
    assert list(tmp_path.iterdir()) == []


def test_a_download_that_breaks_off_leaves_nothing_behind(tmp_path: Path) -> None:
    def get(uri: str) -> Iterator[bytes]:
        yield BYTES[:3]
        raise OSError("connection reset")

    with pytest.raises(UserError, match="connection reset"):
        registry(tmp_path, get=get).path("reid")
    assert list(tmp_path.iterdir()) == []


def test_a_fetched_file_that_was_damaged_since_is_fetched_again(tmp_path: Path) -> None:
    registry(tmp_path).path("reid").write_bytes(b"damaged!")
    assert registry(tmp_path).path("reid").read_bytes() == BYTES


def test_without_internet_one_message_names_every_file_and_the_remedy(tmp_path: Path) -> None:
    entries = {"reid": entry(), "faces": entry(uri="https://example.org/faces.pt")}
    with pytest.raises(UserError) as refusal:
        Registry(entries, cache=tmp_path, fetch=offline).pull(["reid", "faces"])
    assert "reid, faces" in str(refusal.value)
    assert "run `rollcall weights pull reid faces` where there is internet" in str(refusal.value)
    assert "weights.mirror" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_local_file_is_used_where_it_lies(tmp_path: Path) -> None:
    file = tmp_path / "reid.pt"
    file.write_bytes(BYTES)
    cache = tmp_path / "cache"
    assert registry(cache, entry(uri=str(file)), get=offline).path("reid") == file
    assert not cache.exists()


def test_a_local_file_with_other_bytes_is_refused_also_when_it_changes_later(tmp_path: Path) -> None:
    file = tmp_path / "reid.pt"
    file.write_bytes(BYTES)
    local = registry(tmp_path / "cache", entry(uri=str(file)))
    local.path("reid")
    file.write_bytes(b"something else")
    with pytest.raises(UserError, match=r"reid\.pt must have sha256"):
        local.path("reid")


def test_missing_local_files_are_all_named_with_the_place_where_they_belong(tmp_path: Path) -> None:
    entries = {name: entry(uri=str(tmp_path / f"{name}.pt")) for name in ("reid", "faces")}
    with pytest.raises(UserError) as refusal:
        Registry(entries, cache=tmp_path, fetch=offline).pull(["reid", "faces"])
    for name in entries:
        assert f"{name} ({tmp_path / name}.pt)" in str(refusal.value)
    assert "put the files there" in str(refusal.value)


def test_what_nobody_published_is_pinned_at_the_first_pull_and_compared_ever_after(tmp_path: Path) -> None:
    unknown = entry(sha256=None)
    first = registry(tmp_path, unknown)
    assert first.sha256("reid") is None
    path = first.path("reid")
    assert first.sha256("reid") == SHA256
    assert yaml.safe_load((tmp_path / LOCK).read_text()) == {URI: SHA256}

    path.unlink()
    changed = registry(tmp_path, unknown, get=serve({URI: b"other"}))
    with pytest.raises(UserError, match=f"must have sha256 {SHA256}, got {OTHER}"):
        changed.path("reid")
    assert registry(tmp_path, unknown).path("reid") == path


def test_a_local_file_that_nobody_pinned_is_pinned_too_and_the_remedy_names_the_lock(tmp_path: Path) -> None:
    file = tmp_path / "reid.pt"
    file.write_bytes(BYTES)
    unknown = entry(uri=str(file), sha256=None)
    registry(tmp_path / "cache", unknown).path("reid")
    file.write_bytes(b"trained again")
    with pytest.raises(UserError, match=rf"remove its line from .*{LOCK}"):
        registry(tmp_path / "cache", unknown).path("reid")


def test_two_processes_that_pin_different_files_keep_both_pins(tmp_path: Path) -> None:
    other = "https://example.org/other.pt"
    entries = {"reid": entry(sha256=None), "other": entry(uri=other, sha256=None)}
    get = serve({URI: BYTES, other: b"other"})
    first, second = (Registry(entries, cache=tmp_path, fetch=get) for _ in range(2))
    first.path("reid")
    second.path("other")
    assert yaml.safe_load((tmp_path / LOCK).read_text()) == {URI: SHA256, other: OTHER}


def test_a_web_page_in_place_of_an_unpinned_file_is_not_pinned(tmp_path: Path) -> None:
    sorry = serve({URI: b"<!DOCTYPE html><html>Quota exceeded</html>"})
    with pytest.raises(UserError, match="a web page came instead of the file"):
        registry(tmp_path, entry(sha256=None), get=lambda uri: iter([b"".join(sorry(uri))])).path("reid")
    assert not (tmp_path / LOCK).exists()


def test_a_mirror_is_asked_first_and_serves_without_internet(tmp_path: Path) -> None:
    entries = {"reid": entry(), "faces": entry(uri="https://example.org/faces.pt", sha256=None)}
    get = serve({URI: BYTES, "https://example.org/faces.pt": b"other"})
    mirror = tmp_path / "mirror"
    held = Registry(entries, cache=tmp_path / "here", fetch=get).copy_to(Store(str(mirror)), entries)
    assert held == ["reid", "faces"]
    assert sorted(path.name for path in mirror.iterdir()) == sorted([SHA256, OTHER, LOCK])

    away = Registry(entries, cache=tmp_path / "there", fetch=fetch, mirror=str(mirror))
    assert [path.read_bytes() for path in away.pull(entries).values()] == [BYTES, b"other"]
    assert away.sha256("faces") == OTHER


def test_a_mirror_in_a_bucket_serves_as_a_folder_does(tmp_path: Path, bucket: str) -> None:
    registry(tmp_path / "here").copy_to(Store(f"{bucket}/copies"), ["reid"])
    away = registry(tmp_path / "there", mirror=f"{bucket}/copies", get=fetch)
    assert away.path("reid").read_bytes() == BYTES


def test_copying_to_a_mirror_again_keeps_what_it_had(tmp_path: Path) -> None:
    other = "https://example.org/other.pt"
    mirror = Store(str(tmp_path / "mirror"))
    for uri, content in ((URI, BYTES), (other, b"other")):
        unknown = Registry(
            {"x": entry(uri=uri, sha256=None)}, cache=tmp_path / content.decode(), fetch=serve({uri: content})
        )
        unknown.copy_to(mirror, ["x"])
    assert yaml.safe_load(mirror.read(LOCK)) == {URI: SHA256, other: OTHER}


def test_a_mirror_without_the_file_is_no_obstacle(tmp_path: Path) -> None:
    assert registry(tmp_path, mirror="s3://bucket/empty").path("reid").read_bytes() == BYTES


def test_damaged_bytes_of_a_mirror_are_refused_by_name(tmp_path: Path) -> None:
    get = serve({f"/mirror/{SHA256}": b"other", URI: BYTES})
    with pytest.raises(UserError, match=f"/mirror/{SHA256} must have sha256"):
        registry(tmp_path, mirror="/mirror/", get=get).path("reid")
