"""Ways of decoding a video from its start to its end, ours and those of others. Each returns the number of frames.

There are two amounts of work. FRAMES: every frame decoded, no pixel converted. PICTURES: also a thumbnail of every
frame, and the analysed frames as RGB. The decoder of `process` does more at the second: it compares the thumbnails,
sketches the place and measures the motion of the camera. SAME does no more than the others.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from pipeline.arrays import Picture
from pipeline.chunk.decoder import card_decoder, decoder_of_span
from pipeline.config import Config
from pipeline.cores.plan import OPEN_END
from pipeline.errors import MachineError
from pipeline.malloc import keep_freed
from pipeline.media.decode import DecodedFrame, SpanDecoder
from pipeline.media.nvdec import CardDecoder, NotOnCard
from pipeline.media.probe import Probe
from pipeline.media.probing import probe
from pipeline.media.screen import Screen
from pipeline.media.shown import ShownFrames
from pipeline.media.thumbnails import Thumbnails
from pipeline.storage.source_files import opener

FRAMES, PICTURES = "frames", "pictures"
ROLLCALL, STEADY, SAME = "rollcall", "rollcall, no camera motion", "rollcall, pictures alone"
OURS = (ROLLCALL, STEADY, SAME)
ANALYSED_EVERY = 3
"""Frames per analysed frame of the other ways: 8 of 25 a second."""


def ways_of(work: str, video: Path, probed: Probe, config: Config) -> dict[str, Callable[[], int]]:
    """Return the ways of doing `work`, FRAMES or PICTURES, by name. Those of packages that are missing are left out."""
    path, px = str(video), 0 if work == FRAMES else config.observe.thumbnail_px
    threads = {"1 thread": 1, "all threads": 0}
    others = {f"PyAV, {name}": partial(_pyav, path, count, px) for name, count in threads.items()}
    others |= {f"OpenCV, {name}": partial(_opencv, path, count, px) for name, count in threads.items()}
    if work == FRAMES:
        return {ROLLCALL: partial(_shown, path, probed, config), **others}
    if torchcodec() is not None:  # it converts every frame
        others |= {f"torchcodec, {name}": partial(_torchcodec, path, count, px) for name, count in threads.items()}
    steady = config.model_copy(update={"observe": config.observe.model_copy(update={"camera_motion": False})})
    ours = {ROLLCALL: partial(_observed, path, probed, config), STEADY: partial(_observed, path, probed, steady)}
    return ours | {SAME: partial(_converted, path, probed, config)} | others


@contextmanager
def memory_of_a_worker() -> Iterator[None]:
    """Let this process keep the memory that it frees, and search for no garbage in what is there already, as a worker
    of `process` does. All ways gain by it."""
    keep_freed()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def torchcodec() -> Any | None:
    """Return torchcodec's module of decoders, or None if it is not installed or finds no FFmpeg."""
    with suppress(ImportError, RuntimeError, OSError):
        from torchcodec import decoders  # pyright: ignore[reportMissingImports]

        return decoders
    return None


def _shown(path: str, probed: Probe, config: Config) -> int:
    with _no_limits():
        return _count(iter(_frames(path, probed, config)))


def _converted(path: str, probed: Probe, config: Config) -> int:
    """Decode as `_shown`, and make the pictures that the others make, as the decoder of `process` makes them."""
    cv2.setNumThreads(config.compute.threads)
    thumbnails, screen = Thumbnails(probed, config.observe.thumbnail_px), Screen(probed, (probed.width, probed.height))
    count = 0
    with _no_limits():
        for frame, _ in _frames(path, probed, config):
            thumbnails(frame)
            if count % ANALYSED_EVERY == 0:
                screen(frame, "rgb24")
            count += 1
    return count


def _frames(path: str, probed: Probe, config: Config) -> ShownFrames:
    cell_s, threads = Fraction(str(config.chunk.cell_seconds)), config.observe.decode_threads
    card = _card(config, probed)
    return ShownFrames(opener(path), probed, 0, OPEN_END, cell_s=cell_s, threads=threads, card=card)


def observe_frames(path: str, config: Config, probed: Probe | None = None) -> Iterator[DecodedFrame]:
    """Yield the frames of a whole video as the stage `observe` gets them."""
    observe = config.observe
    cv2.setNumThreads(config.compute.threads)  # as the worker does
    probed = probed or probe(opener(path))
    decoder = SpanDecoder(
        opener(path),
        probed,
        0,
        OPEN_END,
        fps=observe.fps,
        cell_seconds=config.chunk.cell_seconds,
        thumbnail_px=observe.thumbnail_px,
        threads=observe.decode_threads,
        camera_motion=observe.camera_motion,
        card=_card(config, probed),
    )
    with _no_limits():
        yield from decoder


def _card(config: Config, probed: Probe) -> CardDecoder | None:
    return decoder_of_span(card_decoder(config), probed, probed.duration_s)


@contextmanager
def _no_limits() -> Iterator[None]:
    """Raise MachineError where the card gives a video up, because the CPU would be measured from there on."""
    try:
        yield
    except NotOnCard as limit:
        raise MachineError(f"the card does not decode this video: {limit}; use --set observe.decoder=cpu") from None


def _observed(path: str, probed: Probe, config: Config) -> int:
    return _count(observe_frames(path, config, probed))


def _pyav(path: str, threads: int, thumbnail_px: int) -> int:
    """Decode with PyAV. threads: 0 is one for each core. thumbnail_px: 0 converts nothing."""
    count = 0
    cv2.setNumThreads(threads or -1)
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = threads
        for frame in container.decode(stream):
            if thumbnail_px:
                width, height = _fitted(frame.width, frame.height, thumbnail_px)
                frame.reformat(width=width, height=height, format="bgr24").to_ndarray()
                if count % ANALYSED_EVERY == 0:
                    frame.to_ndarray(format="rgb24")
            count += 1
    return count


def _opencv(path: str, threads: int, thumbnail_px: int) -> int:
    """Decode with OpenCV, as `_pyav`. It converts a picture as a whole before the thumbnail is made."""
    cv2.setNumThreads(threads or -1)
    capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, threads] if threads else [])
    count = 0
    while capture.grab():
        if thumbnail_px:
            picture = capture.retrieve()[1]
            cv2.resize(picture, _fitted(picture.shape[1], picture.shape[0], thumbnail_px))
            if count % ANALYSED_EVERY == 0:
                cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
        count += 1
    capture.release()
    return count


def _torchcodec(path: str, threads: int, thumbnail_px: int) -> int:
    decoders = torchcodec()
    assert decoders is not None
    count = 0
    cv2.setNumThreads(threads or -1)
    decoder = decoders.VideoDecoder(path, dimension_order="NHWC", num_ffmpeg_threads=threads, seek_mode="approximate")
    for frame in decoder:
        picture = frame.numpy()
        cv2.resize(picture, _fitted(picture.shape[1], picture.shape[0], thumbnail_px))
        count += 1
    return count


def _fitted(width: int, height: int, long_side: int) -> tuple[int, int]:
    scale = min(1.0, long_side / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _count(frames: Iterator[Any]) -> int:
    return sum(1 for _ in frames)


def pictures_of(path: str) -> Iterator[Picture]:
    """Yield every frame as RGB, (H, W, 3), in the plainest way: OpenCV with its own number of threads."""
    capture = cv2.VideoCapture(path)
    while True:
        is_there, picture = capture.read()
        if not is_there:
            capture.release()
            return
        yield np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)
