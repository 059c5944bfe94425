"""The way of the earlier systems, over the same models: one frame, one person, one face at a time.

1. Every frame is decoded, people are detected and embedded in it, and a tracker follows them.
2. The video is decoded again. In every 5th frame each tracked person is cut out. On the crop the best face is found,
   restored if that is wanted, embedded and judged.
3. Each ID gets the mean of its ages and the majority of its genders, and a row per frame in a CSV.

Every network sees batches of one. The thresholds are those of the earlier system: people from .5 on, faces from the
score of the configuration on.
"""

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jobs.benchmarks.decoders import pictures_of
from pipeline.arrays import Picture
from pipeline.chunk.aligned import ALIGNED_PX, RESTORED_PX
from pipeline.config import Config
from pipeline.interfaces import (
    AttributeEstimator,
    BodyEmbedder,
    FaceDetector,
    FaceEmbedder,
    FaceRestorer,
    PersonDetector,
)
from pipeline.media.faces import align_face, resize_face
from pipeline.media.pictures import cut_out
from pipeline.media.probe import Probe
from pipeline.weights import Registry

JUDGED_EVERY = 5
MIN_SCORE = 0.5
BATCHES_OF_ONE = (
    *("observe.detector.batch=1", "observe.body.batch=1", "faces.batch=1", "estimate.batch=1", "restore.batch=1"),
)
"""Settings with which the models are loaded. A fuller batch would be padded for each single face."""

Judgement = tuple[float, float]
"""Age in years and probability of female, of one face."""


@dataclass(frozen=True, slots=True)
class EarlierModels:
    """The models, loaded with BATCHES_OF_ONE. Those that the configuration does not name are None."""

    detector: PersonDetector
    embedder: BodyEmbedder | None
    face_detector: FaceDetector
    restorer: FaceRestorer | None
    face_embedder: FaceEmbedder | None
    estimator: AttributeEstimator | None

    @classmethod
    def load(cls, config: Config, registry: Registry) -> "EarlierModels":
        """Load the models of a configuration."""
        from pipeline.models.loading import Loader

        load = Loader(config, registry)
        return cls(
            load.person_detector(),
            load.body_embedder(),
            load.face_detector(),
            load.restorer(),
            load.face_embedder(),
            load.estimator(),
        )


@dataclass(frozen=True, slots=True)
class Followed:
    """The people of a video.

    boxes: (4,) xyxy px of every ID by frame; frames count from 0.
    judgements: of the faces of every ID, in order of time.
    num_frames: decoded frames.
    """

    boxes: Mapping[int, Mapping[int, NDArray[np.float32]]]
    judgements: Mapping[int, Sequence[Judgement]]
    num_frames: int


class EarlierWay:
    """Goes through videos in the way of the earlier systems."""

    def __init__(self, config: Config, models: EarlierModels) -> None:
        self._config, self._models = config, models

    def __call__(self, video: Path, probe: Probe, csv_file: Path) -> Followed:
        """Follow and judge the people of a video, and write the CSV."""
        boxes, num_frames = self._follow(video, probe)
        judgements = self._judge(video, boxes)
        _write(csv_file, boxes, judgements)
        return Followed(boxes, judgements, num_frames)

    def _follow(self, video: Path, probe: Probe) -> tuple[dict[int, dict[int, NDArray[np.float32]]], int]:
        from pipeline.models.tracker import Tracker

        track, step_s = self._config.track, 1 / float(probe.fps)
        tracker = Tracker(
            track.tracker, min_score=track.min_score, memory_s=track.memory_s, step_s=step_s, options=track.options
        )
        boxes: dict[int, dict[int, NDArray[np.float32]]] = defaultdict(dict)
        frame = -1
        for frame, picture in enumerate(pictures_of(str(video))):
            (people,) = self._models.detector([picture], alone=True)
            people = people[people.scores >= np.float32(MIN_SCORE)]
            vectors = None
            if self._models.embedder is not None and tracker.uses_embeddings:
                crops = self._models.embedder.crops(picture, people.boxes)
                vectors = self._models.embedder(crops, alone=True)
            ids, indices = tracker.update(frame * step_s, people.boxes, people.scores, vectors)
            for number, index in zip(ids.tolist(), indices.tolist(), strict=True):
                boxes[number][frame] = people.boxes[index]
        return boxes, frame + 1

    def _judge(self, video: Path, boxes: Mapping[int, Mapping[int, NDArray[np.float32]]]) -> dict[int, list[Judgement]]:
        judgements: dict[int, list[Judgement]] = defaultdict(list)
        for frame, picture in enumerate(pictures_of(str(video))):
            if frame % JUDGED_EVERY:
                continue
            for number, by_frame in boxes.items():
                if frame in by_frame:
                    judgements[number] += self._judge_person(picture, by_frame[frame])
        return judgements

    def _judge_person(self, picture: Picture, box: NDArray[np.float32]) -> list[Judgement]:
        """Return the judgement of the best face on a person, or nothing."""
        models = self._models
        left, top, right, bottom = (int(value) for value in box)
        if right - left < 2 or bottom - top < 2:
            return []
        crop = cut_out(picture, (left, top, right, bottom))
        (faces,) = models.face_detector([crop])
        if not len(faces):
            return []
        side = RESTORED_PX if models.restorer else ALIGNED_PX
        face = align_face(crop, faces.landmarks[0], side)[None]
        if models.restorer is not None:
            face = resize_face(models.restorer(face)[0], ALIGNED_PX)[None]
        if models.face_embedder is not None:
            models.face_embedder(face)
        if models.estimator is None:
            return []
        estimates = models.estimator(face)
        return [(float(estimates.ages[0]), float(estimates.female_probs[0]))]


def mean_age(judgements: Sequence[Judgement]) -> float:
    """Return the mean of the ages."""
    return float(np.mean([age for age, _ in judgements]))


def majority_is_female(judgements: Sequence[Judgement]) -> bool:
    """Return the vote of the genders. A tie is female, as in the earlier system."""
    votes = [prob > 0.5 for _, prob in judgements]
    return 2 * sum(votes) >= len(votes)


def _write(
    path: Path,
    boxes: Mapping[int, Mapping[int, NDArray[np.float32]]],
    judgements: Mapping[int, Sequence[Judgement]],
) -> None:
    """Write a row for every person and frame: frame, ID, box, age and gender; -1 and N where nothing was judged."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        for number, by_frame in boxes.items():
            known = judgements.get(number) or []
            age = round(mean_age(known)) if known else -1
            gender = "N" if not known else "F" if majority_is_female(known) else "M"
            for frame, box in by_frame.items():
                writer.writerow([frame + 1, number, *box.astype(int).tolist(), age, gender])
