"""Load the models that a configuration names onto the chosen device. Only verified bytes are loaded."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, TypeVar, cast

from pipeline.models import lean  # noqa: F401  (before all that imports torchvision)

# isort: split
import cv2
import torch

from pipeline import malloc
from pipeline.arrays import Picture
from pipeline.config import Config, fixed
from pipeline.errors import UserError
from pipeline.interfaces import (
    AttributeEstimator,
    BodyEmbedder,
    CardPixels,
    FaceDetector,
    FaceEmbedder,
    FaceRestorer,
    PersonDetector,
)
from pipeline.models.batches import InTurns, is_shared, run_by
from pipeline.models.checked import load_checked
from pipeline.models.executor import Executor
from pipeline.models.gpu import card
from pipeline.models.threads import DividedFaceDetector, ModelThreads
from pipeline.weights import Registry
from pipeline.weights.kinds import all_kinds, kinds_of

Options = Mapping[str, Any]
Core = TypeVar("Core", bound=Callable[[Any], Any])
WHOLE = "path"
"""Part name of a model that is a single file."""
PATIENCE_S = {"cpu": 1.0, "cuda": 0.004}
"""Device -> seconds that a batch waits for more samples. On a CPU a batch that is not full costs as much as a full one.
A card that has nothing else to do loses nothing."""


@contextmanager
def naming(entry: str) -> Iterator[None]:
    """Name a registry entry in the UserErrors of the block, because the loaders of the kinds know only files."""
    try:
        yield
    except UserError as error:
        if called(entry) in str(error):
            raise
        raise UserError(f"{called(entry)}: {error}") from error.__cause__


def called(entry: str) -> str:
    """Return the name of a registry entry for messages."""
    return f"registry entry {entry}"


def load_model(
    kind: str, files: Mapping[str, Path], options: Options | None = None, *, name: str | None = None, **settings: Any
) -> Any:
    """Load a model with the loader of its kind (weights.kinds). Models that others bring are checked at every call.

    files: by part, or by WHOLE.
    options: those of the registry entry, or of its parts, for kinds that have some.
    name: of the model, for messages. None: its kind.
    settings: those of its role: batch, device, half, and more for detectors.

    Raises UserError if the package of a kind cannot be imported, or its model does not work.
    """
    package, place, roles = all_kinds()[kind].package, all_kinds()[kind].place, all_kinds()[kind].roles
    if place is None:
        raise ValueError(f"kind {kind} is only a part of others")
    if options is not None or package:
        settings["options"] = options or {}
    try:
        loader = resolve_name(place)
    except (ImportError, AttributeError) as error:
        if package is None:
            raise
        raise UserError(
            f"kind {kind}: {place} of {package} cannot be imported ({error}); install the package again"
        ) from None
    if "options" not in settings:
        return loader(**files, **settings)
    described = f"kind {kind} of {package}" if package else f"kind {kind}"
    described = f"{name}, {described}" if name else described
    remedy = "mend the package" if package else "correct the options of this registry entry"
    build = partial(loader, **files, **settings)
    model = load_checked(described, roles[0], build, f"{remedy}, or name another model")
    return InTurns(model) if package and is_shared() else model


def load_estimator(
    kind: str,
    files: Mapping[str, Path],
    *,
    batch: int,
    device: str,
    half: bool,
    options: Options | None = None,
    name: str | None = None,
) -> AttributeEstimator:
    """Load an estimator from its `files`, by part. Raises UserError if the kind is unknown or a part is missing."""
    kinds = kinds_of("estimator")
    if kind not in kinds:
        raise UserError(f"estimator kind must be one of {', '.join(kinds)}, got {kind!r}")
    missing = set(all_kinds()[kind].parts or {WHOLE}) - files.keys()
    if missing:
        raise UserError(
            f"an estimator of kind {kind} has no part {', '.join(sorted(missing))}; name it in its registry entry"
        )
    return load_model(kind, files, options, name=name, batch=batch, device=device, half=half)


def load_face_detector(
    kind: str,
    files: Mapping[str, Path],
    *,
    input_px: int,
    batch: int,
    min_score: float,
    device: str,
    half: bool,
    options: Options | None = None,
    name: str | None = None,
) -> FaceDetector:
    """Load a face detector from its `files`, by part.

    input_px: side of the square that a crop is fitted into.
    batch: number of crops in a batch. mtcnn, yunet and yolo-face take one at a time.
    half: use float16 for RetinaFace on a GPU.

    Raises UserError if the kind is unknown, or the file holds no such network.
    """
    kinds = kinds_of("look")
    if kind not in kinds:
        raise UserError(f"face detector kind must be one of {', '.join(kinds)}, got {kind!r}")
    if not files and not all_kinds()[kind].parts:
        raise UserError(f"face detector {kind} has no weights file; name one in its registry entry")
    settings = {"input_px": input_px, "batch": batch, "min_score": min_score, "device": device, "half": half}
    return load_model(kind, files, options, name=name, **settings)


@cache
def _executor_of_process(device: str, num_threads: int) -> Executor:
    """Return the executor of all stages of this process: one thread owns the card."""
    return Executor(_thread_of_models(num_threads), patience_s=PATIENCE_S[device])


@cache
def _threads_of_process(number: int, num_threads: int) -> ModelThreads:
    """Return the threads of all stages of this process."""
    return ModelThreads(number, _thread_of_models(num_threads))


def _thread_of_models(num_threads: int) -> Callable[[], object]:
    """Return the function that prepares a thread for models. OpenMP keeps the number of its threads for each thread
    that calls it."""
    return partial(torch.set_num_threads, num_threads)


def set_threads(number: int) -> None:
    """Let each network use so many CPU cores when this thread calls it. The last bits of results depend on it."""
    torch.set_num_threads(number)
    cv2.setNumThreads(number)


class Loader:
    """Loads the models that a configuration names. `config.compute.device` must be decided: cpu or cuda.

    num_spans: greatest number of spans, each in a thread, that call the models at the same time.
    num_threads: number of threads in which one span may run models at the same time on a CPU. 0: in none but its own.
    executor: fills the batches of the models from several spans. None if there is only one.
    threads: in which models may run. None with an executor or a card, whose work one thread starts.
    """

    def __init__(self, config: Config, registry: Registry, num_spans: int = 1, num_threads: int = 0) -> None:
        if config.compute.device == "auto":
            raise ValueError("compute.device must be decided before models are loaded")
        if config.compute.device == "cuda" and config.compute.card != card():
            raise UserError(
                f"compute.card must be the card of every machine, {card()} on this one, got {config.compute.card}; "
                "process with cards of one class and one version of torch, because others give other bits"
            )
        malloc.keep_freed()
        set_threads(config.compute.threads)
        torch.backends.cudnn.benchmark = False  # the fastest kernel differs from run to run
        torch.backends.cudnn.deterministic = True
        self._config = config
        self._registry = registry
        self._device = config.compute.device
        self._half = config.compute.precision != "float32" and self._device == "cuda"
        self.executor = _executor_of_process(self._device, config.compute.threads) if num_spans > 1 else None
        has_threads = num_threads > 0 and self.executor is None and self._device == "cpu"
        self.threads = _threads_of_process(num_threads, config.compute.threads) if has_threads else None

    def together(self, core: Core) -> Core:
        """Return the core of a stage that is called by several threads, so that the executor knows of each call."""
        executor = self.executor
        if executor is None:
            return core

        def work(chunks: Any) -> Any:
            with executor.working():
                return core(chunks)

        return cast(Core, work)

    def of_role(self, role: str) -> object:
        """Load the model of a role (weights.roles)."""
        by_role: Mapping[str, Callable[[], object]] = {
            "detector": self.person_detector,
            "body": self.body_embedder,
            "look": self.face_check,
            "face_detector": self.face_detector,
            "restorer": self.restorer,
            "estimator": self.estimator,
            "face_embedding": self.face_embedder,
        }
        return by_role[role]()

    def person_detector(self) -> PersonDetector:
        """Load the detector of people."""
        chosen = self._config.observe.detector
        return self._load(
            chosen.weights,
            image_size=chosen.image_size,
            batch=fixed(chosen.batch),
            min_score=chosen.min_score,
            nms_iou=chosen.nms_iou,
            max_per_frame=chosen.max_per_frame,
        )

    def body_embedder(self) -> BodyEmbedder | None:
        """Load the embedder of bodies, or return None if there is none."""
        chosen = self._config.observe.body
        return None if chosen.weights is None else self._load(chosen.weights, batch=fixed(chosen.batch))

    def card_pixels(
        self, detector: PersonDetector, embedder: BodyEmbedder | None, num_spans: int, span_bytes: int
    ) -> CardPixels | None:
        """Let these models read pictures that decoders leave as planes. Return None where all pictures become RGB.

        span_bytes: memory of the device for the pictures of a span.
        """
        if self._config.compute.pixels != "planes":
            return None
        from pipeline.models import body_embedder, card_pixels, person_detector, plane_memory

        if not isinstance(detector, person_detector.PersonDetector):
            return None  # a detector of another package takes RGB
        ours = embedder if isinstance(embedder, body_embedder.BodyEmbedder) else None
        with run_by(self.executor):
            memory = plane_memory.PlaneMemory(num_spans, span_bytes, torch.device(self._device))
            return card_pixels.CardPixels(memory, detector, ours)

    def face_check(self) -> FaceDetector | None:
        """Load the detector for the quick face check of a crop, or return None if the check is off."""
        chosen = self._config.candidates
        return self._face_detector(chosen.look, chosen.look_px, 1, chosen.look_score) if chosen.look else None

    def face_detector(self, *, in_pictures: bool = False) -> FaceDetector:
        """Load the face detector for crops of people, or for whole pictures."""
        chosen = self._config.faces
        return self._face_detector(
            chosen.detector, chosen.input_px, fixed(chosen.batch), chosen.min_score, in_pictures=in_pictures
        )

    def whole_frame_face_detector(self) -> FaceDetector | None:
        """Load the face detector for whole frames, at the person detector's input size, or return None if this is
        off."""
        if not self._config.observe.whole_frame_faces:
            return None
        chosen, size_px = self._config.faces, self._config.observe.detector.image_size
        return self._face_detector(chosen.detector, size_px, 1, chosen.min_score, in_pictures=True)

    def restorer(self) -> FaceRestorer | None:
        """Load the restorer of faces, or return None if restoration is off."""
        chosen = self._config.restore
        return None if chosen.mode == "off" else self._load(chosen.weights, batch=fixed(chosen.batch))

    def upsampler(self, name: str, *, tile_px: int, batch: int) -> Callable[[Picture], Picture]:
        """Load the registry entry `name`, which doubles the size of pictures, in batches of square tiles."""
        return self._load(name, tile_px=tile_px, batch=batch)

    def estimator(self) -> AttributeEstimator | None:
        """Load the estimator of age and gender, or return None if there is none."""
        chosen = self._config.estimate
        if chosen.estimator is None:
            return None
        name = chosen.estimator
        kind, files = self._registry.entry(name).kind, self._files(name)
        with self._loading(name):
            estimator = load_estimator(
                kind,
                files,
                batch=chosen.batch,
                device=self._device,
                half=self._half,
                options=self._options(name),
                name=called(name),
            )
        if chosen.uses != "faces" and not getattr(estimator, "reads_bodies", False):
            raise UserError(
                f"estimate.uses={chosen.uses} needs an estimator that reads bodies, and the file of {name} "
                "reads faces alone; name another one, or estimate.uses=faces"
            )
        return estimator

    def face_embedder(self) -> FaceEmbedder | None:
        """Load the embedder of faces, or return None if there is none."""
        chosen = self._config.estimate
        return None if chosen.face_embedding is None else self._load(chosen.face_embedding, batch=chosen.batch)

    def _face_detector(
        self, name: str, input_px: int, batch: int, min_score: float, *, in_pictures: bool = False
    ) -> FaceDetector:
        kind, files = self._registry.entry(name).kind, self._files(name)
        with self._loading(name):
            detector = load_face_detector(
                (in_pictures and all_kinds()[kind].in_pictures) or kind,
                files,
                input_px=input_px,
                batch=batch,
                min_score=min_score,
                device=self._device,
                half=self._half,
                options=self._options(name),
                name=called(name),
            )
        return DividedFaceDetector(detector, batch, self.threads) if self.threads else detector

    def _load(self, name: str, **settings: Any) -> Any:
        kind, files = self._registry.entry(name).kind, self._files(name)
        with self._loading(name):
            settings |= {"device": self._device, "half": self._half}
            return load_model(kind, files, self._options(name), name=called(name), **settings)

    @contextmanager
    def _loading(self, name: str) -> Iterator[None]:
        """Let the models that are loaded in the block run where those of this loader do, and name their entry in
        errors."""
        with naming(name), run_by(self.executor, has_threads=self.threads is not None):
            yield

    def _options(self, name: str) -> Options | None:
        """Return the options of an entry, or those of its parts by part. None if there are none."""
        entry = self._registry.entry(name)
        parts = {part: self._registry.entry(leaf).options for part, leaf in (entry.parts or {}).items()}
        return entry.options or ({part: options for part, options in parts.items() if options} or None)

    def _files(self, name: str) -> Mapping[str, Path]:
        parts = self._registry.entry(name).parts or {WHOLE: name}
        return {role: self._registry.path(part) for role, part in parts.items()}
