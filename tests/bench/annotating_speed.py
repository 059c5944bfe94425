"""Compare the time of annotating a video with that of decoding and encoding it plainly, with the same encoder.

    python -m tests.bench.annotating_speed OUTPUT VIDEO_NAME [ROUNDS]

Both run in this process, in turns, on the whole video: plain is a loop over PyAV's frames. The ratio is the plain time
over ours. The times of processors are beside it, because they do not depend on what else the machine does.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av

from jobs.shared.copying import ENCODER_THREADS, select_videos, sources_of
from pipeline.media.canvas import Coding
from pipeline.media.container import Opener, fraction, opened
from pipeline.media.encoders import Encoding, choose_encoder, make_encoder
from pipeline.media.joining import join_pieces
from pipeline.media.probe import Probe
from pipeline.media.probing import probe
from pipeline.media.rewrite import rewrite_span
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.source_files import opener
from pipeline.video.annotation import Annotation


def plain(open_source: Opener, encoding: Encoding, path: Path) -> None:
    """Decode and encode a video."""
    with opened(open_source) as container, av.open(str(path), "w", format="mp4") as output:
        stream = container.streams.video[0]
        target = output.add_mux_stream("h264", width=stream.width, height=stream.height)
        base, fps = fraction(stream.time_base) or Fraction(1), fraction(stream.average_rate) or Fraction(25)
        encoder = None
        for frame in container.decode(stream):
            if encoder is None:
                encoder = make_encoder(encoding, (frame.width, frame.height), fps, base, Coding.of(frame))
                target.time_base = base
            for packet in encoder.encode(frame):
                packet.stream = target
                output.mux(packet)
        assert encoder is not None
        for packet in encoder.encode(None):
            packet.stream = target
            output.mux(packet)


def annotated(
    index: OutputIndex, video_id: str, probed: Probe, open_source: Opener, encoding: Encoding, path: Path
) -> None:
    """Annotate a video, as one piece."""
    paint = Annotation().painter(index.store, video_id, open_source, probed, (0, -1))
    piece_path = path.with_suffix(".nut")
    with piece_path.open("wb") as file:
        piece = rewrite_span(open_source, probed, 0, -1, paint, encoding, file)
    join_pieces(open_source, probed, [(piece, lambda: str(piece_path))], path, closes_up=False)


def timed(action: Callable[[], None]) -> tuple[float, float]:
    """Return the seconds of an action on the clock and on processors."""
    started, worked = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - started, time.process_time() - worked


def main() -> None:
    """Print the times of each round, and the ratio of the best."""
    index = OutputIndex.open(sys.argv[1])
    (video_id,) = select_videos(index, sys.argv[2:3])
    open_source = opener(sources_of(index, video_id)[0])
    probed = probe(open_source)
    encoding = Encoding(choose_encoder(), threads=ENCODER_THREADS)
    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "copy.mp4"
        for _ in range(int(sys.argv[3]) if len(sys.argv) > 3 else 3):
            theirs = timed(lambda: plain(open_source, encoding, path))
            ours = timed(lambda: annotated(index, video_id, probed, open_source, encoding, path))
            rounds.append((*theirs, *ours))
            print("plain {:.2f} s ({:.2f} s of CPU), annotated {:.2f} s ({:.2f} s of CPU)".format(*rounds[-1]))
    best = [min(column) for column in zip(*rounds, strict=True)]
    print(f"{encoding.encoder}: ratio {best[0] / best[2]:.2f} on the clock, {best[1] / best[3]:.2f} of CPU")


if __name__ == "__main__":
    main()
