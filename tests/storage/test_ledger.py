from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline import rows
from pipeline.storage.ledger import WORK, ChunkSpan, Keys, Ledger, count_durable, drop_older, is_whole
from pipeline.storage.store import Store
from tests.s3_proxy import S3Proxy

OBSERVED, ENRICHED = rows.blank(rows.OBSERVED, 1), rows.blank(rows.ENRICHED, 1)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(Store(str(tmp_path)), Keys("o1", "e1"))


def test_a_chunk_is_durable_when_both_of_its_objects_are(ledger: Ledger) -> None:
    ledger.commit("v", (0, 4), OBSERVED, ENRICHED)
    ledger.commit("v", (4, -1), OBSERVED, ENRICHED)
    assert ledger.durable() == {"v": [(0, 4), (4, -1)]}
    ledger.store.delete("_work/v/observed-o1/00000000-00000004.parquet")
    assert ledger.durable() == {"v": [(4, -1)]}


def test_other_knobs_and_weights_share_nothing_but_what_they_do_not_shape(ledger: Ledger) -> None:
    ledger.commit("v", (0, -1), OBSERVED, ENRICHED)
    assert Ledger(ledger.store, Keys("o1", "e2")).durable() == {}
    assert Ledger(ledger.store, Keys("o2", "e1")).durable() == {}


@pytest.mark.parametrize(
    ("spans", "whole"),
    [
        ([(0, -1)], True),
        ([(0, 3), (3, 7), (7, -1)], True),
        ([], False),
        ([(0, 3)], False),  # the end is missing
        ([(3, -1)], False),  # the start is missing
        ([(0, 3), (4, -1)], False),  # a hole
    ],
)
def test_a_video_is_whole_when_chunks_cover_it_without_a_gap(spans: list[ChunkSpan], whole: bool) -> None:
    assert is_whole(spans) is whole


def test_what_was_committed_is_read_back(ledger: Ledger) -> None:
    table = pa.table(
        {"warning": ["[3]"], "width": [10], "height": [20], "thumbnail_pixels": [1], "frames": [[]], "detections": [[]]}
    )
    ledger.commit("v", (0, -1), table.cast(rows.OBSERVED), ENRICHED)
    assert ledger.observed("v", (0, -1), ["width", "warning"]).to_pylist() == [{"width": 10, "warning": "[3]"}]


def test_attempts_are_counted_by_run_and_forgotten_after_success(ledger: Ledger) -> None:
    assert [ledger.begin_attempt("v", "run1", "observe", 0) for _ in range(2)] == [1, 2]
    assert ledger.begin_attempt("v", "run1", "enrich", 0) == 1
    assert ledger.begin_attempt("v", "run1", "observe", 10) == 1
    assert ledger.begin_attempt("v", "run2", "observe", 0) == 1
    ledger.end_attempts("v", "run1", "observe", 0, 2)
    assert ledger.begin_attempt("v", "run1", "observe", 0) == 1


def test_old_work_goes_and_new_work_stays(ledger: Ledger) -> None:
    ledger.commit("v", (0, -1), OBSERVED, ENRICHED)
    drop_older(ledger.store, ledger.store.stamps(WORK), datetime.now(UTC) - timedelta(hours=1))
    assert count_durable(ledger.store.names(WORK)) == {"v": 1}
    drop_older(ledger.store, ledger.store.stamps(WORK), datetime.now(UTC) + timedelta(hours=1), spared={"v"})
    assert count_durable(ledger.store.names(WORK)) == {"v": 1}
    drop_older(ledger.store, ledger.store.stamps(WORK), datetime.now(UTC) + timedelta(hours=1))
    assert count_durable(ledger.store.names(WORK)) == {}


@dataclass(frozen=True)
class Held:
    """A guard that always agrees."""

    strength: str
    swaps: bool = False
    note: str = "1 me"

    def for_work(self) -> "Held":
        return self

    def confirm(self, *, at_once: bool = False) -> None: ...


@pytest.mark.parametrize(
    ("conditions", "strength", "expected"),
    [("kept", "create-only", {"PUT": 3, "DELETE": 1}), ("ignored", "advisory", {"LIST": 1, "PUT": 3, "DELETE": 1})],
)
def test_a_chunk_takes_few_requests_and_its_attempts_are_counted(
    s3_proxy: S3Proxy, conditions: Any, strength: str, expected: dict[str, int]
) -> None:
    s3_proxy.conditions = conditions
    ledger = Ledger(Store(f"{s3_proxy.bucket}/out", Held(strength)), Keys("o", "e"))
    assert ledger.begin_attempt("v", "run", "pool", 0) == 1
    ledger.commit("v", (0, -1), OBSERVED, ENRICHED)
    ledger.end_attempts("v", "run", "pool", 0, 1)
    assert s3_proxy.requests == expected
    assert [ledger.begin_attempt("v", "run", "pool", 0) for _ in range(3)] == [1, 2, 3]
    ledger.take_back_attempt("v", "run", "pool")
    assert [ledger.begin_attempt("v", "run", "pool", 0), ledger.begin_attempt("v", "run", "pool", 4)] == [3, 1]


def test_a_mark_whose_answer_got_lost_counts_once(s3_proxy: S3Proxy) -> None:
    ledger = Ledger(Store(f"{s3_proxy.bucket}/out", Held("full")), Keys("o", "e"))
    answers = iter(["lost"])
    s3_proxy.rule = lambda request: next(answers, None) if request.verb == "PUT" else None
    assert ledger.begin_attempt("v", "run", "pool", 0) == 1


def test_files_are_asked_for_with_one_request(s3_proxy: S3Proxy) -> None:
    store = Store(f"{s3_proxy.bucket}/out")
    store.put("a", b"1")
    for ask, expected in (
        (lambda: store.exists("a"), {"HEAD": 1}),
        (lambda: store.exists("b"), {"HEAD": 1}),
        (lambda: store.read("a"), {"GET": 1}),
        (lambda: store.names("nothing"), {"LIST": 1}),
        (lambda: store.move("a", "c"), {"HEAD": 1, "PUT": 1, "DELETE": 1}),
        (lambda: store.delete_tree("nothing"), {"LIST": 1}),
    ):
        s3_proxy.requests.clear()
        ask()
        assert s3_proxy.requests == expected
