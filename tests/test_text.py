import pytest

from pipeline.text import printable, storable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("käse 日本 [red] :smile:", "käse 日本 [red] :smile:"),
        ("a\nb\tc", r"a\nb\tc"),
        ("\x1b[31mred\x1b[0m\x07", r"\x1b[31mred\x1b[0m\x07"),
        ("gpj.\u202ex", r"gpj.\u202ex"),
        ("caf\udce9.mp4", r"caf\xe9.mp4"),
        ("zero\0", r"zero\x00"),
    ],
)
def test_what_is_shown_steers_no_terminal_and_breaks_no_line(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert shown.encode()


def test_the_ends_of_lines_of_a_message_may_stay() -> None:
    assert printable("one\ntwo\r", keep="\n") == "one\ntwo\\r"


def test_what_is_stored_is_utf8_and_text_stays_as_it_is() -> None:
    assert storable("caf\udce9 \udcff.mp4").encode() == b"caf%E9 %FF.mp4"
    assert storable("käse\n100%.mp4") == "käse\n100%.mp4"
