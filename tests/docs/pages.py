"""The pages of the documentation, and the command lines on them."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in sorted([ROOT / "README.md", ROOT / "infra" / "README.md", *(ROOT / "docs").rglob("*.md")])
}
"""The text of each page, by its path in the repository."""
BLOCK = re.compile(r"^( *)```sh\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


def shell_lines(page: str) -> list[str]:
    """Return the lines of the shell blocks of a page, without comments. A line that goes on is joined."""
    lines = []
    for indent, block in BLOCK.findall(PAGES[page]):
        joined = re.sub(r"\\\n\s*", " ", "\n".join(line.removeprefix(indent) for line in block.splitlines()))
        lines += [" ".join(shlex.split(line, comments=True)) and line for line in joined.splitlines()]
    return [line for line in lines if line.strip()]


def programs_in(line: str) -> Iterator[list[str]]:
    """Yield the words of each call of the program in a command line, from 'rollcall' on: also behind
    `ray job submit … --`."""
    words = shlex.split(line, comments=True)
    for place, word in enumerate(words):
        is_first = place == 0 or words[place - 1] in ("--", "&&", ";")
        if is_first and word in ("rollcall", ".venv/bin/rollcall"):
            yield ["rollcall", *words[place + 1 :]]
        elif re.match(r"jobs\.(?!(?:cli|benchmarks)\b)", word) and words[place - 1] == "-m":
            name = word.removeprefix("jobs.")
            yield ["rollcall", *([] if name == "main" else name.split(".")), *words[place + 1 :]]


def programs_in_text(page: str) -> list[list[str]]:
    """Return the words of each call of the program that a page names in its text."""
    calls = []
    for code in INLINE.findall(PAGES[page]):
        if code.startswith(("rollcall ", "python -m jobs.")):
            calls += programs_in(code.replace("'", "").replace('"', ""))
    return calls
