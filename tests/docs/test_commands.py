"""Every command line of the documentation can be typed: it is run, or at least read by the real options.

RUN names the commands that are run here on a small output. NOT_RUN names all others, with the tests that run them.
Lines of other programs, which need a cluster or a package index, begin with a word of OTHERS.
"""

import contextlib
import importlib.util
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from jobs import main
from jobs.cli import commands_page
from tests.builders import Film, Walker, publish
from tests.clips import make_clip
from tests.docs.pages import PAGES, ROOT, programs_in, programs_in_text, shell_lines

COMMANDS = dict(commands_page.walk())
RUN = {
    *("rollcall plan", "rollcall status", "rollcall relink", "rollcall compact", "rollcall tables"),
    *("rollcall compare", "rollcall report", "rollcall export", "rollcall config show", "rollcall weights list"),
}
NOT_RUN = {
    "rollcall links": "tests/video/test_pair_pictures.py",
    "rollcall annotate": "tests/jobs/test_annotate.py",
    "rollcall process": "the slow test of this file, tests/jobs/test_process.py",
    "rollcall demo": "tests/jobs/test_demo.py",
    "rollcall anonymise": "tests/video/test_anonymisation.py",
    "rollcall forget": "tests/video/test_forgetting.py",
    "rollcall review": "tests/jobs/test_review.py",
    "rollcall bench": "tests/jobs/test_bench.py, test_bench_of_models.py",
    "rollcall weights pull": "tests/weights/test_fetch.py",
    "rollcall weights mirror": "tests/weights/test_fetch.py",
    "rollcall train": "tests/jobs/test_train_models.py, tests/training",
    "rollcall evaluate": "tests/jobs/test_evaluate_attributes.py, tests/evaluation",
    "rollcall datasets": "tests/jobs/test_datasets.py",
}
OTHERS = ("docker ", "kubectl ", "ray ", "export RAY_AUTH_MODE=", "printf 'RAY_AUTH_TOKEN=", "{ printf", "sed ", "pip ")
UNMEASURED = [page for page in PAGES if page != "docs/measured.md"]
"""docs/measured.md has the commands of its day."""
LINES = [(page, line) for page in PAGES for line in shell_lines(page)]
CALLS = [(page, words) for page, line in LINES for words in programs_in(line)]


def command_of(words: Sequence[str]) -> tuple[str, list[str]]:
    """Return the path of the command that is called, and the words behind it."""
    for end in (3, 2):
        if (path := " ".join(words[:end])) in COMMANDS:
            return path, list(words[end:])
    raise AssertionError(f"there is no command `{' '.join(words[:3])}`")


def is_group(words: Sequence[str]) -> bool:
    """Return whether words call the help of a group: 'rollcall datasets --help'."""
    return words[-1] == "--help" and any(path.startswith(" ".join(words[:-1])) for path in COMMANDS)


def test_the_page_of_commands_is_what_the_code_says() -> None:
    page = PAGES["docs/commands.md"]
    assert page == commands_page.page(), "run `python -m jobs.cli.commands_page > docs/commands.md`"


def test_every_command_has_a_section_with_its_options() -> None:
    for path, command in COMMANDS.items():
        section = PAGES["docs/commands.md"].partition(f"\n## {path}\n")[2].partition("\n## ")[0]
        options = [name for option in command.params for name in option.opts if name.startswith("--")]
        assert all(f"`{name}" in section for name in options if name != "--help"), path


@pytest.mark.parametrize(("page", "words"), CALLS, ids=[f"{page}: {' '.join(words)}" for page, words in CALLS])
def test_a_line_of_the_program_is_read_by_its_options(page: str, words: list[str]) -> None:
    if is_group(words) or words[1:] == ["--version"]:
        return
    path, rest = command_of(words)
    if "--help" in rest:
        return
    rest = [word for word in rest if not re.fullmatch(r"\d?>.*|\||&", word)]
    parent = typer.Context(COMMANDS[path], info_name="rollcall")
    try:
        COMMANDS[path].make_context(path, rest, parent=parent)
    except typer.Exit:
        raise AssertionError(f"{page}: `{' '.join(words)}` ends at once") from None
    except Exception as error:
        raise AssertionError(f"{page}: `{' '.join(words)}`: {error}") from error


