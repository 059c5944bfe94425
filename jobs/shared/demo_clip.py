"""The clip of the demo: photographs that ship inside installed packages, filmed one after the other."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from pipeline.arrays import Picture
from pipeline.media.film import Window, pan, write_mp4
from pipeline.media.pictures import read_picture
from pipeline.weights import local_path

CLIP = "demo.mp4"
WIDTH, HEIGHT, FPS = 960, 540, 25
SECONDS_PER_SHOT = 3
KEYFRAME_EVERY = 2 * FPS


@dataclass(frozen=True, slots=True)
class Known:
    """A person of the STORY, and the facts that are known about them.

    name: as the demo prints it.
    gender: 'F' or 'M'.
    ages: years. The youngest and the oldest that the person can have been in the photograph; None if unknown.
    """

    name: str
    gender: str
    ages: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Shot:
    """A shot of the STORY, in which the camera moves over a photograph.

    photograph: path inside an installed package.
    start: window of the photograph in the first frame.
    end: window of the photograph in the last frame.
    people: from left to right.
    """

    photograph: str
    start: Window
    end: Window
    people: tuple[Known, ...]


# No source dates the portrait. Its subject, born in November 1956, was an astronaut from 1990 to 2006. The two men at
# the touchline, born in June 1972 and in June 1959, were photographed at a match in May 2014.
ASTRONAUT = Known("the astronaut", "F", (33, 49))
SHOUTING, WATCHING = Known("the one who shouts", "M", (41, 41)), Known("the one who watches", "M", (54, 54))
LIGHT, DARK = Known("the light coat", "M"), Known("the dark coat", "M")
# Detectors take an outstretched arm, a flag or a passer-by cut off by the border for a person. The windows leave these
# out, so that nobody can argue about the truth.
STORY = (
    Shot("skimage/data/astronaut.png", (90, 0, 400), (100, 20, 390), (ASTRONAUT,)),
    Shot("ultralytics/assets/zidane.jpg", (658, 28, 600), (672, 60, 600), (WATCHING,)),
    Shot("ultralytics/assets/bus.jpg", (66, 380, 400), (66, 380, 595), (LIGHT, DARK)),
    Shot("ultralytics/assets/zidane.jpg", (40, 150, 720), (80, 165, 680), (SHOUTING,)),
    Shot("skimage/data/astronaut.png", (110, 20, 380), (90, 0, 400), (ASTRONAUT,)),
)


def make_clip(file: IO[bytes]) -> None:
    """Film the STORY into a seekable file: H.264 in MP4, hard cuts, a keyframe every two seconds and at most cuts."""
    write_mp4(file, clip_frames(), fps=FPS, keyframe_every=KEYFRAME_EVERY)


def clip_frames() -> Iterator[Picture]:
    """Yield the frames of the clip, each (HEIGHT, WIDTH, 3) uint8 RGB."""
    for shot in STORY:
        photograph = read_picture(lambda name=shot.photograph: str(local_path(f"package:{name}")))
        num_frames = SECONDS_PER_SHOT * FPS
        yield from pan(photograph, shot.start, shot.end, num_frames=num_frames, width=WIDTH, height=HEIGHT)
