"""The messages that docs/troubleshooting.md explains are those of the code."""

import re
from functools import cache

import pytest

from pipeline.config import load
from tests.docs.messages import VALUE, texts_of
from tests.docs.pages import INLINE, PAGES, ROOT

PAGE = PAGES["docs/troubleshooting.md"]
WORDS = 4
"""Code of fewer words is a name, a path or a command."""
QUOTED = [
    code
    for code in INLINE.findall(re.sub(r"\n +", " ", PAGE))
    if len(code.split()) >= WORDS and not code.startswith(("rollcall ", "ulimit "))
]


@cache
def texts() -> list[str]:
    return [text.replace("\n", " ") for text in texts_of([ROOT / "pipeline", ROOT / "jobs", ROOT / "rollcall"])]


def is_said(message: str) -> bool:
    """Return whether the code has a text that contains the message."""
    parts = [re.escape(part.strip()) for part in message.split(VALUE) if part.strip()]
    pattern = re.compile(r".*?".join(parts))
    return any(pattern.search(text) for text in texts())


def test_the_page_quotes_messages() -> None:
    assert len(QUOTED) >= 20


@pytest.mark.parametrize("message", QUOTED)
def test_a_quoted_message_is_in_the_code(message: str) -> None:
    assert is_said(message)


def test_a_message_that_nobody_says_is_noticed() -> None:
    assert is_said("there is no file or folder …")
    assert not is_said("there is no fire or folder …")


def test_every_knob_that_the_documentation_names_exists() -> None:
    knobs = load().model_dump()
    for page, text in PAGES.items():
        if page.startswith(("docs/decisions/", "docs/measured.md", "docs/training.md")):
            continue
        for name in re.findall(rf"`((?:{'|'.join(knobs)})(?:\.[a-z_]+)+)(?:=[^`]*|: [^`]*)?`", text):
            if name.endswith((".json", ".parquet", ".yaml")):
                continue
            value = knobs
            for key in name.split("."):
                if not isinstance(value, dict) or key not in value:
                    pytest.fail(f"{page}: there is no knob {name}")
                value = value[key]
