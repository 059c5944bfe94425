import hashlib
import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import weights
from pipeline.config import CONF, Config, load
from pipeline.errors import UserError
from pipeline.storage.blobs import fetch
from pipeline.storage.store import Store
from pipeline.weights import LOCK, Entry, Registry, read_entries, sha256_of
from tests.shared import needs_shared

BYTES = b"weights"
SHA256 = hashlib.sha256(BYTES).hexdigest()
OTHER = hashlib.sha256(b"other").hexdigest()
URI = "https://example.org/reid.pt"
SHARED_WEIGHTS = Path(__file__).parent / "conf" / "shared-weights.yaml"


def entry(**changes: Any) -> Entry:
    return replace(Entry(kind="reid", uri=URI, sha256=SHA256, licence="MIT", note="a test"), **changes)


def registry(
    cache: Path, reid: Entry | None = None, *, mirror: str | None = None, get: weights.Fetch | None = None
) -> Registry:
    return Registry({"reid": reid or entry()}, cache=cache, fetch=get or serve({URI: BYTES}), mirror=mirror)


def serve(files: dict[str, bytes]) -> weights.Fetch:
    def get(uri: str) -> Iterator[bytes]:
        if uri not in files:
            raise OSError("no such file")
        yield files[uri][:3]
        yield files[uri][3:]

    return get


def offline(uri: str) -> Iterator[bytes]:
    raise OSError(f"fetched {uri} although there is no internet")
    yield b""


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
    with pytest.raises(UserError) as told:
        Registry(entries, cache=tmp_path, fetch=offline).pull(["reid", "faces"])
    assert "reid, faces" in str(told.value)
    assert "rollcall weights pull" in str(told.value)
    assert "weights.mirror" in str(told.value)
    assert "\n" not in str(told.value)


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
    with pytest.raises(UserError) as told:
        Registry(entries, cache=tmp_path, fetch=offline).pull(["reid", "faces"])
    for name in entries:
        assert f"{name} ({tmp_path / name}.pt)" in str(told.value)
    assert "put the files there" in str(told.value)


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
    one, two = (Registry(entries, cache=tmp_path, fetch=get) for _ in range(2))
    one.path("reid")
    two.path("other")
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


def test_a_registry_goes_to_other_processes_with_its_pins(tmp_path: Path) -> None:
    here = Registry({"reid": entry(sha256=None, uri=str(tmp_path / "f"))}, cache=tmp_path / "cache", fetch=fetch)
    (tmp_path / "f").write_bytes(BYTES)
    here.path("reid")
    (tmp_path / "cache" / LOCK).unlink()
    assert pickle.loads(pickle.dumps(here)).sha256("reid") == SHA256


@pytest.mark.parametrize(
    ("licence", "allow", "refused"),
    [
        ("MIT", None, False),
        ("MIT", ["mit", "Apache-2.0"], False),
        ("AGPL-3.0", ["MIT"], True),
        ("Apache-2.0 AND research-only", ["Apache-2.0"], True),
        ("Apache-2.0 AND research-only", ["research-only", "Apache-2.0"], False),
        ("MIT", [], True),
    ],
)
def test_a_licence_outside_those_allowed_is_refused_before_any_fetch(
    tmp_path: Path, licence: str, allow: list[str] | None, refused: bool
) -> None:
    checked = registry(tmp_path, entry(licence=licence), get=offline)
    if refused:
        with pytest.raises(UserError, match=f"reid is under {licence}"):
            checked.refuse_licences(["reid"], allow)
    else:
        checked.refuse_licences(["reid"], allow)


def test_a_name_that_is_not_there_brings_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no weights named ried; did you mean reid\?"):
        registry(tmp_path).path("ried")


GOOD = {"kind": "reid", "uri": URI, "sha256": SHA256, "licence": "MIT"}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"sha265": SHA256}, "x: reid: unknown key sha265; did you mean sha256?"),
        ({"kind": "redi"}, "unknown kind redi; did you mean reid?"),
        ({"kind": None}, "kind is missing; `rollcall weights list`"),
        ({"sha256": "abc"}, "sha256 must be 64 hex digits, got 'abc'"),
        ({"sha256": None}, "sha256: null needs a note"),
        ({"licence": None}, "must hold uri and licence"),
        ({"uri": 3}, "uri must be text or null, got 3"),
        ({"kind": "ssrnet"}, "must hold parts: age, gender, and no uri"),
    ],
)
def test_a_wrong_entry_is_refused_with_its_name_and_key(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told.replace("?", r"\?")):
        read_entries({"reid": {**GOOD, **changes}}, "x")


