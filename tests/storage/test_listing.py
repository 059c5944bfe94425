import os
import shutil
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import fsspec
import pandas as pd
import pytest

from pipeline.errors import UserError
from pipeline.storage.content_ids import content_id
from pipeline.storage.listing import list_sources
from pipeline.storage.source_files import opener
from pipeline.storage.store import Store


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


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("wholly-other.webm", "there is no file or folder FOLDER/wholly-other.webm; correct the name"),
        ("absent/", "there is no file or folder FOLDER/absent; correct the name"),
        ("b/C.mkv", "there is no file or folder FOLDER/b/C.mkv; did you mean FOLDER/b/c.MKV?"),
        ("absent/a.mp4", "there is no folder FOLDER/absent; correct the name"),
        ("*.webm", "nothing in FOLDER matches the pattern FOLDER/*.webm; correct it, or name the folder"),
        ("absent/*.mp4", "there is no folder FOLDER/absent; correct the pattern FOLDER/absent/*.mp4"),
    ],
)
def test_what_is_named_outright_and_missing_stops_before_any_work(folder: Path, missing: str, message: str) -> None:
    with pytest.raises(UserError) as raised:
        list_sources([f"{folder}/{missing}"], "/nowhere")
    assert message.replace("FOLDER", str(folder)) in str(raised.value)


def test_a_relative_name_says_where_it_was_looked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(UserError, match=rf"there is no file or folder a.mp5 in {folder}; did you mean a.mp4\?"):
        list_sources(["a.mp5"], "/nowhere")


def test_what_an_object_store_does_not_hold_is_told_with_the_nearest_name() -> None:
    fs = fsspec.filesystem("memory")
    fs.pipe("/bucket/clips/plaza.mp4", b"x")
    try:
        with pytest.raises(UserError, match=r"no file or folder memory://bucket/clips/plazza.mp4; did you mean memory"):
            list_sources(["memory://bucket/clips/plazza.mp4"], "/nowhere")
        with pytest.raises(
            UserError, match=r"nothing in /bucket/clips matches the pattern memory://bucket/clips/\*.avi"
        ):
            list_sources(["memory://bucket/clips/*.avi"], "/nowhere")
    finally:
        fs.rm("/bucket", recursive=True)


@pytest.mark.parametrize("opened", [lambda uri: list_sources([uri], "/nowhere"), Store])
def test_an_unknown_protocol_is_told_with_the_nearest(opened: Callable[[str], object]) -> None:
    with pytest.raises(UserError, match=r"^s33://b/a: there is no protocol s33://; did you mean s3\?"):
        opened("s33://b/a")
    with pytest.raises(UserError, match=r"^qwertz://b/a: there is no protocol qwertz://; name a path on this machine"):
        opened("qwertz://b/a")


def test_a_list_that_is_none_is_told(folder: Path) -> None:
    (folder / "list.txt").write_text("a.mp4")
    with pytest.raises(UserError, match=rf"there is no list {folder}/lost.txt; did you mean {folder}/list.txt\?"):
        list_sources([f"@{folder}/lost.txt"], "/nowhere")
    with pytest.raises(UserError, match=rf"list {folder}/b is a folder; leave out the @"):
        list_sources([f"@{folder}/b"], "/nowhere")


def test_every_source_is_counted(folder: Path) -> None:
    counted: list[None] = []
    listing = list_sources([str(folder)], "/nowhere", advance=lambda: counted.append(None))
    assert len(counted) == len(listing.sources) == 3


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
    sources = list_sources([f"@{path}"], "/nowhere").sources
    assert {Path(source.uri).name: source.missing for source in sources} == {
        "a.mp4": None,
        "c.MKV": None,
        "gone.mp4": "there is no such file or folder",
    }


def test_a_list_without_the_column_says_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,camera\na.mp4,1\n")
    with pytest.raises(UserError, match=r"list.csv: needs a column `uri`, has path, camera"):
        list_sources([f"@{tmp_path}/list.csv"], "/nowhere")


def test_a_root_has_one_name_wherever_it_is_typed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "list.txt").write_text("a.mp4")
    monkeypatch.chdir(folder.parent)
    relative = list_sources(["archive/", "archive/*.mp4", "@archive/list.txt"], "/nowhere")
    monkeypatch.chdir(folder)
    absolute = list_sources([str(folder), f"{folder}/*.mp4", f"@{folder}/list.txt"], "/nowhere")
    assert relative.roots == absolute.roots == (str(folder), f"{folder}/*.mp4", f"@{folder}/list.txt")
    assert relative.sources == absolute.sources


