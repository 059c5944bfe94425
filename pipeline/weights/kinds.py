"""The kinds of registry entries: the roles that each can fill, its parts, and its loader.

Another model of a kind that is not here takes an entry in KINDS beside its own module in pipeline/models. An installed
package can bring kinds too, as entry points of the GROUPS.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from pipeline.errors import UserError
from pipeline.weights import onnx_options

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
    check_options: checks the `options` of an entry, which its loader gets. It takes them and their place, and raises
        UserError. None if entries of this kind have none.
    reads_bodies: whether an estimator can read bodies: estimate.uses.
    needs: role -> option without which an entry cannot fill it.
    in_pictures: for a face detector that finds faces only in crops of people, the kind that finds them in whole
        pictures. It has the same parts, or fewer.
    package: name and version of the installed package that brings the kind. None for our own. `loader` is then a place
        in that package, and gets `options` too.
    """

    loader: str | None = None
    roles: tuple[str, ...] = ()
    parts: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    check_options: Callable[[Mapping[str, Any], str], object] | None = None
    needs: Mapping[str, str] = field(default_factory=dict[str, str])
    package: str | None = None
    in_pictures: str | None = None
    reads_bodies: bool = False

    @property
    def place(self) -> str | None:
        """The loader as module:name, or None."""
        return self.loader if self.package or self.loader is None else f"pipeline.models.{self.loader}"


_FACE_DETECTOR = ("look", "face_detector")
KINDS: Mapping[str, Kind] = {
    "yolo": Kind(loader="person_detector:PersonDetector", roles=("detector",)),
    "reid": Kind(loader="body_embedder:BodyEmbedder", roles=("body",)),
    "retinaface-r50": Kind(loader="retinaface_r50:load_retinaface_r50", roles=_FACE_DETECTOR),
    "retinaface-mobile0.25": Kind(loader="retinaface_mobile:load_retinaface_mobile", roles=_FACE_DETECTOR),
    "mtcnn": Kind(
        loader="mtcnn:Mtcnn",
        roles=_FACE_DETECTOR,
        parts={"pnet": ("mtcnn-net",), "rnet": ("mtcnn-net",), "onet": ("mtcnn-net",)},
    ),
    "mtcnn-net": Kind(),
    # It finds no landmarks for alignment, so it only serves the quick face check.
    "face-check": Kind(loader="face_check:FaceCheck", roles=("look",)),
    "refined-faces": Kind(
        loader="refined_faces:RefinedFaces",
        roles=_FACE_DETECTOR,
        parts={"check": ("face-check",), "pnet": ("mtcnn-net",), "rnet": ("mtcnn-net",), "onet": ("mtcnn-net",)},
        in_pictures="mtcnn",
    ),
    "yunet": Kind(loader="face_detector:Yunet", roles=_FACE_DETECTOR),
    # Neither does this one.
    "yolo-face": Kind(loader="face_detector:YoloFace", roles=("look",)),
    # Neither does OpenCV's SSD.
    "ssd": Kind(loader="ssd:SsdFace", roles=("look",), parts={"layout": ("ssd-layout",), "network": ("ssd-network",)}),
    "ssd-layout": Kind(),
    "ssd-network": Kind(),
    "onnx-face-detector": Kind(
        loader="onnx_models:OnnxFaceDetector",
        roles=_FACE_DETECTOR,
        check_options=onnx_options.read_face_detector,
        needs={"face_detector": "landmarks"},
    ),
    "onnx-body-embedder": Kind(
        loader="onnx_models:OnnxBodyEmbedder", roles=("body",), check_options=onnx_options.read_body_embedder
    ),
    "onnx-face-embedder": Kind(
        loader="onnx_models:OnnxFaceEmbedder", roles=("face_embedding",), check_options=onnx_options.read_face_embedder
    ),
    "onnx-estimator": Kind(
        loader="onnx_models:OnnxEstimator", roles=("estimator",), check_options=onnx_options.read_estimator
    ),
    "onnx-estimators": Kind(
        loader="onnx_models:OnnxEstimators",
        roles=("estimator",),
        parts={"age": ("onnx-estimator",), "gender": ("onnx-estimator",)},
    ),
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
    "mivolo": Kind(loader="mivolo:MiVolo", roles=("estimator",), reads_bodies=True),
    "ssrnet": Kind(
        loader="estimator:SsrNetEstimator",
        roles=("estimator",),
        parts={"age": ("ssrnet-age",), "gender": ("ssrnet-gender",)},
    ),
    "ssrnet-age": Kind(),
    "ssrnet-gender": Kind(),
    **{kind: Kind(loader="face_embedder:FaceEmbedder", roles=("face_embedding",)) for kind in FACE_EMBEDDERS},
}


GROUPS: Mapping[str, tuple[str, ...]] = {
    "rollcall.person_detectors": ("detector",),
    "rollcall.body_embedders": ("body",),
    "rollcall.face_detectors": _FACE_DETECTOR,
    "rollcall.face_restorers": ("restorer",),
    "rollcall.estimators": ("estimator",),
    "rollcall.face_embedders": ("face_embedding",),
}
"""The groups of entry points, and the roles that their kinds can fill. The name of an entry point is the kind."""


@cache
def all_kinds() -> Mapping[str, Kind]:
    """Return our kinds and those of installed packages. Raises UserError if two have one name."""
    kinds = dict(KINDS)
    for group, roles in GROUPS.items():
        for point in entry_points(group=group):
            package = f"{point.dist.name} {point.dist.version}" if point.dist else "an installed package"
            if point.name in kinds:
                other = kinds[point.name].package or "Rollcall"
                raise UserError(f"{package} and {other} both have a kind {point.name}; remove or rename one of them")
            kinds[point.name] = Kind(loader=point.value, roles=roles, package=package)
    return kinds


def kinds_of(role: str) -> tuple[str, ...]:
    """Return the kinds that can fill a role."""
    return tuple(name for name, kind in all_kinds().items() if role in kind.roles)
