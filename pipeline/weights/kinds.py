"""The kinds of registry entries: the roles that each can fill, and its parts."""

from collections.abc import Mapping
from dataclasses import dataclass, field

FACE_EMBEDDERS = ("facenet", "mobilefacenet")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of registry entries. It chooses the loader.

    roles: the roles of a configuration that an entry of this kind can fill (weights.roles). Empty for a kind that is
        only a part of others, or that only one command uses.
    parts: for a composite, the parts of an entry and the kinds that each part may have.
    """

    roles: tuple[str, ...] = ()
    parts: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])


_FACE_DETECTOR = ("look", "face_detector")
KINDS: Mapping[str, Kind] = {
    "yolo": Kind(roles=("detector",)),
    "reid": Kind(roles=("body",)),
    "retinaface-r50": Kind(roles=_FACE_DETECTOR),
    "retinaface-mobile0.25": Kind(roles=_FACE_DETECTOR),
    "mtcnn": Kind(roles=_FACE_DETECTOR, parts={"pnet": ("mtcnn-net",), "rnet": ("mtcnn-net",), "onet": ("mtcnn-net",)}),
    "mtcnn-net": Kind(),
    "yunet": Kind(roles=_FACE_DETECTOR),
    # It finds no landmarks for alignment, so it only serves the quick face check.
    "yolo-face": Kind(roles=("look",)),
    "gfpgan": Kind(roles=("restorer",)),
    "realesrgan": Kind(),
    "attributes": Kind(roles=("estimator",)),
    "heads": Kind(roles=("estimator",), parts={"embedder": FACE_EMBEDDERS, "heads": ("keras-heads", "dense-heads")}),
    "keras-heads": Kind(),
    "dense-heads": Kind(),
    "network": Kind(roles=("estimator",)),
    "ssrnet": Kind(roles=("estimator",), parts={"age": ("ssrnet-age",), "gender": ("ssrnet-gender",)}),
    "ssrnet-age": Kind(),
    "ssrnet-gender": Kind(),
    **{kind: Kind(roles=("face_embedding",)) for kind in FACE_EMBEDDERS},
}


def kinds_of(role: str) -> tuple[str, ...]:
    """Return the kinds that can fill a role."""
    return tuple(name for name, kind in KINDS.items() if role in kind.roles)