# --- odd names -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cam::front.mp4", "zip::a.mp4", "~nobody.mp4", "a #1 50%25?.mp4", "line\nbreak.mp4"])
def test_a_name_is_a_name_and_no_instruction(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / name).write_bytes(b"x")
    monkeypatch.chdir(folder)
    (folder / "list.csv").write_text(pd.DataFrame({"uri": [name]}).to_csv(index=False))
    for named in (str(folder / name), name, "@list.csv"):
        (source,) = list_sources([named], "/nowhere").sources
        assert (source.uri, source.name, source.missing) == (str(folder / name), name, None)
        assert len(content_id(source)) == 20
        assert opener(source.uri)() == str(folder / name)


def test_a_name_that_is_not_utf8_has_a_uri_that_is_and_leads_back(folder: Path) -> None:
    path = os.fsencode(folder) + b"/caf\xe9 %41.mp4"
    with open(path, "wb") as file:
        file.write(b"x")
    for named in (folder, folder / "*.mp4", os.fsdecode(path)):
        source = next(listed for listed in list_sources([str(named)], "/nowhere").sources if "caf" in listed.name)
        assert source.uri == f"file://{folder}/caf%E9%20%2541.mp4"
        assert source.name == "caf%E9 %41.mp4"
        assert len(content_id(source)) == 20
        assert os.fsencode(str(opener(source.uri)())) == path
        assert list_sources([source.uri], "/nowhere").sources[0].uri == source.uri


def test_a_file_uri_is_read_as_it_stands_or_as_file_managers_write_it(folder: Path) -> None:
    for name in ("a b.mp4", "50%20.mp4"):
        (folder / name).write_bytes(b"x")
    assert names(f"file://{folder}/a%20b.mp4") == ["a b.mp4"]
    assert names(f"file://{folder}/50%20.mp4") == ["50%20.mp4"]


def test_a_file_that_is_called_as_a_list_is_one_if_there_is_no_such_list(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (folder / "@clip.mp4").write_bytes(b"x")
    assert names("@clip.mp4") == ["@clip.mp4"]
    (folder / "clip.mp4").write_text("a.mp4")
    assert names("@clip.mp4") == ["a.mp4"]


# --- odd things ------------------------------------------------------------------------------------------------------


def missing(*named: object, output: str = "/nowhere") -> dict[str, str | None]:
    return {source.name: source.missing for source in list_sources([str(n) for n in named], output).sources}


def test_a_broken_link_is_told_apart_wherever_it_is_met(folder: Path) -> None:
    (folder / "broken.jpg").symlink_to("nowhere.jpg")
    (folder / "round.jpg").symlink_to("round.jpg")
    (folder / "broken.txt").symlink_to("nowhere.txt")
    for named in ([folder], [folder / "*.jpg"], [folder / "broken.jpg", folder / "round.jpg"]):
        reasons = missing(*named)
        assert reasons["broken.jpg"] == "is a link to nowhere.jpg, where nothing is"
        assert (reasons["round.jpg"] or "").startswith("is a link to round.jpg, which cannot be read: ")
    assert "broken.txt" not in missing(folder)


def test_links_to_folders_are_followed_and_loops_are_not(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "far.mp4").write_bytes(b"x")
    (tmp_path / "elsewhere" / "back").symlink_to(folder)
    (folder / "far").symlink_to(tmp_path / "elsewhere")
    (folder / "near").symlink_to("b")
    (folder / "b" / "self").symlink_to(".")
    (folder / "b" / "up").symlink_to("../..")
    (folder / "file.mp4").symlink_to("a.mp4")
    reached = ["a.mp4", "b/c.MKV", "b/photo.jpg", "far/far.mp4", "file.mp4", "near/c.MKV", "near/photo.jpg"]
    assert sorted(names(folder)) == reached
    assert sorted(names(folder / "*")) == reached
    assert names(folder / "far") == ["far.mp4"]
    assert names(folder / "f*" / "*.mp4") == ["far/far.mp4"]


def test_many_links_to_each_other_end(tmp_path: Path) -> None:
    for number in range(12):
        inner = tmp_path / f"p{number}"
        inner.mkdir()
        (inner / "v.mp4").write_bytes(b"x")
        for other in range(12):
            (inner / f"to{other}").symlink_to(f"../p{other}")
    assert 12 * 12 <= len(names(tmp_path)) < 12 * 12 * 12


def test_the_output_is_no_source_by_whatever_way_it_is_reached(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "annotated").mkdir(parents=True)
    (tmp_path / "out" / "annotated" / "a.mp4").write_bytes(b"x")
    (folder / "latest").symlink_to(tmp_path / "out")
    (folder / "copy.mp4").symlink_to(tmp_path / "out" / "annotated" / "a.mp4")
    (tmp_path / "link").symlink_to(tmp_path / "out")
    for output in (tmp_path / "out", tmp_path / "link"):
        assert names(folder, output=str(output)) == ["a.mp4", "b/c.MKV", "b/photo.jpg"]
        assert names(folder / "latest", tmp_path / "link" / "annotated" / "a.mp4", output=str(output)) == []


def test_what_is_no_file_is_never_opened(folder: Path) -> None:
    os.mkfifo(folder / "pipe.mp4")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "s.mp4"))
    for reasons in (missing(folder), missing(folder / "*.mp4"), missing(folder / "pipe.mp4", folder / "s.mp4")):
        assert (reasons["pipe.mp4"], reasons["s.mp4"]) == ("is a pipe, not a file", "is a socket, not a file")
    assert missing("/dev/null") == {"null": "is a device, not a file"}


