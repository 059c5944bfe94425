"""Restore faces in pictures, and enlarge what is around them, for viewing."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from jobs.shared.checks import decide_device
from pipeline.arrays import Picture
from pipeline.config import Config
from pipeline.exports.pictures import Enhance, Landmarks
from pipeline.interfaces import FaceRestorer
from pipeline.media.faces import TEMPLATE, TEMPLATE_PX, align_face, similarity
from pipeline.media.pictures import enlarge
from pipeline.storage.blobs import fetch
from pipeline.weights import Registry

FACTOR = 2
UPSAMPLER = "realesrgan-x2plus"
TILE_PX, TILES = 256, 4


@dataclass(frozen=True, slots=True)
class Enhancer:
    """Enlarges a picture and pastes the restored face into it.

    restorer: None: faces stay as they are.
    upsampler: doubles the size of a picture; None: the size stays.
    paste: models.face_restorer.paste_faces.
    """

    restorer: FaceRestorer | None
    upsampler: Callable[[Picture], Picture] | None
    paste: Callable[..., Picture]

    def __call__(self, picture: Picture, landmarks: Landmarks | None) -> Picture:
        factor = 1 if self.upsampler is None else FACTOR
        large = picture if self.upsampler is None else self.upsampler(picture)
        if self.restorer is None or landmarks is None:
            return large
        restored = self.restorer(align_face(picture, landmarks, TEMPLATE_PX)[None])
        # Whole numbers are centres of px, so a point p of the picture lies at (p + .5) * factor - .5 of the large one.
        alignment = similarity((landmarks + 0.5) * factor - 0.5, TEMPLATE)
        return self.paste(large, restored, alignment[None])


def load_enhancer(config: Config, *, restore: bool, upsample: str | None) -> Enhance | None:
    """Return an enhancer with its models, which are fetched if they are not here, or None if nothing is asked for.

    config: names the restorer (restore.weights), the licences allowed, and the device.
    upsample: `realesrgan`, `lanczos` or None.

    Raises UserError if a model cannot be had.
    """
    if not restore and upsample is None:
        return None
    from pipeline.models.face_restorer import paste_faces
    from pipeline.models.loading import Loader

    config = decide_device(config)
    registry = Registry.of(config, fetch)
    names = [*([config.restore.weights] if restore else []), *([UPSAMPLER] if upsample == "realesrgan" else [])]
    registry.refuse_licences(names, config.licences.allow)
    registry.pull(names)
    loader = Loader(config, registry)
    upsampler = {
        "realesrgan": lambda: loader.upsampler(UPSAMPLER, tile_px=TILE_PX, batch=TILES),
        "lanczos": lambda: partial(enlarge, factor=FACTOR),
        None: lambda: None,
    }[upsample]()
    return Enhancer(loader.restorer() if restore else None, upsampler, paste_faces)
