from pathlib import Path

import pandas as pd
import pytest

from pipeline.errors import DataError, UserError
from pipeline.storage import sources
from pipeline.storage.sources import Source, content_id, list_sources


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.mp4", "b/c.MKV", "b/photo.jpg", "notes.txt", ".hidden.mp4"):
        path = tmp_path / "archive" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "archive"


def names(*named: object, output: str = "/nowhere") -> list[str]:
    return [source.name for source in list_sources([str(n) for n in named], output).sources]


def test_a_folder_gives_what_is_a_video_or_picture_by_name(folder: Path) -> None:
    listing = list_sources([str(folder)], "/nowhere")
    assert [source.name for source in listing.sources] == ["a.mp4", "b/c.MKV", "b/photo.jpg"]
    assert listing.num_other == 2


def test_a_file_named_outright_is_a_source_whatever_its_name(folder: Path) -> None:
    assert names(folder / "notes.txt") == ["notes.txt"]


def test_a_glob_gives_what_matches(folder: Path) -> None:
    assert names(folder / "*.mp4") == ["a.mp4"]
    assert names(folder / "**" / "*.MKV") == ["b/c.MKV"]


def test_a_file_whose_name_looks_like_a_pattern_is_found(folder: Path) -> None:
    (folder / "take[1].mp4").write_bytes(b"x")
    assert names(folder / "take[1].mp4") == ["take[1].mp4"]


def test_nothing_below_the_output_is_a_source(folder: Path) -> None:
    out = folder / "out"
    (out / "annotated").mkdir(parents=True)
    (out / "annotated" / "a.mp4").write_bytes(b"x")
    assert names(folder, output=str(out)) == ["a.mp4", "b/c.MKV", "b/photo.jpg"]


def test_the_same_file_named_twice_is_one_source(folder: Path) -> None:
    assert names(folder, folder / "a.mp4", folder / "b" / ".." / "a.mp4") == ["a.mp4", "b/c.MKV", "b/photo.jpg"]


@pytest.mark.parametrize("missing", ["absent.mp4", "*.webm", "absent/"])
def test_what_is_named_outright_and_missing_stops_before_any_work(folder: Path, missing: str) -> None:
    with pytest.raises(UserError, match=r"there is no such file or folder|nothing matches"):
        list_sources([f"{folder}/{missing}"], "/nowhere")


@pytest.mark.parametrize("suffix", ["txt", "csv", "parquet"])
def test_a_list_names_sources_relative_to_itself_and_a_missing_one_is_told_apart(folder: Path, suffix: str) -> None:
    path = folder / f"list.{suffix}"
    frame = pd.DataFrame({"uri": ["a.mp4", str(folder / "b/c.MKV"), "gone.mp4"], "camera": [1, 2, 3]})
    match suffix:
        case "txt":
            path.write_text("# of today\n" + "\n".join(frame.uri) + "\n\n")
        case "csv":
            frame.to_csv(path, index=False)
        case _:
            frame.to_parquet(path)
    found = list_sources([f"@{path}"], "/nowhere").sources
    assert {Path(source.uri).name: source.missing for source in found} == {
        "a.mp4": None,
        "c.MKV": None,
        "gone.mp4": "there is no such file or folder",
    }


def test_a_list_without_the_column_says_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,camera\na.mp4,1\n")
    with pytest.raises(UserError, match=r"list.csv: needs a column `uri`, has path, camera"):
        list_sources([f"@{tmp_path}/list.csv"], "/nowhere")


def test_the_id_is_of_the_content_not_of_the_name(tmp_path: Path) -> None:
    for name, content in (("a.mp4", b"same"), ("b.mkv", b"same"), ("c.mp4", b"other")):
        (tmp_path / name).write_bytes(content)
    ids = [content_id(Source(uri=str(tmp_path / name), name=name, named_by="")) for name in ("a.mp4", "b.mkv", "c.mp4")]
    assert ids[0] == ids[1] != ids[2]
    assert [len(each) for each in ids] == [20] * 3


def test_a_large_file_is_known_by_its_size_and_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "WHOLE_BYTES", 1000)
    monkeypatch.setattr(sources, "SAMPLE_BYTES", 10)
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


def test_a_root_has_one_name_wherever_it_is_typed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "list.txt").write_text("a.mp4")
    monkeypatch.chdir(folder.parent)
    relative = list_sources(["archive/", "archive/*.mp4", "@archive/list.txt"], "/nowhere")
    monkeypatch.chdir(folder)
    absolute = list_sources([str(folder), f"{folder}/*.mp4", f"@{folder}/list.txt"], "/nowhere")
    assert relative.roots == absolute.roots == (str(folder), f"{folder}/*.mp4", f"@{folder}/list.txt")
    assert relative.sources == absolute.sources
