import numpy as np

from pipeline.video.track import CUT_OFF, apart_from, embedding_weights, touching_boxes


def test_people_touch_from_a_tenth_of_the_smaller_box_on() -> None:
    boxes = np.array(
        [[0, 0, 100, 200], [95, 0, 145, 200], [300, 0, 400, 200], [396, 0, 496, 200], [600, 0, 700, 200]], np.float32
    )
    assert touching_boxes(boxes).tolist() == [True, True, False, False, False]


def test_nobody_touches_nobody() -> None:
    assert touching_boxes(np.zeros((0, 4), np.float32)).tolist() == []


def test_a_track_that_has_not_proved_itself_shows_no_box_that_touches_one_of_a_sure_track() -> None:
    boxes = np.array([[0, 0, 10, 20], [2, 0, 12, 20], [9.5, 0, 19.5, 20], [50, 0, 60, 20]], np.float32)
    tentative = np.array([7, 8, 9]), np.array([1, 2, 3])
    ids, indices = apart_from(boxes[:1], tentative, boxes)
    assert (ids.tolist(), indices.tolist()) == ([8, 9], [2, 3])
    assert [column.tolist() for column in apart_from(boxes[:0], tentative, boxes)] == [[7, 8, 9], [1, 2, 3]]
    nobody = np.zeros(0, np.int64)
    assert [len(column) for column in apart_from(boxes, (nobody, nobody), boxes)] == [0, 0]


def test_who_is_cut_off_by_the_edge_of_the_picture_says_less_about_the_looks() -> None:
    boxes = [[100, 50, 200, 250], [100, 0, 200, 200], [550, 50, 640, 250], [0, 50, 90, 250], [100, 300, 200, 479]]
    whole, *cut_off = embedding_weights(np.array(boxes, np.float32), (640, 480)).tolist()
    assert whole == 1
    np.testing.assert_allclose(cut_off, CUT_OFF)
