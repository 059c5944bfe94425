"""The differences between the recipe of published tables and a wanted recipe, and the least work that each one
needs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from pipeline.config import LEFT_OUT
from pipeline.cores.relink import LIMITS
from pipeline.planning.recipe import SHAPED_BY, Recipe

KEEP = "biometrics.keep"
GAP, ABSENCE = "identity.max_gap_s", "identity.max_absence_s"
SECTION_OF_ROLE = {
    "detector": "observe",
    "body": "observe",
    "look": "candidates",
    "face_detector": "faces",
    "restorer": "restore",
    "estimator": "estimate",
    "face_embedding": "estimate",
}
"""The section of the configuration that chooses the model of each role."""
WITH_LINES = frozenset({"crossings.anchor", "crossings.jitter", "crossings.max_gap_s", "crossings.sides"})
"""Knobs that Config.result_knobs states only if there is something to cross."""
UNSET = object()


class Basis(IntEnum):
    """The stored data that new tables of a video can be made from, the cheapest first."""

    SCORES = 1
    EMBEDDINGS = 2
    CHUNKS = 3
    FACES = 4
    VIDEO = 5

    @property
    def made_of(self) -> str:
        """The stored data, in words for a person."""
        return _MADE_OF[self]

    @property
    def step(self) -> str:
        """The repeated work, in words for a person."""
        return _STEPS[self]


_MADE_OF = {
    Basis.SCORES: "scores",
    Basis.EMBEDDINGS: "embeddings",
    Basis.CHUNKS: "boxes and embeddings",
    Basis.FACES: "faces",
    Basis.VIDEO: "the video",
}
_STEPS = {
    Basis.SCORES: "link again from stored scores",
    Basis.EMBEDDINGS: "link again from kept embeddings",
    Basis.CHUNKS: "track and link again from kept boxes and embeddings",
    Basis.FACES: "estimate again from kept faces",
    Basis.VIDEO: "decode and detect again",
}


@dataclass(frozen=True, slots=True)
class Change:
    """A difference between two recipes.

    name: a dotted knob, or the name of something else that differs.
    before: the earlier value as text, empty where there is none.
    after: the wanted value as text, empty where there is none.
    needs: the cheapest basis that can follow the change.
    """

    name: str
    before: str
    after: str
    needs: Basis

    def __str__(self) -> str:
        return f"{self.name} {self.before} -> {self.after}" if self.before or self.after else self.name


def compare(before: Recipe, after: Recipe) -> list[Change]:
    """Return every difference of `after` from `before`, knobs first. Recipes without a difference make the same
    tables."""
    knobs = _knobs(LEFT_OUT | dict(before.knobs), LEFT_OUT | dict(after.knobs))
    changes = [*knobs, *_models(before, after, knobs)]
    for kind in sorted(before.likenesses.keys() | after.likenesses.keys()):
        if _plain(before.likenesses.get(kind)) != _plain(after.likenesses.get(kind)):
            changes.append(Change(f"what the registry says of {kind} likeness", "", "", Basis.CHUNKS))
    changes += _revisions(before, after, changes)
    return changes


def cheapest_basis(changes: Sequence[Change]) -> Basis:
    """Return the cheapest basis that can follow all the changes."""
    return max((change.needs for change in changes), default=Basis.SCORES)


def _knobs(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    return [
        Change(key, _text(before.get(key, UNSET)), _text(after.get(key, UNSET)), _needed_by_knob(key, before, after))
        for key in sorted(before.keys() | after.keys())
        if _plain(before.get(key, UNSET)) != _plain(after.get(key, UNSET)) and not _comes_with_lines(key, before, after)
    ]


def _comes_with_lines(key: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Return whether a knob is set or unset only because lines or zones are drawn or removed, which is a change of its
    own."""
    value = before.get(key, after.get(key))
    return key in WITH_LINES and (key in before) != (key in after) and value is not True


def _plain(value: Any) -> Any:
    """Return a value as JSON gives it back. An empty mapping counts as unset, because its keys would be knobs of
    their own."""
    return UNSET if value is UNSET or value == {} else json.loads(json.dumps(value, default=str))


def _needed_by_knob(key: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Basis:
    section, _, name = key.partition(".")
    if key == KEEP:
        return Basis.VIDEO if after.get(key) else Basis.SCORES  # kept biometrics can be removed at any time
    if section not in SHAPED_BY["reduced"]:
        # Pictures of bodies are kept only if they are used.
        return Basis.FACES if section == "estimate" and name != "uses" else Basis.VIDEO
    if section == "crossings":  # they follow from the rows of `detections`, which every version has
        return Basis.SCORES
    # The knob may be of another version, whose tables may lack the data that it acts on.
    if key not in before or key not in after:
        return Basis.CHUNKS
    is_wider = section == "identity" and name in LIMITS and after[key] > before[key]
    # These two limit which pairs inside a shot are compared by body.
    if is_wider or (key in (GAP, ABSENCE) and after.get(ABSENCE)):
        return Basis.EMBEDDINGS
    return Basis.SCORES if section in ("identity", "person") else Basis.CHUNKS


def _models(before: Recipe, after: Recipe, knobs: Sequence[Change]) -> list[Change]:
    """Return the roles whose model files differ. A model that a changed knob has chosen is reported with the knob."""
    chosen = {knob.name.partition(".")[0] for knob in knobs if not _is_number(knob.after)}
    changes = []
    for role in sorted(before.models.keys() | after.models.keys()):
        old, new = before.models.get(role, {}), after.models.get(role, {})
        section = SECTION_OF_ROLE.get(role.partition(".")[0], "")
        is_same = old.get("sha256") == new.get("sha256") and old.get("besides") == new.get("besides")
        if is_same or (old.get("name") != new.get("name") and section in chosen):
            continue
        needs = Basis.FACES if section == "estimate" else Basis.VIDEO
        changes.append(Change(f"weights of {role}", _file(old), _file(new), needs))
    return changes


def _revisions(before: Recipe, after: Recipe, changes: Sequence[Change]) -> list[Change]:
    """Return the changes caused by another version of the code. Then keys differ, but nothing that shapes them does."""
    if before.keys.observed != after.keys.observed and cheapest_basis(changes) < Basis.VIDEO:
        return [Change("another version of rollcall", "", "", Basis.VIDEO)]
    explained = any(change.needs >= Basis.FACES or change.name == KEEP for change in changes)
    if before.keys.enriched != after.keys.enriched and not explained:
        return [Change("another version of rollcall", "", "", Basis.VIDEO)]
    if before.reduce_revision != after.reduce_revision:
        return [Change("another version of rollcall", "", "", Basis.CHUNKS)]
    return []


def _text(value: Any) -> str:
    if value is UNSET:
        return "unset"
    if isinstance(value, float):
        return f"{value:.12g}"
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _file(model: Mapping[str, str | None]) -> str:
    return f"{model['name']} ({(model['sha256'] or 'unknown')[:8]})" if model else "none"
