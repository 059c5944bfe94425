"""Count by age and ethnic group how many faces the starter profile's face detector and MTCNN find.

python -m tests.bench.faces_by_group UTKFACE [NUMBER]: NUMBER (120) random faces of each group, 110 px wide, each where
a head is in a grey crop of a person. Such a crop is not natural: the figures compare groups and detectors, and do not
say how many faces are found in films.
"""

import random
import sys

import numpy as np
from PIL import Image

from pipeline.config import load
from pipeline.corpora import utkface
from pipeline.models.loading import Loader
from pipeline.storage.blobs import fetch
from pipeline.weights import Registry

FACE_PX, CROP = 110, (300, 250, 3)
TOP, LEFT = 20, 70
GREY = (95, 110, 120)
AGES = {"0 to 3": (0, 3), "4 to 9": (4, 9), "10 to 59": (10, 59), "60 to 74": (60, 74), "75 and older": (75, 130)}


def crop_with(path: str) -> np.ndarray:
    """Return a crop (H, W, 3) RGB with one face."""
    crop = np.full(CROP, GREY, np.uint8)
    with Image.open(path) as image:
        face = np.asarray(image.convert("RGB").resize((FACE_PX, FACE_PX)))
    crop[TOP : TOP + FACE_PX, LEFT : LEFT + FACE_PX] = face
    return crop


def main() -> None:
    """Print a line for each group and detector."""
    table = utkface.load(sys.argv[1])
    number = int(sys.argv[2]) if len(sys.argv) > 2 else 120
    groups = {f"{name} years": table[table.age.between(*ages)] for name, ages in AGES.items()}
    adults = table[table.age.between(20, 59)]
    groups |= {f"{name}, 20 to 59 years": adults[adults.group == name] for name in utkface.GROUPS.values()}
    config = load(settings=["compute.device=cpu"], profile="starter")
    detectors = {}
    for name in ("starter-face", "mtcnn"):
        chosen = load(settings=["compute.device=cpu", "faces.batch=8", f"faces.detector={name}"], profile="starter")
        detectors[name] = Loader(chosen, Registry.of(chosen, fetch)).face_detector()
    for group, rows in groups.items():
        paths = random.Random(1).sample(sorted(rows.path), min(number, len(rows)))
        crops = [crop_with(path) for path in paths]
        for name, detector in detectors.items():
            scores = [max(faces.scores, default=0.0) for faces in detector(crops)]
            sure = sum(score >= config.gate.min_score for score in scores)
            print(f"{group}, {name}: {sum(score > 0 for score in scores)} found, {sure} sure, of {len(scores)}")


if __name__ == "__main__":
    main()
