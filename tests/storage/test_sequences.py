import pytest

from pipeline.storage.sequences import in_order


@pytest.mark.parametrize(
    ("known", "named", "ordered"),
    [
        ("", "abc", "abc"),
        ("abc", "de", "abcde"),  # a list of only the new files
        ("abcde", "abc", "abcde"),  # the first list again
        ("abc", "abxcd", "abxcd"),  # a longer list
        ("abc", "ca", "cab"),
        ("abcd", "bd", "abcd"),
    ],
)
def test_a_sequence_grows_as_lists_say(known: str, named: str, ordered: str) -> None:
    assert "".join(in_order("cam", list(known), list(named))) == ordered


def test_the_files_of_a_folder_are_in_order_of_their_names() -> None:
    names = [f"/cam/{name}.mp4" for name in ("part-1", "part-2", "Part-9", "part-10")]
    assert in_order("/cam", [names[3], names[1]], [names[2], names[0]]) == names