@pytest.mark.parametrize("page", UNMEASURED)
def test_commands_that_the_text_names_have_the_options_that_it_names(page: str) -> None:
    for words in programs_in_text(page):
        if len(words) < 2 or is_group(words) or words[1].endswith("…"):
            continue
        if all(not path.startswith(" ".join(words[:2])) for path in COMMANDS):
            raise AssertionError(f"{page}: there is no command `{' '.join(words[:2])}`")
        with contextlib.suppress(AssertionError):  # a group is named as a whole
            path, rest = command_of(words)
            known = {name for option in COMMANDS[path].params for name in (*option.opts, *option.secondary_opts)}
            used = {word.partition("=")[0] for word in rest if word.startswith("--") and word != "--help"}
            if used - known:
                pytest.fail(f"{page}: `{path}` has no {', '.join(sorted(used - known))}")


@pytest.mark.parametrize(("page", "line"), LINES, ids=[f"{page}: {line}" for page, line in LINES])
def test_a_line_of_another_program_is_one_that_is_known(page: str, line: str) -> None:
    if list(programs_in(line)):
        return
    if made := re.match(r"make ([\w-]+)", line):
        assert f"\n{made[1]}:" in (ROOT / "Makefile").read_text()
    elif module := re.match(r"(?:\.venv/bin/)?python -m ([\w.]+)", line):
        assert importlib.util.find_spec(module[1]) is not None
    else:
        assert line.strip().startswith(OTHERS), f"{page}: add `{line}` to OTHERS, or make it run"


def test_every_command_on_a_page_is_run_here_or_by_another_test() -> None:
    called = {command_of(words)[0] for _, words in CALLS if not is_group(words) and "--help" not in words}
    known = (*RUN, *NOT_RUN)
    assert [path for path in sorted(called) if not path.startswith(known)] == []
    tests = re.findall(r"tests/[\w/.]+", " ".join(NOT_RUN.values()))
    assert [name for name in tests if not (ROOT / name).exists()] == []


RUNNABLE = list(
    dict.fromkeys(
        " ".join(words) for _, words in CALLS if not is_group(words) and "--help" not in words
        and command_of(words)[0] in RUN
    )
)  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with an archive of one video, and outputs of it under two configurations."""
    folder = tmp_path_factory.mktemp("place")
    film = Film(4.0, [Walker(0, 4, x=20, look=1, age=30.0), Walker(1, 3, x=400, look=2)], cuts=[2.0])
    (folder / "archive").mkdir()
    make_clip(folder / "archive" / "clip.mp4")
    for name, settings in (("archive", []), ("other", ["identity.wrong_joins=1e-9"])):
        publish(film, [], str(folder / "results" / name), *settings)
    before = Path.cwd()
    os.chdir(folder)
    CliRunner().invoke(main.app, ["compact", "results/archive"])
    yield folder
    os.chdir(before)


@pytest.mark.parametrize("line", RUNNABLE)
def test_a_line_that_needs_no_model_runs_on_a_small_output(place: Path, line: str) -> None:
    words = [
        word.replace("s3://results/", "results/").replace("out/archive", "results/archive") for word in line.split()
    ]
    result: Any = CliRunner().invoke(main.app, words[1:])
    expected = {0, 3} if words[1] == "compare" else {0}  # 3: they differ
    assert result.exit_code in expected, result.output + str(result.exception)
    assert result.output.strip()


PROCESSED = [
    words
    for page, words in CALLS
    if page not in ("docs/cluster.md", "docs/training.md") and command_of(words)[0] == "rollcall process"
]


@pytest.mark.slow
@pytest.mark.parametrize("words", PROCESSED, ids=[" ".join(words) for words in PROCESSED])
def test_a_line_that_processes_runs_on_a_small_clip(place: Path, words: list[str]) -> None:
    from tests.commands import rollcall

    clip = place / "archive" / "clip.mp4"
    replaced = [str(clip) if word == "VIDEO…" else word for word in words[2:]]
    replaced = [re.sub(r"^(s3://results|out)/", f"{place}/made/", word) for word in replaced]
    replaced = [f"{place}/archive" if word == "archive/" else word for word in replaced]
    done = rollcall("process", *replaced, "--set", "observe.fps=1")
    assert done.returncode == 0, done.stdout + done.stderr


def test_links_between_pages_lead_somewhere() -> None:
    for page, text in PAGES.items():
        folder = (ROOT / page).parent
        for target in re.findall(r"\]\(([^)#\s]*)(?:#[^)\s]*)?\)", text):
            if target and "://" not in target:
                assert (folder / target).exists(), f"{page}: {target}"


def test_links_to_headings_lead_to_headings() -> None:
    for page, text in PAGES.items():
        for target, anchor in re.findall(r"\]\(([^)#\s]*)#([^)\s]*)\)", text):
            if "://" in target or not (target == "" or target.endswith(".md")):
                continue
            path = (ROOT / page).parent / target if target else ROOT / page
            headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in anchors, f"{page}: {target}#{anchor}"
