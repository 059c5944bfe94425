"""Write the production networks with random weights, and a configuration file that uses them, for benches of speed.

python -m tests.gpu.random_models FOLDER [NAME …]
    FOLDER/random.yaml goes to --config, behind tests/conf/shared-weights.yaml, which has all other models.
    Names: those of NETWORKS; none is all. Of several for one knob, the last one counts.

Speed does not depend on the values, as far as the numbers of people and faces do not. The random detectors find people
and faces anywhere, so they are for the time of a call and not for the time of a whole run.
"""

import sys
from pathlib import Path
from typing import Any

import yaml

from pipeline.weights import sha256_of
from tests.gpu.cases import MADE

NETWORKS = {
    "yolo11x": ("yolo", ("observe", "detector", "weights")),
    "yolo11m": ("yolo", ("observe", "detector", "weights")),
    "osnet-x1-0": ("reid", ("observe", "body", "weights")),
    "retinaface-r50": ("retinaface-r50", ("faces", "detector")),
    "facenet": ("facenet", ("estimate", "face_embedding")),
    "gfpgan": ("gfpgan", ("restore", "weights")),
}
"""The kind of each network in the registry, and the knob that names it."""
FILE = "random.yaml"


def write_models(folder: Path, names: list[str]) -> Path:
    """Write the networks and the configuration file, and return the file."""
    folder.mkdir(parents=True, exist_ok=True)
    config: dict[str, Any] = {"weights": {"extra": {}}}
    for name in names:
        kind, knob = NETWORKS[name]
        path = folder / f"random-{name}{'.safetensors' if kind == 'yolo' else '.pt'}"
        MADE[name](path)
        entry = {"kind": kind, "uri": path.name, "sha256": sha256_of(path), "licence": "MIT"}
        entry |= {"embedding_space": path.stem} if kind in ("reid", "facenet") else {}
        config["weights"]["extra"][f"random-{name}"] = entry
        section = config
        for key in knob[:-1]:
            section = section.setdefault(key, {})
        section[knob[-1]] = f"random-{name}"
    target = folder / FILE
    target.write_text(yaml.safe_dump(config, sort_keys=False))
    return target


if __name__ == "__main__":
    print(write_models(Path(sys.argv[1]), sys.argv[2:] or list(NETWORKS)))
