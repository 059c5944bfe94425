import random
from collections import Counter
from pathlib import Path

import pytest

from pipeline.errors import DataError, PassingError, UserError
from pipeline.storage import content_ids, faults
from pipeline.storage.content_ids import content_id
from pipeline.storage.sources import Source
from pipeline.storage.store import Store
from tests.s3_proxy import S3Proxy


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


def test_an_object_store_is_asked_for_the_samples_alone(s3_proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    content = random.Random(0).randbytes(3 << 20)
    source = Source(uri=f"{s3_proxy.bucket}/film.mp4", name="film.mp4", named_by="")
    Store(s3_proxy.bucket).put("film.mp4", content)
    whole = requests_of(s3_proxy, source)
    assert (whole["HEAD"], whole["GET"]) == (1, 1)
    monkeypatch.setattr(content_ids, "WHOLE_BYTES", 1 << 20)
    monkeypatch.setattr(content_ids, "SAMPLE_BYTES", 10_000)
    samples = requests_of(s3_proxy, source)
    assert (samples["HEAD"], samples["GET"]) == (1, 16)
    assert samples.total() == 17


def requests_of(proxy: S3Proxy, source: Source) -> Counter[str]:
    proxy.requests.clear()
    content_id(source)
    return Counter(proxy.requests)


def test_a_local_file_and_the_same_object_have_one_id(s3_proxy: S3Proxy, tmp_path: Path) -> None:
    content = random.Random(1).randbytes((9 << 20) + 7)
    (tmp_path / "film.mp4").write_bytes(content)
    Store(s3_proxy.bucket).put("film.mp4", content)
    uris = (str(tmp_path / "film.mp4"), f"{s3_proxy.bucket}/film.mp4")
    assert len({content_id(Source(uri=uri, name="film.mp4", named_by="")) for uri in uris}) == 1


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        ("503", PassingError, "film.mp4"),
        ("reset", PassingError, "film.mp4"),
        ("cut", PassingError, "film.mp4"),
        ("403", DataError, "cannot be read"),
        ("400", UserError, "its credentials have expired"),
    ],
)
def test_a_failing_store_is_not_taken_for_a_bad_file(
    fault: str, kind: type[Exception], words: str, s3_proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "TRIES", 1)
    Store(s3_proxy.bucket).put("film.mp4", bytes(1000))
    s3_proxy.rule = lambda request: fault if request.verb == "GET" else None
    with pytest.raises(kind, match=words):
        content_id(Source(uri=f"{s3_proxy.bucket}/film.mp4", name="film.mp4", named_by=""))


def test_an_object_that_is_removed_after_it_was_listed_is_told_as_that(s3_proxy: S3Proxy) -> None:
    with pytest.raises(DataError, match="not there any more"):
        content_id(Source(uri=f"{s3_proxy.bucket}/film.mp4", name="film.mp4", named_by=""))
