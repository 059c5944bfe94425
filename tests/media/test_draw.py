from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from pipeline.media.draw import COLOURS, draw_people, encode_png, sheet

BLACK = np.zeros((120, 200, 3), np.uint8)


def test_a_box_is_drawn_in_the_colour_of_its_id_around_the_person() -> None:
    drawn = draw_people(BLACK, np.array([[50.0, 40, 90, 110]]), [2], ["2"])
    assert tuple(drawn[109, 70]) == tuple(drawn[75, 50]) == COLOURS[1]
    assert not drawn[75, 70].any()
    assert not BLACK.any()


def test_colours_begin_again_after_the_last() -> None:
    drawn = draw_people(BLACK, np.array([[50.0, 40, 90, 110]]), [len(COLOURS) + 1], ["x"])
    assert tuple(drawn[75, 50]) == COLOURS[0]


@pytest.mark.parametrize("box", [[0.0, 0, 40, 110], [180.0, 40, 200, 110]])
def test_a_label_stays_in_the_picture(box: list[float]) -> None:
    label = "12 · female, 33"
    drawn = draw_people(BLACK, np.array([box]), [1], [label])
    assert ((drawn == COLOURS[0]).all(axis=2)).sum() > 60 * 12  # all of its plate, not a part
    assert drawn.shape == BLACK.shape


def test_nobody_leaves_the_picture_as_it_is() -> None:
    assert not draw_people(BLACK, np.zeros((0, 4)), [], []).any()


def test_a_sheet_holds_every_picture_and_centres_the_last_row() -> None:
    pictures = [np.full((10, 20, 3), 50 + index, np.uint8) for index in range(5)]
    page = sheet(pictures, columns=3, gap_px=2)
    assert page.shape == (2 * 12 + 2, 3 * 22 + 2, 3)
    for index in range(5):
        assert (page == 50 + index).all(axis=2).sum() == 200
    row = np.flatnonzero((page[20] != 255).any(axis=1))
    assert row.min() == page.shape[1] - 1 - row.max()


def test_a_png_holds_the_pixels() -> None:
    picture = np.arange(600, dtype=np.uint8).reshape(10, 20, 3)
    assert np.array_equal(np.asarray(Image.open(BytesIO(encode_png(picture)))), picture)
