"""Tests of the places of labels."""

import numpy as np

from pipeline.cores.labels import PlacedLabel, Rectangle, place_labels

PICTURE = (320, 240)


def test_a_label_stands_above_its_box() -> None:
    assert place_labels([(100, 100, 140, 200)], [[(60, 16)]], PICTURE) == [PlacedLabel(0, 100, 84)]


def test_a_label_stays_inside_the_picture() -> None:
    random = np.random.default_rng(0)
    for _ in range(300):
        left, top = random.integers(0, 318), random.integers(0, 238)
        box: Rectangle = (int(left), int(top), int(random.integers(left + 1, 321)), int(random.integers(top + 1, 241)))
        (place,) = place_labels([box], [[(90, 18), (30, 18)]], PICTURE)
        width = (90, 30)[place.form]
        assert place.left >= 0
        assert place.top >= 0
        assert place.left + width <= PICTURE[0]
        assert place.top + 18 <= PICTURE[1]


def test_a_label_that_is_wider_than_the_picture_is_shortened() -> None:
    (place,) = place_labels([(10, 50, 40, 100)], [[(400, 16), (100, 16), (20, 16)]], PICTURE)
    assert place.form == 1


def test_labels_of_people_side_by_side_do_not_cover_one_another() -> None:
    boxes: list[Rectangle] = [(left, 100, left + 30, 200) for left in range(20, 300, 40)]
    forms = [[(100, 16), (40, 16), (16, 16)] for _ in boxes]
    places = place_labels(boxes, forms, PICTURE)
    taken = [
        (place.left, place.top, place.left + sizes[place.form][0], place.top + 16)
        for place, sizes in zip(places, forms, strict=True)
    ]
    for index, a in enumerate(taken):
        for b in taken[:index]:
            assert min(a[2], b[2]) <= max(a[0], b[0]) or min(a[3], b[3]) <= max(a[1], b[1])


def test_the_shortest_label_is_placed_where_nothing_is_free() -> None:
    whole: Rectangle = (0, 0, 320, 240)
    places = place_labels([whole] * 40, [[(320, 120), (160, 60)]] * 40, PICTURE)
    assert len(places) == 40
    assert places[-1].form in (0, 1)