@pytest.fixture
def locked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that cannot be listed. Its listing is patched to fail, because root may list everything."""
    (folder / "locked").mkdir()
    (folder / "locked" / "x.mp4").write_bytes(b"x")
    list_folder = os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith("/locked"):
            raise PermissionError(13, "Permission denied", path)
        return list_folder(path)

    monkeypatch.setattr(os, "scandir", scandir)
    return folder / "locked"


def test_a_folder_that_cannot_be_listed_is_named_and_stops_nothing(folder: Path, locked: Path) -> None:
    for named in (folder, folder / "**" / "*.mp4"):
        reasons = missing(named)
        assert reasons["locked"] == "cannot be listed: Permission denied"
        assert reasons["a.mp4"] is None
    with pytest.raises(UserError, match=r"locked: cannot be listed: Permission denied; check the name, your"):
        list_sources([str(locked)], "/nowhere")
    (folder / "list.txt").write_text("locked\na.mp4")
    assert missing(f"@{folder}/list.txt")["locked"] == "cannot be listed: Permission denied"


def test_what_goes_while_it_is_listed_is_no_source(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = os.stat

    def going(path: str, **how: object) -> object:
        if str(path).endswith("/a.mp4"):
            os.unlink(path) if os.path.lexists(path) else None
        status = stat(path, **how)  # pyright: ignore[reportArgumentType]
        if str(path).endswith("/b"):
            shutil.rmtree(path)
        return status

    monkeypatch.setattr(os, "stat", going)
    assert names(folder) == []


def test_the_lines_of_a_list_stop_nothing_however_odd(folder: Path) -> None:
    lines = ["a.mp4", "foo://x/y.mp4", "z" * 5000, "**x/*.mp4", "b/*.none", "gs://no/driver.mp4", "zero\\0.mp4", "b"]
    (folder / "l.txt").write_text("\n".join(lines))
    reasons = missing(f"@{folder}/l.txt")
    assert [name for name, why in reasons.items() if why is None] == ["a.mp4", "c.MKV", "photo.jpg"]
    assert sum(why is not None for why in reasons.values()) == 6
    pd.DataFrame({"uri": ["a\0.mp4", "a.mp4"]}).to_parquet(folder / "l.parquet")
    assert sorted(missing(f"@{folder}/l.parquet").values(), key=str) == [None, "there is no such file or folder"]


@pytest.mark.parametrize("name", [" space .mp4", "#1.mp4", "next\x85line.mp4", "~nobody.mp4", "uri.mp4", "käse.mp4"])
def test_a_list_of_text_names_what_is_there(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"x")
    (folder / "l.txt").write_text(f"# a comment\r\n{name}\r\n  a.mp4 \r\n", newline="")
    assert sorted(missing(f"@{folder}/l.txt").items()) == sorted([(name, None), ("a.mp4", None)])


def test_names_in_a_list_may_be_held_apart_by_zeros(folder: Path) -> None:
    (folder / "line\nbreak.mp4").write_bytes(b"x")
    (folder / "l.txt").write_bytes(b"line\nbreak.mp4\0a.mp4\0")
    assert missing(f"@{folder}/l.txt") == {"line\nbreak.mp4": None, "a.mp4": None}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_list_may_come_from_a_spreadsheet(folder: Path, encoding: str, delimiter: str) -> None:
    (folder / "käse, 2.mp4").write_bytes(b"x")
    text = f'uri{delimiter}sequence\r\n"käse, 2.mp4"{delimiter}Straße\r\n'
    (folder / "l.csv").write_bytes(text.encode(encoding))
    (source,) = list_sources([f"@{folder}/l.csv"], "/nowhere").sources
    assert (source.name, source.missing, source.sequence) == ("käse, 2.mp4", None, "Straße")


def test_a_list_may_hold_the_bytes_of_names_that_are_not_utf8(folder: Path) -> None:
    with open(os.fsencode(folder) + b"/caf\xe9.mp4", "wb") as file:
        file.write(b"x")
    (folder / "l.txt").write_bytes(b"caf\xe9.mp4\ngone\xe9.mp4\n")
    assert missing(f"@{folder}/l.txt") == {
        "caf%E9.mp4": None,
        "gone%E9.mp4": "there is no such file or folder",
    }


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("l.parquet", b"no parquet", "cannot be read as Parquet"),
        ("l.txt", b"\x00\xff\xfe\xff\x00", "must be text, CSV or Parquet"),
        ("l.csv", b"", "needs a column `uri`"),
        ("l.csv", b'uri\n"' + b"x" * 200_000 + b'"\n', "line . is no CSV"),
    ],
)
def test_a_list_that_cannot_be_read_is_refused(folder: Path, name: str, content: bytes, message: str) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        list_sources([f"@{folder}/{name}"], "/nowhere")


# --- sequences -------------------------------------------------------------------------------------------------------


def write_list(path: Path, frame: pd.DataFrame) -> str:
    frame.to_csv(path, index=False) if path.suffix == ".csv" else frame.to_parquet(path)
    return f"@{path}"


def pieces(*named: str, sequence: str | None = None) -> list[tuple[str | None, str]]:
    """Return (sequence, name) of each source, in the order in which they were named."""
    sources = sorted(list_sources(named, "/nowhere", sequence).sources, key=lambda source: source.place)
    return [(source.sequence, source.name) for source in sources]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_list_says_which_files_follow_one_another_and_when_they_begin(folder: Path, suffix: str) -> None:
    times = ["2024-05-01T12:00:00+02:00", "2024-05-01 10:05:00", None]
    frame = pd.DataFrame(
        {"uri": ["b/c.MKV", "a.mp4", "b/photo.jpg"], "sequence": ["cam", "cam", None], "recorded_at": times}
    )
    named = write_list(folder / f"l.{suffix}", frame)
    assert pieces(named) == [("cam", "c.MKV"), ("cam", "a.mp4"), (None, "photo.jpg")]
    moments = {source.name: source.recorded_at for source in list_sources([named], "/nowhere").sources}
    assert moments == {
        "c.MKV": datetime(2024, 5, 1, 10, tzinfo=UTC),
        "a.mp4": datetime(2024, 5, 1, 10, 5, tzinfo=UTC),
        "photo.jpg": None,
    }


def test_sequences_may_be_numbers_and_times_stamps(folder: Path) -> None:
    moment = datetime(2024, 5, 1, 10, tzinfo=UTC)
    frame = pd.DataFrame({"uri": ["a.mp4"], "sequence": [2], "recorded_at": [pd.Timestamp(moment)]})
    (source,) = list_sources([write_list(folder / "l.parquet", frame)], "/nowhere").sources
    assert (source.sequence, source.recorded_at) == ("2", moment)


def test_each_folder_is_a_sequence_of_its_videos_but_a_list_knows_better(folder: Path) -> None:
    for name in ("9.mp4", "10.mp4"):
        (folder / "b" / name).write_bytes(b"x")
    sequences = {name: of for of, name in pieces(str(folder), sequence="folder")}
    b = str(folder / "b")
    assert sequences == {"a.mp4": str(folder), "b/9.mp4": b, "b/10.mp4": b, "b/c.MKV": b, "b/photo.jpg": None}
    listed = write_list(folder / "l.csv", pd.DataFrame({"uri": ["b"], "sequence": ["cam"]}))
    assert pieces(str(folder / "a.mp4"), listed, sequence="folder") == [
        (str(folder), "a.mp4"),
        ("cam", "9.mp4"),
        ("cam", "10.mp4"),
        ("cam", "c.MKV"),
        ("cam", "photo.jpg"),
    ]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"sequence": [0.5, 1.5]}, "column `sequence` must hold names or whole numbers, holds double"),
        ({"sequence": [True, False]}, "holds bool"),
        ({"recorded_at": [1.5, 2.5]}, "column `recorded_at` must hold times"),
        ({"recorded_at": ["noon", "2024-05-01"]}, "recorded_at of a.mp4 must be times, as .*, got 'noon'"),
        ({"uri": ["a.mp4", "a.mp4"], "sequence": ["x", "y"]}, "a.mp4 is named in two sequences, x and y"),
    ],
)
def test_a_list_that_cannot_be_meant_so_is_refused(
    folder: Path, columns: dict[str, list[object]], message: str
) -> None:
    frame = pd.DataFrame({"uri": ["a.mp4", "b/c.MKV"]} | columns)
    with pytest.raises(UserError, match=message):
        list_sources([write_list(folder / "l.parquet", frame)], "/nowhere")


def test_there_is_one_other_way_to_name_sequences(folder: Path) -> None:
    with pytest.raises(UserError, match="--sequence cam1: there is one way, folder"):
        list_sources([str(folder)], "/nowhere", "cam1")
