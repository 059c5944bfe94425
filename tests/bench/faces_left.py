"""Count the faces that detectors find in a video and in its anonymised copy.

python -m tests.bench.faces_left SOURCE COPY YUNET.onnx [EVERY]: YuNet at a score of 0.6 and MTCNN at 0.7, on every
EVERYth frame (6) at its own size, at most 1280 px.
"""

import sys
from pathlib import Path

from pipeline.interfaces import FaceDetector
from pipeline.media.decode import SpanDecoder
from pipeline.media.probing import probe
from pipeline.models.face_detector import Yunet
from pipeline.models.mtcnn import Mtcnn

LONGEST_PX = 1280


def count_faces(path: Path, detector: FaceDetector, every: int) -> tuple[int, int, int]:
    """Return the number of faces, of frames with faces, and of searched frames."""
    source, probed = (lambda: str(path)), probe(lambda: str(path))
    decoder = SpanDecoder(source, probed, 0, -1, fps=0, cell_seconds=1, thumbnail_px=16, threads=1, careful=True)
    pictures = (frame.picture for number, frame in enumerate(decoder) if number % every == 0)
    counts = [len(detector([picture])[0].scores) for picture in pictures if picture is not None]
    return sum(counts), sum(count > 0 for count in counts), len(counts)


def main() -> None:
    """Print a line for each detector and file."""
    source, copy, yunet = map(Path, sys.argv[1:4])
    every = int(sys.argv[4]) if len(sys.argv) > 4 else 6
    probed = probe(lambda: str(source))
    side = min(LONGEST_PX, -(-max(probed.width, probed.height) // 32) * 32)
    detectors = {
        "YuNet": Yunet(yunet, input_px=side, min_score=0.6),
        "MTCNN": Mtcnn(input_px=side, min_score=0.7, device="cpu"),
    }
    for name, detector in detectors.items():
        for path in (source, copy):
            faces, with_faces, searched = count_faces(path, detector, every)
            print(f"{name}: {path.name}: {faces} faces in {with_faces} of {searched} frames")


if __name__ == "__main__":
    main()
