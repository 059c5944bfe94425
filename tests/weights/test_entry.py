from typing import Any

import pytest
import yaml

from pipeline.config import CONF
from pipeline.errors import UserError
from pipeline.storage.blobs import fetch
from pipeline.weights import Registry, read_entries
from pipeline.weights.kinds import FACE_EMBEDDERS
from tests.weights.registries import GOOD, SHA256, with_extra


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sha265": SHA256}, "x: reid: unknown key sha265; did you mean sha256?"),
        ({"kind": "redi"}, "unknown kind redi; did you mean reid?"),
        ({"kind": None}, "kind is missing; `rollcall weights list`"),
        ({"sha256": "abc"}, "sha256 must be 64 hex digits, got 'abc'"),
        ({"sha256": None}, "sha256: null needs a note"),
        ({"licence": None}, "must hold uri and licence"),
        ({"uri": 3}, "uri must be text or null, got 3"),
        ({"kind": "ssrnet"}, "must hold parts: age, gender, and no uri"),
    ],
)
def test_a_wrong_entry_is_refused_with_its_name_and_key(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message.replace("?", r"\?")):
        read_entries({"reid": {**GOOD, **changes}}, "x")


def test_the_registry_that_ships_is_sound_and_says_where_every_sha256_comes_from() -> None:
    shipped = read_entries(yaml.safe_load((CONF / "weights.yaml").read_text()), "conf/weights.yaml")
    for name, shipped_entry in shipped.items():
        if not shipped_entry.parts:
            assert shipped_entry.note, name
            assert shipped_entry.input, name
        embeds = shipped_entry.kind in ("reid", *FACE_EMBEDDERS)
        assert (shipped_entry.embedding_space is not None) == embeds, name


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"age": "ssrnet-imdb-aeg", "gender": "ssrnet-imdb-gender"}, "did you mean ssrnet-imdb-age"),
        ({"age": "ssrnet-imdb-gender", "gender": "ssrnet-imdb-gender"}, "its part age must be of kind ssrnet-age"),
    ],
)
def test_a_composite_of_wrong_parts_is_refused(parts: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Registry.of(with_extra(mine={"kind": "ssrnet", "parts": parts}), fetch)
