"""The kinds of registry entries: the roles that each can fill, its parts, and its loader.

Another model of a kind that is not here takes an entry in KINDS beside its own module in pipeline/models.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

FACE_EMBEDDERS = ("facenet", "mobilefacenet")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of registry entries.

    loader: place in pipeline.models, as module:name. models.loading calls it with the files by name of their part, or
        with `path` for a single file, and with the settings of the role. It is a name, not a function, because
        importing a model takes seconds. None for a kind that is only a part of others.
    roles: the roles of a configuration that an entry of this kind can fill (weights.roles). Empty for a kind that is
        only a part of others, or that only one command uses.
    parts: for a composite, the parts of an entry and the kinds that each part may have.
    """

    loader: str | None = None
    roles: tuple[str, ...] = ()
    parts: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])


_FACE_DETECTOR = ("look", "face_detector")
KINDS: Mapping[str, Kind] = {
    "yolo": Kind(loader="person_detector:PersonDetector", roles=("detector",)),
    "reid": Kind(loader="body_embedder:BodyEmbedder", roles=("body",)),
    "retinaface-r50": Kind(loader="face_detector:load_retinaface_r50", roles=_FACE_DETECTOR),
    "retinaface-mobile0.25": Kind(loader="face_detector:load_retinaface_mobile", roles=_FACE_DETECTOR),
    "mtcnn": Kind(
        loader="face_detector:Mtcnn",
        roles=_FACE_DETECTOR,
        parts={"pnet": ("mtcnn-net",), "rnet": ("mtcnn-net",), "onet": ("mtcnn-net",)},
    ),
    "mtcnn-net": Kind(),
    "yunet": Kind(loader="face_detector:Yunet", roles=_FACE_DETECTOR),
    # It finds no landmarks for alignment, so it only serves the quick face check.
    "yolo-face": Kind(loader="face_detector:YoloFace", roles=("look",)),
    "gfpgan": Kind(loader="face_restorer:FaceRestorer", roles=("restorer",)),
    "realesrgan": Kind(loader="face_restorer:PictureUpsampler"),
    "attributes": Kind(loader="estimator:StarterEstimator", roles=("estimator",)),
    "heads": Kind(
        loader="estimator:load_heads",
        roles=("estimator",),
        parts={"embedder": FACE_EMBEDDERS, "heads": ("keras-heads", "dense-heads")},
    ),
    "keras-heads": Kind(),
    "dense-heads": Kind(),
    "network": Kind(loader="estimator:NetworkEstimator", roles=("estimator",)),
    "ssrnet": Kind(
        loader="estimator:SsrNetEstimator",
        roles=("estimator",),
        parts={"age": ("ssrnet-age",), "gender": ("ssrnet-gender",)},
    ),
    "ssrnet-age": Kind(),
    "ssrnet-gender": Kind(),
    **{kind: Kind(loader="face_embedder:FaceEmbedder", roles=("face_embedding",)) for kind in FACE_EMBEDDERS},
}


def kinds_of(role: str) -> tuple[str, ...]:
    """Return the kinds that can fill a role."""
    return tuple(name for name, kind in KINDS.items() if role in kind.roles)
