"""The benches that need models, with fake models that find two people with red patches for faces."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from jobs.bench import app
from jobs.benchmarks import ray_recipe, setting
from jobs.benchmarks.agreement import agreement
from jobs.benchmarks.card import SHARES, _rates, while_busy
from jobs.benchmarks.earlier_way import EarlierModels, EarlierWay, Followed
from jobs.benchmarks.made_videos import repeat_video, write_video
from jobs.benchmarks.metered_models import MeteredModel
from pipeline.arrays import Detections, Estimates, Picture
from pipeline.boxes import Boxes
from pipeline.config import Config, load
from pipeline.errors import UserError
from pipeline.media.probing import probe
from pipeline.models.gpu import has_gpu
from pipeline.models.loading import Loader
from pipeline.storage.blobs import fetch
from pipeline.storage.source_files import opener
from pipeline.weights import Registry
from tests.builders import Film, Walker, publish
from tests.chunk.red_patches import WIDTH, Blue, Person, RedPatches, draw

PEOPLE = (Person(150), Person(430, face_px=50))
NUM_FRAMES = 25


@dataclass
class TwoPeople:
    """A person detector that knows PEOPLE in a picture of any size. It notes how many pictures each call has."""

    batch: int = 4
    calls: list[int] = field(default_factory=list)

    def __call__(self, pictures: Sequence[Picture], *, alone: bool = False) -> list[Detections]:
        self.calls.append(len(pictures))
        boxes = np.array([person.box for person in PEOPLE], np.float32)
        scores = np.full(len(boxes), 0.9, np.float32)
        return [Detections(boxes * np.float32(picture.shape[1] / WIDTH), scores) for picture in pictures]


class Corners:
    """An embedder whose vector is the side of the picture that a person stands on."""

    batch = 4

    def crops(self, picture: Picture, boxes: Boxes) -> NDArray[np.uint8]:
        is_right = boxes[:, 0] > picture.shape[1] / 3
        return np.tile(is_right.astype(np.uint8)[:, None, None, None], (1, 8, 4, 3))

    def __call__(self, crops: NDArray[np.uint8], *, alone: bool = False) -> NDArray[np.float32]:
        return np.eye(2, dtype=np.float32)[crops[:, 0, 0, 0].astype(int)]


@dataclass
class Thirty:
    """An estimator that takes everybody for a woman of thirty. It notes how many faces each call has."""

    calls: list[int] = field(default_factory=list)

    def __call__(self, faces: NDArray[np.uint8]) -> Estimates:
        self.calls.append(len(faces))
        ones = np.ones(len(faces), np.float32)
        return Estimates(30 * ones, 5 * ones, 0.9 * ones)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "two.mp4"
    write_video(path, [draw(PEOPLE)] * NUM_FRAMES)
    return path


@pytest.fixture
def fake_models(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: dict[str, Any] = {
        "person_detector": TwoPeople,
        "body_embedder": Corners,
        "face_check": RedPatches,
        "face_detector": RedPatches,
        "estimator": Thirty,
        "face_embedder": lambda: None,
    }
    for method, make in loaded.items():
        monkeypatch.setattr(Loader, method, lambda _, make=make: make())
    monkeypatch.setattr(Loader, "restorer", lambda loader: None if loader._config.restore.mode == "off" else Blue())
    monkeypatch.setattr(setting, "verified_models", lambda config: Registry.of(config, fetch))


def measured(words: Sequence[object], figures: Path) -> dict[str, Any]:
    """Run a bench and return its figures."""
    result = CliRunner().invoke(app, [*map(str, words), "--json", str(figures)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(figures.read_text())


def test_seeds_compares_the_ways_with_and_without_restoration(fake_models: None, video: Path, tmp_path: Path) -> None:
    words = [
        "seeds",
        "--clip",
        video,
        "--repeats",
        1,
        "--seconds",
        0.8,
        "--restoration",
        "always",
        "--set",
        "person.min_faces=1",
    ]
    report = measured(words, tmp_path / "seeds.json")
    rows = Counter((row["restoration"], row["way"]) for row in report["rows"])
    ways = ("one at a time", "one at a time, all cores", "process", "process, every frame")
    assert rows == Counter((mode, way) for mode in ("off", "always") for way in ways)
    for mode in ("off", "always"):
        compared = report["facts"][f"agreement of process, restoration {mode}"]
        assert compared["IDs with an estimate"] == compared["persons with an age"] == 2
        assert compared["share of its boxes found"] == 1
        assert compared["ages"] == {"compared": 2, "mean_difference": 0, "median_difference": 0}
        assert compared["genders"] == {"compared": 2, "share_that_agrees": 1}
        assert report["ratios"][f"restoration {mode}, seconds: one at a time over process"]["median"] > 0


def test_seeds_leaves_out_the_earlier_way_on_all_cores_if_asked(fake_models: None, video: Path, tmp_path: Path) -> None:
    report = measured(["seeds", "--quick", "--one-core", "--clip", video], tmp_path / "seeds.json")
    assert [row["way"] for row in report["rows"]] == ["one at a time", "process", "process, every frame"]
    assert len(report["ratios"]) == 4
    assert not any("all cores" in name for name in report["ratios"])


def test_the_earlier_way_takes_one_at_a_time_and_judges_every_fifth_frame(video: Path, tmp_path: Path) -> None:
    detector, estimator, faces = TwoPeople(), Thirty(), RedPatches()
    way = EarlierWay(load(profile="starter"), EarlierModels(detector, Corners(), faces, None, None, estimator))
    followed = way(video, probe(opener(str(video))), tmp_path / "people.csv")
    assert followed.num_frames == NUM_FRAMES
    assert detector.calls == [1] * NUM_FRAMES
    assert estimator.calls == faces.calls == [1] * 2 * (NUM_FRAMES // 5)
    assert {len(judgements) for judgements in followed.judgements.values()} == {NUM_FRAMES // 5}
    rows = (tmp_path / "people.csv").read_text().splitlines()
    assert len(rows) == 2 * NUM_FRAMES
    assert rows[0].endswith(",30,F")


def test_agreement_finds_the_person_below_each_id_and_compares_the_estimates(tmp_path: Path) -> None:
    film = Film(4, [Walker(0, 4, 50, age=30, look=1), Walker(0, 4, 300, age=60, female_prob=0.1, look=2)])
    job = publish(film, [2], str(tmp_path))
    frames = range(0, 100, 5)
    boxes = {
        number: {frame: np.array(film.walkers[number].box(frame / 25), np.float32) for frame in frames}
        for number in (0, 1)
    }
    nowhere = {frame: np.array([0, 400, 20, 470], np.float32) for frame in frames}
    judgements = {0: [(32.0, 0.8), (34.0, 0.8)], 1: [(60.0, 0.7)] * 3, 2: [(5.0, 0.5)]}
    figures = agreement(Followed(boxes | {2: nowhere}, judgements, 100), job.ledger.store, "v")
    assert figures["share of its boxes found"] == pytest.approx(2 / 3, abs=0.001)
    assert figures["ages"]["compared"] == 2
    assert figures["ages"]["mean_difference"] == pytest.approx(1.5, abs=0.3)
    assert figures["genders"] == {"compared": 2, "share_that_agrees": 0.5}
    assert figures["the earlier way with itself, ages"] == {
        "compared": 2,
        "mean_difference": 1.0,
        "median_difference": 1.0,
    }


def test_limit_counts_the_calls_of_every_model_and_times_them_alone(
    fake_models: None, video: Path, tmp_path: Path
) -> None:
    report = measured(["limit", "--clip", video, "--repeats", 1, "--share", 1], tmp_path / "limit.json")
    parts = {row["way"].removesuffix(" alone"): row["figures"] for row in report["rows"] if row["what"] == "part"}
    assert parts["person detector"]["calls"]["median"] == 2  # eight pictures in batches of four
    assert parts["person detector"]["samples"]["median"] == 8
    assert {"decoder", "body embedder", "quick face check", "face detector", "estimator"} <= set(parts)
    stages = {row["way"]: row["figures"] for row in report["rows"] if row["what"] == "stage"}
    assert set(stages) == {"observe", "find_faces", "estimate", "commit", "reduce"}
    for figures in stages.values():
        assert figures["in models s"]["median"] <= figures["busy s"]["median"]
    assert len(report["ratios"]) == 3


def test_after_a_bench_models_are_loaded_without_meters(fake_models: None, video: Path, tmp_path: Path) -> None:
    before = Loader.person_detector
    measured(["limit", "--clip", video, "--quick"], tmp_path / "limit.json")
    assert Loader.person_detector is before


def test_a_meter_keeps_inputs_at_even_distances_and_repeats_a_share_of_the_calls() -> None:
    calls: list[int] = []
    meter = MeteredModel(lambda samples: calls.append(int(samples[0])))
    for number in range(1000):
        meter(np.array([number]))
    meter.is_counting = False
    meter(np.array([-1]))
    assert meter.num_calls == meter.num_samples == 1000
    calls.clear()
    meter.repeat(0.02)
    assert len(calls) == 20
    assert len({int(step) for step in np.diff(calls)}) == 1


def test_scale_measures_length_people_and_videos(fake_models: None, video: Path, tmp_path: Path) -> None:
    words = ["scale", "--clip", video, "--lengths", "0.4,0.8", "--people", "0,1", "--videos", "1,2", "--workers", ""]
    report = measured([*words, "--quick"], tmp_path / "scale.json")
    rows = {(row["what"], row["way"]): row["figures"] for row in report["rows"]}
    assert rows["length", "0.8 s"]["seconds of video"]["median"] == pytest.approx(0.8, abs=0.05)
    assert rows["videos", "2 videos"]["seconds of video"]["median"] == pytest.approx(
        2 * rows["videos", "1 videos"]["seconds of video"]["median"]
    )
    assert rows["people", "2 people"]["people per analysed frame"]["median"] == 2
    assert "cpu_seconds per second of video: 0.8 s over 0.4 s" in report["ratios"]


@pytest.mark.parametrize(
    ("option", "text"), [("--lengths", "long"), ("--lengths", "1,inf"), ("--people", "-1"), ("--workers", "2,0")]
)
def test_a_size_that_nothing_can_have_is_a_mistake_of_the_user(
    fake_models: None, video: Path, option: str, text: str
) -> None:
    result = CliRunner().invoke(app, ["scale", "--clip", str(video), option, text])
    assert isinstance(result.exception, UserError)
    assert option in str(result.exception)


def test_the_usual_recipe_judges_everybody_in_every_analysed_frame(
    fake_models: None, video: Path, tmp_path: Path
) -> None:
    config: Config = load(profile="starter", settings=["compute.device=cpu"])
    for pool in ("detect", "judge"):
        (tmp_path / f"ready-{pool}-1").touch()
    frames = list(
        ray_recipe._frames({"video": [str(video)]}, 25.0, config, ray_recipe._Signal(tmp_path, ray_recipe.NUM_POOLS))
    )
    assert sum(len(batch["time_s"]) for batch in frames) == 8
    registry = Registry.of(config, fetch)
    detect, judge = (kind(config, registry, tmp_path) for kind in (ray_recipe._Detect, ray_recipe._Judge))
    batches = [judge(detect(batch)) for batch in frames]
    group = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0] if name != "picture"}
    people = ray_recipe._track(group, config, 25.0)
    assert people["age"].tolist() == [30, 30]
    assert people["num_frames"].tolist() == [8, 8]


@pytest.mark.skipif(has_gpu(), reason="this machine has a card")
def test_without_a_card_the_bench_of_cards_says_so() -> None:
    result = CliRunner().invoke(app, ["gpu"])
    assert isinstance(result.exception, UserError)
    assert len(str(result.exception).splitlines()) == 1


def test_the_rates_of_a_card_count_from_its_first_work_to_its_last(tmp_path: Path) -> None:
    film = Film(4, [Walker(0, 4, 50)])
    store = publish(film, [2], str(tmp_path)).ledger.store
    samples = [{"at": 100 + at / 2, "sm": sm, "cpu": 50.0} for at, sm in enumerate([0, 0, 40, 0, 60, 80, 0.5])]
    assert [row["at"] for row in while_busy(samples)] == [101, 101.5, 102, 102.5]
    figures = _rates(store, 10, 98, samples)
    assert figures["seconds until the card works"] == 3
    assert figures["seconds while it works"] == 2
    assert figures["decoded frames per s"] == 50
    assert figures["video-hours per GPU-hour"] == pytest.approx(2)
    assert figures[SHARES["sm"]] == 45


@pytest.mark.slow
@pytest.mark.ray
def test_naive_measures_both_ways_on_ray(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", [draw(PEOPLE)] * NUM_FRAMES)
    clip = repeat_video(tmp_path / "clip.mp4", tmp_path / "long.mp4", 2)
    report = measured(["naive", "--clip", clip, "--quick"], tmp_path / "naive.json")
    assert {row["way"] for row in report["rows"]} == {"process", "usual recipe"}
    assert report["ratios"]["seconds: usual recipe over process"]["median"] > 0
    assert report["facts"]["analysed frames"] > 0
