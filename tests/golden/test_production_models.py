"""The production networks in the whole flow: FaceNet with the Bosch heads, GFPGAN, embeddings kept.

Their weights are not here, so their checkpoints have the exact official layout with random values. The results are
no estimates of anybody, but every file is loaded, every network runs, and every column is filled.
"""

from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from facenet_pytorch import InceptionResnetV1

from pipeline.models import face_restorer  # first: it makes gfpgan importable
from pipeline.weights import sha256_of
from tests import clips
from tests.golden.by_hand import differing, process
from tests.shared import SHARED, needs_shared

pytestmark = [needs_shared, pytest.mark.slow]


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a configuration file with checkpoints beside it."""
    place = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    facenet = InceptionResnetV1(pretrained=None, classify=True, num_classes=8631)
    torch.save(facenet.state_dict(), place / "facenet.pt")
    gfpgan = face_restorer.GFPGANv1Clean(
        512,
        num_style_feat=512,
        channel_multiplier=2,
        fix_decoder=False,
        input_is_latent=True,
        different_w=True,
        sft_half=True,
    )
    torch.save({"params_ema": gfpgan.state_dict()}, place / "gfpgan.pth")

    def entry(kind: str, name: str, **more: str) -> dict[str, str]:
        return {"kind": kind, "uri": name, "sha256": sha256_of(place / name), "licence": "MIT"} | more

    extra = {
        "random-facenet": entry("facenet", "facenet.pt", embedding_space="random"),
        "random-gfpgan": entry("gfpgan", "gfpgan.pth"),
        "random-heads": {"kind": "heads", "parts": {"embedder": "random-facenet", "heads": "bosch-data-huber"}},
    }
    text = {
        "restore": {"mode": "always", "weights": "random-gfpgan", "batch": 1, "every_cells": 1},
        "estimate": {"estimator": "random-heads", "face_embedding": "random-facenet"},
        "biometrics": {"keep": True},
        "observe": {"fps": 2},
        "candidates": {"max_per_chain": 1},
        "weights": {"extra": extra},
    }
    (place / "profile.yaml").write_text(yaml.safe_dump(text))
    return place / "profile.yaml"


def test_every_network_of_the_production_set_runs_in_the_flow(profile: Path, tmp_path: Path) -> None:
    video = clips.re_encode(SHARED / "clips" / "talkshow.mp4", tmp_path / "short.mp4", width=640)
    process(video, tmp_path / "whole", "chunk.max_seconds=600", files=[profile])
    assert process(video, tmp_path / "chunks", "chunk.max_seconds=1", files=[profile]) >= 2
    assert differing(tmp_path / "whole", tmp_path / "chunks") == []

    faces = pd.read_parquet(tmp_path / "whole" / "faces").query("judged")
    assert len(faces) >= 2
    assert faces.restored.all()
    assert faces.age.between(0, 116).all()
    assert faces.female_prob.between(0, 1).all()
    vectors = pd.read_parquet(tmp_path / "whole" / "embeddings")
    assert vectors.groupby("kind").space.unique().to_dict() == {"body": ["osnet-x0-25-msmt17"], "face": ["random"]}
    assert {len(vector) for vector in vectors.vector} == {512}
    assert len(vectors.query("kind == 'face'")) == len(faces)
