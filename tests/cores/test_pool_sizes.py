from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cores.pool_sizes import OTHER_BYTES, WORKER_BYTES, PoolSizes, pool_sizes


def sizes(cpus: float, gpus: float = 0, *, memory_bytes: float = inf, spans: int = 1, **chosen: int) -> PoolSizes:
    return pool_sizes(cpus, gpus, memory_bytes, spans=spans, **chosen)


def test_two_cores_have_one_worker_of_each_and_room_to_track() -> None:
    assert sizes(2) == PoolSizes(observe=1, enrich=1, observe_cpus=0.5, enrich_cpus=0.5, gpu_share=0)


@pytest.mark.parametrize(("cpus", "observe", "enrich"), [(1, 1, 1), (4, 3, 1), (8, 6, 1), (16, 13, 2), (64, 55, 8)])
def test_all_cores_are_used(cpus: int, observe: int, enrich: int) -> None:
    chosen = sizes(cpus)
    assert (chosen.observe, chosen.enrich) == (observe, enrich)


@pytest.mark.parametrize(
    ("cpus", "gpus", "spans", "observe", "share"), [(16, 1, 6, 4, 0.166), (8, 1, 6, 2, 0.333), (96, 8, 6, 24, 0.2)]
)
def test_a_card_has_a_few_workers_with_several_spans(
    cpus: int, gpus: int, spans: int, observe: int, share: float
) -> None:
    chosen = sizes(cpus, gpus, spans=spans)
    assert (chosen.observe, chosen.gpu_share) == (observe, share)


def test_a_card_has_a_worker_for_each_core_if_each_works_on_one_span() -> None:
    assert sizes(16, 1).observe == 13


def test_there_are_no_more_workers_than_fit_into_memory() -> None:
    assert sizes(16, memory_bytes=OTHER_BYTES + 5 * WORKER_BYTES).observe == 3
    assert sizes(16, memory_bytes=0).observe == 1


def test_numbers_that_the_user_has_chosen_stay() -> None:
    chosen = sizes(16, 1, spans=6, observe=10, enrich=5, restore=5)
    assert (chosen.observe, chosen.enrich, chosen.gpu_share) == (10, 5, 0.05)


@given(st.integers(1, 300), st.integers(0, 16), st.integers(1, 8))
def test_workers_and_a_reduce_fit_the_books_of_ray(cpus: int, gpus: int, spans: int) -> None:
    chosen = sizes(cpus, gpus, spans=spans)
    booked = chosen.observe * chosen.observe_cpus + chosen.enrich * chosen.enrich_cpus
    if cpus >= 2 and gpus <= cpus / 2:
        assert booked + 1 <= cpus + 1e-9
    assert (chosen.observe + chosen.enrich) * chosen.gpu_share <= gpus
    assert not gpus or chosen.gpu_share > 0
