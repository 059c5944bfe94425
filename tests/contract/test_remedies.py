"""Every error that a user gets says what to do about it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(path for package in ("pipeline", "jobs", "rollcall") for path in (ROOT / package).rglob("*.py"))
ALLOWED = ("must be ", "must hold ", "must not ")
"""Words that state the rule. A message with one of them needs no other remedy."""
WRITERS = {"nearest", "absent"}
"""Functions that end a message with a remedy."""
PASSED_ON = {
    ("jobs/relink.py", "lacking[0]"),
    ("pipeline/models/loading.py", "error"),
    ("pipeline/planning/relink.py", "lacking"),
    ("pipeline/weights/registry.py", "error"),
    ("pipeline/weights/registry.py", "self._files.describe(absent)"),
    ("pipeline/config.py", "message.removeprefix(keys[-1]).strip()"),
}
"""Messages of other functions, which have remedies of their own."""


def messages(path: Path) -> Iterator[tuple[int, ast.expr]]:
    """Yield the line and the message of every UserError that a file makes."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "UserError":
            yield node.lineno, node.args[0]


def has_remedy(file: str, message: ast.expr) -> bool:
    text = "".join(
        node.value for node in ast.walk(message) if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    called = {
        node.func.id for node in ast.walk(message) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    passed_on = {ast.unparse(node) for node in ast.walk(message) if isinstance(node, ast.expr)}
    return (
        "; " in text
        or any(word in text for word in ALLOWED)
        or bool(called & WRITERS)
        or any((file, expression) in PASSED_ON for expression in passed_on)
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_error_of_a_person_ends_with_a_remedy(path: Path) -> None:
    file = path.relative_to(ROOT).as_posix()
    bare = [f"line {line}: {ast.unparse(text)}" for line, text in messages(path) if not has_remedy(file, text)]
    assert not bare, "no remedy behind a semicolon:\n" + "\n".join(bare)


@pytest.mark.parametrize(
    ("source", "remedied"),
    [
        ("UserError(f'{path} is odd')", False),
        ("UserError(f'{path} is odd; name another')", True),
        ("UserError(f'--size must be even, got {size}')", True),
        ("UserError(f'no {word}{nearest(word, known, other)}')", True),
        ("UserError(f'{uri}: {plain_cause(error)}')", False),
    ],
)
def test_a_bare_error_is_noticed(source: str, remedied: bool) -> None:
    call = ast.parse(source, mode="eval").body
    assert isinstance(call, ast.Call)
    assert has_remedy("jobs/any.py", call.args[0]) is remedied
