import numpy as np

from pipeline.cores.portraits import Bodies, JudgedFaces, Portrait, choose_portraits, widened

SIZE = (640, 480)
NO_FACES = JudgedFaces(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros((0, 4)))


def bodies(*rows: tuple[int, int, float, tuple[float, float, float, float]]) -> Bodies:
    """rows: person, frame, score, box."""
    persons, frames, scores, boxes = zip(*rows, strict=True)
    return Bodies(np.array(frames), np.array(persons), np.array(frames) / 10, np.array(scores), np.array(boxes))


def faces(*rows: tuple[int, int, float, float]) -> JudgedFaces:
    """rows: person, frame, quality, width."""
    persons, frames, qualities, widths = zip(*rows, strict=True)
    boxes = np.array([(100, 100, 100 + width, 100 + width) for width in widths], np.float64)
    return JudgedFaces(np.array(frames), np.array(persons), np.array(qualities), boxes)


def chosen(portraits: list[Portrait]) -> list[tuple[int, int, bool]]:
    return [(portrait.person_id, portrait.frame, portrait.face is not None) for portrait in portraits]


INSIDE = (100.0, 100.0, 200.0, 300.0)


def test_the_best_face_decides_and_the_larger_of_two_equals() -> None:
    there = bodies(*[(1, frame, 0.9, INSIDE) for frame in (1, 2, 3, 4)])
    assert chosen(choose_portraits(there, faces((1, 1, 0.5, 90), (1, 3, 0.9, 30), (1, 4, 0.7, 60)), SIZE)) == [
        (1, 3, True)
    ]
    assert chosen(choose_portraits(there, faces((1, 1, 0.9, 30), (1, 4, 0.9, 60), (1, 2, 0.9, 60)), SIZE)) == [
        (1, 2, True)
    ]


def test_without_a_face_the_largest_whole_and_certain_body_decides() -> None:
    cut = (0.0, 100.0, 130.0, 300.0)
    there = bodies(
        (1, 1, 0.9, cut), (1, 2, 0.9, INSIDE), (1, 3, 0.5, INSIDE), (1, 4, 0.9, (100.0, 100.0, 180.0, 280.0))
    )
    assert chosen(choose_portraits(there, NO_FACES, SIZE)) == [(1, 2, False)]
    assert chosen(choose_portraits(bodies((1, 7, 0.9, cut)), NO_FACES, SIZE)) == [(1, 7, False)]


def test_everybody_gets_a_portrait_of_their_own() -> None:
    """A newcomer's better face is no picture of the person whose place it takes."""
    there = bodies((2, 5, 0.9, INSIDE), (1, 1, 0.9, INSIDE), (1, 2, 0.9, INSIDE), (3, 9, 0.9, INSIDE))
    portraits = choose_portraits(there, faces((2, 5, 0.99, 80), (1, 2, 0.4, 20)), SIZE)
    assert chosen(portraits) == [(1, 2, True), (2, 5, True), (3, 9, False)]
    assert [portrait.time_s for portrait in portraits] == [0.2, 0.5, 0.9]


def test_a_face_of_a_frame_without_the_body_is_passed_over() -> None:
    assert chosen(choose_portraits(bodies((1, 1, 0.9, INSIDE)), faces((1, 2, 0.9, 50)), SIZE)) == [(1, 1, False)]


def test_nobody_has_no_portrait() -> None:
    nobody = Bodies(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros(0), np.zeros((0, 4)))
    assert choose_portraits(nobody, NO_FACES, SIZE) == []


def test_a_margin_is_a_share_of_each_side() -> None:
    assert widened(np.array([10.0, 20, 30, 60]), 0.1).tolist() == [8, 16, 32, 64]
