"""Inputs beside the repository: real clips, ground truth, weights. Tests that need them are skipped if they are
absent."""

from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2] / "shared"
needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason="needs the clips and weights beside the repository (../shared)"
)
