"""Tests that tasks in processes of this machine outlive the death of a process."""

import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from pipeline.errors import DataError
from pipeline.flow.local_tasks import LocalTasks
from tests.patience import PATIENCE_S, eventually, has_ended


@pytest.fixture
def tasks() -> Iterator[LocalTasks]:
    made = LocalTasks(2)
    yield made
    made.close()


def die_the_first_times(marks: Path, times: int) -> str:
    if len(list(marks.iterdir())) < times:
        (marks / str(time.monotonic_ns())).touch()
        os._exit(1)
    return "done"


def refuse() -> None:
    raise DataError("no")


def wait_long(mark: Path) -> None:
    mark.write_text(str(os.getpid()))
    time.sleep(600)


def test_a_task_whose_process_dies_is_tried_again(tasks: LocalTasks, tmp_path: Path) -> None:
    assert tasks.submit(partial(die_the_first_times, tmp_path, 2)).result(PATIENCE_S) == "done"


def test_a_task_that_kills_every_process_fails_and_others_go_on(tasks: LocalTasks, tmp_path: Path) -> None:
    deadly = tasks.submit(partial(die_the_first_times, tmp_path, 99))
    assert tasks.submit(os.getpid).result(PATIENCE_S) != os.getpid()
    with pytest.raises(DataError, match="its worker died 3 times"):
        deadly.result(PATIENCE_S)


def test_an_error_of_a_task_reaches_its_caller(tasks: LocalTasks) -> None:
    with pytest.raises(DataError, match="no"):
        tasks.submit(refuse).result(PATIENCE_S)


def test_processes_end_when_their_parent_lets_go(tmp_path: Path) -> None:
    tasks = LocalTasks(1)
    mark = tmp_path / "started"
    tasks.submit(partial(wait_long, mark))
    process = psutil.Process(int(eventually(lambda: mark.exists() and mark.read_text())))
    tasks.close()
    eventually(lambda: has_ended(process), "the process goes on")
