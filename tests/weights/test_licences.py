from pathlib import Path

import pytest

from pipeline.errors import UserError
from tests.weights.registries import entry, offline, registry


@pytest.mark.parametrize(
    ("licence", "allow", "refused"),
    [
        ("MIT", None, False),
        ("MIT", ["mit", "Apache-2.0"], False),
        ("AGPL-3.0", ["MIT"], True),
        ("Apache-2.0 AND research-only", ["Apache-2.0"], True),
        ("Apache-2.0 AND research-only", ["research-only", "Apache-2.0"], False),
        ("MIT", [], True),
    ],
)
def test_a_licence_outside_those_allowed_is_refused_before_any_fetch(
    tmp_path: Path, licence: str, allow: list[str] | None, refused: bool
) -> None:
    checked = registry(tmp_path, entry(licence=licence), get=offline)
    if refused:
        with pytest.raises(UserError, match=f"reid is under {licence}"):
            checked.refuse_licences(["reid"], allow)
    else:
        checked.refuse_licences(["reid"], allow)
