from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.cores.lone_people import EmbeddedPeople

ROUND, APART, BESIDE = [0, 0, 50, 100], [200, 0, 250, 100], [40, 0, 90, 100]
STEP_NS = 125_000_000


def sources(
    *frames: Sequence[Sequence[float]], cells: tuple[int, ...] = (), steps: tuple[int, ...] = ()
) -> list[list[int]]:
    """Return whose embedding the people of each frame have, one frame every 125 ms and for less than 500 ms."""
    people, first, result = EmbeddedPeople.nobody(), 0, []
    for index, boxes in enumerate(frames):
        place: dict[str, Any] = {
            "cell": cells[index] if cells else 0,
            "step": steps[index] if steps else index,
            "time_ns": index * STEP_NS,
        }
        array = np.array(boxes, np.float32).reshape(-1, 4)
        people = people.followed_by(**place, boxes=array, first=first, reuse_ns=4 * STEP_NS)
        first += len(boxes)
        result.append(people.sources.tolist())
    return result


def test_a_person_alone_is_embedded_anew_after_half_a_second() -> None:
    assert sources(*[[ROUND]] * 9) == [[0], [0], [0], [0], [4], [4], [4], [4], [8]]


def test_people_who_overlap_are_embedded_in_every_frame() -> None:
    near = [30, 0, 80, 100]  # covers .4 of the other
    assert sources([ROUND, near], [ROUND, near]) == [[0, 1], [2, 3]]
    assert sources([ROUND, BESIDE], [ROUND, BESIDE]) == [[0, 1], [0, 1]]


def test_a_person_is_embedded_anew_who_was_covered_before_or_is_now() -> None:
    near = [30, 0, 80, 100]
    assert sources([ROUND, near], [ROUND], [ROUND]) == [[0, 1], [2], [2]]
    assert sources([ROUND], [ROUND, near]) == [[0], [1, 2]]


def test_embeddings_end_with_the_cell_at_a_cut_and_with_a_jump() -> None:
    assert sources([ROUND], [ROUND], cells=(0, 1)) == [[0], [1]]
    assert sources([ROUND], [ROUND], steps=(0, 2)) == [[0], [1]]
    assert sources([ROUND], [[26, 0, 76, 100]]) == [[0], [1]]


def test_each_embedding_stands_for_one_person() -> None:
    assert sources([ROUND], [[5, 0, 55, 100], APART]) == [[0], [0, 2]]
    assert sources([], [ROUND], []) == [[], [0], []]
