"""Names of the files of an output: every source gets a name that every store can hold, and no two are one file
anywhere."""

import os
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.storage.names import Names, is_sound, same


def give(*wanted: str, refused: str = "") -> list[str]:
    names = Names(holds=lambda part: not set(part) & set(refused))
    return [names.give(name, ".csv") for name in wanted]


@pytest.mark.parametrize(
    "plain",
    ["a.mp4", "b/c.MKV", "line\nbreak.jpg", "käse-日本.jpg", "brackets [2024] {x} *.jpg", "a::b.jpg", " x .jpg"],
)
def test_a_name_that_can_be_held_is_kept(plain: str) -> None:
    assert give(plain) == [f"{plain}.csv"]


@pytest.mark.parametrize(
    ("climbing", "given_name"),
    [
        ("../../../escape.jpg", "%2E%2E/%2E%2E/%2E%2E/escape.jpg.csv"),
        ("/etc/passwd", "etc/passwd.csv"),
        ("a/./b//c.mp4", "a/%2E/b/c.mp4.csv"),
        ("..", "%2E%2E.csv"),
        ("", "unnamed.csv"),
        ("a\0b.mp4", "a%00b.mp4.csv"),
        ("caf\udce9.mp4", "caf%E9.mp4.csv"),
    ],
)
def test_no_name_leaves_its_folder(climbing: str, given_name: str) -> None:
    assert give(climbing) == [given_name]
    assert is_sound(given_name)


@pytest.mark.parametrize("name", ["../x", "a/../x", "/x", "a//b", ".", "a/.", "a\0", "x" * 256])
def test_what_is_no_name_is_told_apart(name: str) -> None:
    assert not is_sound(name)


def test_a_long_name_is_cut_and_stays_itself() -> None:
    first, second = give("x" * 250 + "1.jpg", "x" * 250 + "2.jpg")
    assert first != second
    assert first.startswith("x" * 200)
    assert first.endswith(".jpg.csv")
    assert len(first.encode()) <= 255
    assert give("日" * 85)[0].startswith("日" * 70)


def test_a_deep_name_is_cut_and_its_folder_stays_together() -> None:
    first, second = give("deep/" * 300 + "a.mp4", "deep/" * 300 + "b.mp4")
    assert len(first.encode()) < 700
    assert first.rpartition("/")[0] == second.rpartition("/")[0]
    assert first.endswith("/a.mp4.csv")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a.mp4", "A.MP4"),
        ("day/a.mp4", "Day/a.mp4"),
        (unicodedata.normalize("NFC", "kä.mp4"), unicodedata.normalize("NFD", "kä.mp4")),
        ("day./a.mp4", "day/a.mp4"),
        ("straße.mp4", "STRASSE.mp4"),
        ("a.mp4", "a.mp4"),
    ],
)
def test_names_that_are_one_file_somewhere_are_told_apart(first: str, second: str) -> None:
    assert give(first, second) == [f"{first}.csv", f"{second}.2.csv"]


def test_a_number_that_is_a_name_already_is_left_out() -> None:
    assert give("a.2", "a", "A", "a") == ["a.2.csv", "a.csv", "A.3.csv", "a.4.csv"]


@pytest.mark.parametrize("wanted", [("x.mp4", "x.mp4.csv/y.mp4"), ("x.mp4.csv/y.mp4", "x.mp4")])
def test_nothing_is_both_a_file_and_a_folder(wanted: tuple[str, str]) -> None:
    names = give(*wanted)
    assert names[0] == f"{wanted[0]}.csv"
    assert not {same(name) for name in names} & {same(name.rpartition("/")[0]) for name in names}


def test_files_of_a_folder_that_was_renamed_stay_together() -> None:
    assert give("x.csv", "x", "x.csv/1", "x.csv/2") == ["x.csv.csv", "x.csv", "x.csv.2/1.csv", "x.csv.2/2.csv"]


def test_a_name_that_the_file_system_refuses_is_written_with_what_all_take() -> None:
    assert give("12:30?.mp4", "ü:.mp4", refused=":?") == ["12%3A30%3F.mp4.csv", "%C3%BC%3A.mp4.csv"]


def test_thousands_of_files_of_one_name_are_named_at_once() -> None:
    names = Names()
    given_names = [names.give("video.mp4", ".csv") for _ in range(20_000)]
    assert given_names[-1] == "video.mp4.20000.csv"


@given(st.lists(st.text(st.sampled_from("aA./\0:é\udce9\n%2E"), max_size=6), max_size=8))
def test_any_names_give_sound_ones_that_differ(wanted: list[str]) -> None:
    names = give(*wanted)
    keys = {same(name) for name in names}
    assert len(keys) == len(names)
    assert all(is_sound(name) and name.encode() for name in names)
    folders = {"/".join(key.split("/")[:i]) for key in keys for i in range(1, key.count("/") + 1)}
    assert not keys & folders
    assert all(os.path.normpath(f"/out/{name}") == f"/out/{name}" for name in names)
