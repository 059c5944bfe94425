"""Find the shots of a whole video from the stored differences of neighbouring frames, as PySceneDetect does.

The detector is PySceneDetect's own. It gets the stored score of each frame instead of computing it. So cuts are
decided over the whole video, whatever its chunks were, and a threshold can be changed without decoding.
"""

from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scenedetect import ContentDetector, FrameTimecode
from scenedetect.common import Timecode

NS = 1_000_000_000


class StoredContentDetector(ContentDetector):
    """PySceneDetect's content detector with stored scores. Its process_frame uses only the time and no picture."""

    def __init__(self, scores: Iterator[float], *, threshold: float, min_shot_s: float) -> None:
        super().__init__(threshold=threshold, min_scene_len=float(min_shot_s))
        self._scores = scores

    def _calculate_frame_score(self, timecode: FrameTimecode, frame_img: NDArray[np.uint8]) -> float:
        return next(self._scores)


def find_shots(
    times_ns: NDArray[np.int64],
    hue: NDArray[np.int64],
    saturation: NDArray[np.int64],
    lightness: NDArray[np.int64],
    *,
    pixels: int,
    threshold: float,
    min_shot_s: float,
) -> list[tuple[int, int]]:
    """Return half-open ranges of frame indices, one per shot, that cover all N frames in order.

    times_ns: (N,).
    hue, saturation, lightness: (N,) sums of absolute differences to the NEXT frame over `pixels` pixels. The last
        one is ignored.
    threshold: of the content score, 0..255.
    min_shot_s: least length of a shot.
    """
    num_frames = len(times_ns)
    if num_frames == 0:
        return []
    # The content score of a frame is the mean of three mean differences to the frame BEFORE it. The first frame has
    # none.
    scores = np.concatenate([[0.0], (hue + saturation + lightness)[:-1] / pixels / 3])
    detector = StoredContentDetector(map(float, scores), threshold=threshold, min_shot_s=min_shot_s)
    nothing = np.empty((0, 0, 3), np.uint8)
    # Times are exact. The rate only serves PySceneDetect's frame counts, which a length in seconds does not use.
    rate = Fraction(1000)
    cuts: list[int] = []
    for time_ns in map(int, times_ns):
        new_cuts = detector.process_frame(FrameTimecode(Timecode(time_ns, Fraction(1, NS)), rate), nothing)
        cuts += [cut.pts for cut in new_cuts]
    starts = np.searchsorted(times_ns, cuts).tolist()
    return list(pairwise(sorted({0, *starts, num_frames})))