def with_extra(**entries: dict[str, Any]) -> Config:
    base = load()
    return base.model_copy(update={"weights": base.weights.model_copy(update={"extra": entries})})


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"age": "ssrnet-imdb-aeg", "gender": "ssrnet-imdb-gender"}, "did you mean ssrnet-imdb-age"),
        ({"age": "ssrnet-imdb-gender", "gender": "ssrnet-imdb-gender"}, "its part age must be of kind ssrnet-age"),
    ],
)
def test_a_composite_of_wrong_parts_is_refused(parts: dict[str, str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        Registry.of(with_extra(mine={"kind": "ssrnet", "parts": parts}), fetch)


def test_an_entry_of_the_configuration_wins_over_the_one_that_ships() -> None:
    ours = Registry.of(with_extra(yolo11m={**GOOD, "kind": "yolo"}), fetch)
    assert ours.entry("yolo11m").uri == URI
    assert ours.entry("yolo11x").uri != URI


def test_every_model_of_a_configuration_is_listed_down_to_its_files() -> None:
    config = load(profile="full")
    models = Registry.of(config, fetch).models_of(config)
    assert models == {
        "detector": "yolo11x",
        "body": "osnet-x1-0-msmt17",
        "look": "yunet",
        "face_detector": "retinaface-r50",
        "restorer": "gfpgan-1.4",
        "estimator.embedder": "facenet-vggface2",
        "estimator.heads": "bosch-data-huber",
        "face_embedding": "facenet-vggface2",
    }


def test_a_model_that_is_switched_off_is_not_listed() -> None:
    config = load(settings=["restore.mode=off", "estimate.estimator=null", "estimate.face_embedding=null"])
    models = Registry.of(config, fetch).models_of(config)
    assert set(models) == {"detector", "body", "face_detector"}


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        (
            "observe.detector.weights=yolo11z",
            "observe.detector.weights: there are no weights named yolo11z; did you mean yolo11x",
        ),
        ("faces.detector=yolo11m", "faces.detector must be of kind retinaface-r50 or "),
    ],
)
def test_a_model_that_cannot_fill_its_role_is_refused_with_its_knob(setting: str, told: str) -> None:
    config = load(settings=[setting])
    with pytest.raises(UserError, match=told):
        Registry.of(config, fetch).models_of(config)


def test_the_registry_that_ships_is_sound_and_says_where_every_sha256_comes_from() -> None:
    shipped = read_entries(yaml.safe_load((CONF / "weights.yaml").read_text()), "conf/weights.yaml")
    for name, each in shipped.items():
        if not each.parts:
            assert each.note, name
            assert each.input, name
        embeds = each.kind in ("reid", *weights.FACE_EMBEDDERS)
        assert (each.embedding_space is not None) == embeds, name


def test_weights_inside_an_installed_package_are_verified_where_they_lie(tmp_path: Path) -> None:
    config = load(settings=["faces.detector=mtcnn", f"weights.cache={tmp_path}"])
    mtcnn = Registry.of(config, offline)
    assert set(mtcnn.pull(["mtcnn"])) == {"mtcnn-pnet", "mtcnn-rnet", "mtcnn-onet"}
    assert {role for role in mtcnn.models_of(config) if role.startswith("face_detector")} == {
        "face_detector.pnet",
        "face_detector.rnet",
        "face_detector.onet",
    }


@needs_shared
def test_every_file_of_the_shared_profile_has_the_bytes_that_it_names(tmp_path: Path) -> None:
    config = load([SHARED_WEIGHTS], [f"weights.cache={tmp_path}"])
    shared = Registry.of(config, offline)
    files = shared.pull(config.weights.extra)
    assert {name: sha256_of(path) for name, path in files.items()} == {
        name: shared.entry(name).sha256 for name in files
    }
    assert None not in shared.digests(config).values()
    assert {row["role"]: row["licence"] for row in shared.record(config)}["detector"] == "AGPL-3.0"


def test_no_network_fetch_reads_a_file_in_blocks_and_tells_the_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.storage.blobs.BLOCK_BYTES", 3)
    (tmp_path / "file").write_bytes(BYTES)
    assert list(fetch(str(tmp_path / "file"))) == [b"wei", b"ght", b"s"]
    causes: dict[str, Callable[[], object]] = {
        "No such file": lambda: list(fetch(str(tmp_path / "none"))),
        "Protocol not known": lambda: list(fetch("nosuch://place/file")),
    }
    for cause, attempt in causes.items():
        with pytest.raises(OSError, match=cause):
            attempt()
