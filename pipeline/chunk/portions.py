"""Find the people of a span's frames, one portion of pictures after the other.

The detector needs most of the time on a CPU, and nothing that happens to the people afterwards. So threads can detect
ahead of the one that records them.
"""

import contextlib
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from pipeline.arrays import Detections, Faces, Picture, Planes
from pipeline.cores.plan import OPEN_END
from pipeline.interfaces import BodyEmbedder, CardPixels, FaceDetector, PersonDetector
from pipeline.media.ahead import ahead
from pipeline.media.decode import DecodedFrame
from pipeline.models.threads import ModelThreads, end


@dataclass(frozen=True, slots=True)
class ObserverModels:
    """The models that process pictures.

    detector: finds people.
    embedder: embeds bodies. None if the profile uses no appearance.
    face_check: the quick face check on crops. None if quality alone decides.
    whole_frame: finds faces in whole frames. None unless observe.whole_frame_faces is set.
    card_pixels: reads pictures that the decoder leaves as planes. None if all of them become RGB.
    """

    detector: PersonDetector
    embedder: BodyEmbedder | None
    face_check: FaceDetector | None
    whole_frame: FaceDetector | None
    card_pixels: CardPixels | None = None


People = Sequence[tuple[Detections, Faces | None]]
"""The people in each picture, and the faces in the whole of it. None if nobody looked for them."""


@dataclass(slots=True)
class Portion:
    """Consecutive frames of one chunk.

    frames: in order.
    """

    frames: list[DecodedFrame] = field(default_factory=list)
    _people: "Future[People] | None" = None

    def detect(self, models: ObserverModels, threads: ModelThreads, *, alone: bool) -> None:
        """Begin to find the people in the pictures in one of `threads`. alone: use batches of one."""
        pictures = [picture for frame in self.frames if isinstance(picture := picture_of(frame), np.ndarray)]
        self._people = threads.submit(lambda: _find(models, pictures, alone=alone))

    def people(self) -> People | None:
        """Wait for the people and faces of each picture, and return them. None if nothing was begun."""
        return None if self._people is None else self._people.result()

    def end(self) -> None:
        """Give up what was begun."""
        if self._people is not None:
            end([self._people])


def picture_of(frame: DecodedFrame) -> Picture | Planes | None:
    """Return the picture of a frame that the models see, as the decoder left it."""
    return (frame.picture if frame.planes is None else frame.planes) if frame.analysed else None


def _find(models: ObserverModels, pictures: Sequence[Picture], *, alone: bool) -> People:
    faces = models.whole_frame(pictures) if models.whole_frame and pictures else [None] * len(pictures)
    return list(zip(models.detector(pictures, alone=alone) if pictures else (), faces, strict=True))


class Portions:
    """Cuts the frames of a span into portions, and finds the people in them.

    size: number of pictures in a portion, and of frames that are decoded ahead.
    waiting: number of portions in which people are found ahead, in `threads`. 0: the caller's thread finds them.
    alone: use batches of one.
    """

    def __init__(
        self, models: ObserverModels, threads: ModelThreads | None, *, size: int, waiting: int, alone: bool
    ) -> None:
        self._models, self._threads = models, threads if waiting else None
        self._size, self._waiting, self._alone = size, waiting, alone

    @contextlib.contextmanager
    def of(
        self, decoder: Iterable[DecodedFrame], chunks: Sequence[tuple[int, int]]
    ) -> Iterator[Iterator[Portion | None]]:
        """Yield an iterator of the portions of each of `chunks`, with None after each chunk. Frames between the chunks
        are left out. At the end of the block, nothing of it is in work any more.

        chunks: first cell, and the cell after the last one.
        """
        begun = deque[Portion](maxlen=self._waiting + 2)  # one more is handed over, and one is with the caller
        portions = self._begun(decoder, chunks, begun)
        try:
            with contextlib.closing(ahead(portions, self._waiting) if self._waiting else portions) as ready:
                yield ready
        finally:
            for portion in begun:
                portion.end()

    def _begun(
        self, decoder: Iterable[DecodedFrame], chunks: Sequence[tuple[int, int]], begun: deque[Portion]
    ) -> Generator[Portion | None]:
        def detect(frames: list[DecodedFrame]) -> Portion:
            portion = Portion(frames)
            if self._threads:
                begun.append(portion)
                portion.detect(self._models, self._threads, alone=self._alone)
            return portion

        with contextlib.closing(ahead(decoder, self._size)) as frames:
            frame = next(frames, None)
            for first_cell, end_cell in chunks:
                portion: list[DecodedFrame] = []
                num_pictures = 0
                while frame is not None and (end_cell == OPEN_END or frame.cell < end_cell):
                    if frame.cell >= first_cell:
                        portion.append(frame)
                        num_pictures += picture_of(frame) is not None
                    if num_pictures == self._size:
                        yield detect(portion)
                        portion, num_pictures = [], 0
                    frame = next(frames, None)
                yield detect(portion)
                yield None
