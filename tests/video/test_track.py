import numpy as np

from pipeline.video.track import touching_boxes


def test_people_touch_from_a_tenth_of_the_smaller_box_on() -> None:
    boxes = np.array(
        [[0, 0, 100, 200], [95, 0, 145, 200], [300, 0, 400, 200], [396, 0, 496, 200], [600, 0, 700, 200]], np.float32
    )
    assert touching_boxes(boxes).tolist() == [True, True, False, False, False]


def test_nobody_touches_nobody() -> None:
    assert touching_boxes(np.zeros((0, 4), np.float32)).tolist() == []
