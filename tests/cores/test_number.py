import numpy as np

from pipeline.cores.number import number_persons, number_tracklets


def boxes(*left_tops: tuple[float, float]) -> np.ndarray:
    return np.array([(x, y, x + 50, y + 100) for x, y in left_tops], np.float32).reshape(-1, 4)


def test_who_appears_first_is_number_one() -> None:
    assert number_tracklets(np.array([7, 0, 3]), boxes((0, 0), (9, 9), (5, 5))).tolist() == [3, 1, 2]


def test_in_one_frame_the_left_one_comes_first_then_the_upper_one() -> None:
    assert number_tracklets(np.array([4, 4, 4]), boxes((30, 0), (10, 20), (10, 5))).tolist() == [3, 2, 1]


def test_a_person_has_the_place_of_the_first_tracklet() -> None:
    tracklet_ids = np.array([3, 1, 2, 4])
    persons = np.array([8, 5, 5, 8])  # the values of labels do not matter
    assert number_persons(tracklet_ids, persons).tolist() == [2, 1, 1, 2]


def test_the_names_of_the_labels_do_not_matter() -> None:
    tracklet_ids = np.array([2, 3, 1])
    assert number_persons(tracklet_ids, np.array([0, 1, 2])).tolist() == [2, 3, 1]
    assert number_persons(tracklet_ids, np.array([9, 4, 6])).tolist() == [2, 3, 1]


def test_nobody_needs_no_number() -> None:
    nothing = np.zeros(0, np.int64)
    assert number_tracklets(nothing, boxes()).tolist() == []
    assert number_persons(nothing, nothing).tolist() == []
