import numpy as np

from pipeline.corpora.near_duplicates import held_out, near_duplicates
from tests.corpora.scenes import scene


def test_near_duplicates_share_a_group_also_mirrored_darkened_and_over_a_third() -> None:
    first = scene(1)
    dark = (first * 0.6).astype(np.uint8)
    moved = np.roll(first, 2, axis=1)
    pictures = [scene(2), first, scene(3), np.ascontiguousarray(first[:, ::-1]), dark, moved, scene(4)]
    groups = near_duplicates(pictures)
    assert len({groups[index] for index in (1, 3, 4, 5)}) == 1
    assert len(set(groups.tolist())) == 4


def test_whole_groups_are_held_out_up_to_the_share() -> None:
    groups = np.repeat(np.arange(40), 5)
    chosen = held_out(groups, 0.1, seed=0)
    assert chosen.sum() == 20
    assert all(len(set(chosen[groups == group].tolist())) == 1 for group in range(40))
    assert (held_out(groups, 0.1, seed=1) != chosen).any()


def test_a_group_larger_than_the_share_stays() -> None:
    groups = np.array([0] * 90 + list(range(1, 11)))
    assert not held_out(groups, 0.1, seed=3)[:90].any()
