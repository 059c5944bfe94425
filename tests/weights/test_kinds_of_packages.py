"""An installed package brings kinds of its own, and the options of an entry identify a model as its bytes do."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.arrays import Estimates
from pipeline.config import load
from pipeline.errors import UserError
from pipeline.models.loading import Loader
from pipeline.planning.changes import compare
from pipeline.planning.recipe import Recipe, keys
from pipeline.storage.blobs import fetch
from pipeline.weights import Registry, sha256_of
from pipeline.weights import kinds as kinds_module
from tests.models.onnx_files import write_means

ENTRY = {"input": {"size": 8}, "age": {"output": "age", "form": "years", "std": 6}}

YEARS = ENTRY["age"]
SHARES = {"output": "age", "form": "probabilities"}


class Constant:
    """An estimator of a package: everybody is of one age."""

    def __init__(self, path: Path, *, options: dict[str, Any], **_: object) -> None:
        self.age = float(path.read_text()) + options.get("older", 0)

    def __call__(self, faces: NDArray[np.uint8]) -> Estimates:
        ages = np.full(len(faces), self.age, np.float32)
        return Estimates(ages, np.full_like(ages, 5), np.full_like(ages, 0.5))


@dataclass(frozen=True)
class Package:
    name: str = "constant-ages"
    version: str = "1.2"


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Return a function that installs a package with an estimator kind."""

    def installed(kind: str = "constant", place: str = f"{__name__}:Constant", version: str = "1.2") -> None:
        def points(group: str) -> list[EntryPoint]:
            point = EntryPoint(kind, place, group)
            vars(point)["dist"] = Package(version=version)
            return [point] if group == "rollcall.estimators" else []

        monkeypatch.setattr(kinds_module, "entry_points", points)
        kinds_module.all_kinds.cache_clear()

    yield installed
    kinds_module.all_kinds.cache_clear()


def config_of(path: Path, kind: str, options: dict[str, Any] | None = None, knob: str = "estimate.estimator") -> Any:
    entry = {"kind": kind, "uri": str(path), "sha256": sha256_of(path), "licence": "MIT"}
    base = load(settings=[f"{knob}=mine", "compute.device=cpu", "observe.detector.batch=8", "faces.batch=8"])
    entry |= {"options": options} if options else {}
    return base.model_copy(update={"weights": base.weights.model_copy(update={"extra": {"mine": entry}})})


def test_a_kind_of_an_installed_package_judges_faces_with_its_options(
    install: Callable[..., None], tmp_path: Path
) -> None:
    install()
    path = tmp_path / "age.txt"
    path.write_text("40")
    config = config_of(path, "constant", {"older": 2})
    estimator = Loader(config, Registry.of(config, fetch)).estimator()
    assert estimator is not None
    assert estimator(np.zeros((3, 8, 8, 3), np.uint8)).ages.tolist() == [42, 42, 42]


def test_another_version_of_the_package_is_another_model(install: Callable[..., None], tmp_path: Path) -> None:
    path = tmp_path / "age.txt"
    path.write_text("40")
    recipes = []
    for version in ("1.2", "1.3"):
        install(version=version)
        config = config_of(path, "constant").on_device("cpu")
        registry = Registry.of(config, fetch)
        recipes.append((keys(config, registry), Recipe.of(config, registry)))
    (before, first), (after, second) = recipes
    assert before.observed == after.observed
    assert before.enriched != after.enriched
    assert [change.name for change in compare(first, second)] == ["weights of estimator"]


def test_a_package_that_is_broken_or_takes_one_of_our_names_is_named(
    install: Callable[..., None], tmp_path: Path
) -> None:
    path = tmp_path / "age.txt"
    path.write_text("40")
    install(place="no_such_module:Constant")
    config = config_of(path, "constant")
    with pytest.raises(UserError, match=r"no_such_module:Constant of constant-ages 1\.2 cannot be imported"):
        Loader(config, Registry.of(config, fetch)).estimator()
    install(kind="yolo")
    with pytest.raises(UserError, match=r"constant-ages 1\.2 and Rollcall both have a kind yolo"):
        Registry.of(config, fetch)


def test_other_options_of_the_same_file_are_another_model(tmp_path: Path) -> None:
    path = write_means(tmp_path / "n.onnx", {"age": ([[1], [0], [0]], [0])})
    chosen = []
    for std in (6, 7):
        config = config_of(path, "onnx-estimator", ENTRY | {"age": {"output": "age", "form": "years", "std": std}})
        chosen.append(keys(config, Registry.of(config, fetch)))
    assert chosen[0].observed == chosen[1].observed
    assert chosen[0].enriched != chosen[1].enriched


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (None, r"mine\.options must hold age or gender"),
        ({"age": ENTRY["age"]}, r"mine\.options: input is missing"),
        ({"input": {"size": 8}}, "must hold age or gender"),
        (ENTRY | {"windo": 1}, r"unknown key windo; did you mean window\?"),
        (ENTRY | {"input": {"size": [1, 2, 3]}}, "size must be a side, or height and width"),
        (ENTRY | {"input": {"size": 8, "layout": "chw"}}, "layout must be one of nchw, nhwc, got 'chw'"),
        (ENTRY | {"input": {"size": 8, "std": 0}}, "std not 0"),
        (ENTRY | {"age": {"output": "age", "form": "years"}}, "std is missing"),
        (ENTRY | {"gender": {"output": "sex", "form": "logits", "female": 2}}, "0 or 1, got 2"),
        (ENTRY | {"window": [0.8, 0, 0.2, 1]}, "window must be left, top, right and bottom"),
        (ENTRY | {"input": {"size": 8.5}}, r"size takes whole numbers from 1 on, got 8\.5"),
        (ENTRY | {"input": {"size": True}}, "size must be a number or a list of numbers, got True"),
        (ENTRY | {"input": {"size": 8, "mean": float("nan")}}, "mean must be a number or a list of numbers, got nan"),
        (ENTRY | {"age": YEARS | {"std": -6}}, "std must be above 0 years, got -6"),
        (ENTRY | {"age": YEARS | {"columns": [0, 1.5]}}, "columns takes whole numbers from 0 on"),
        (
            ENTRY | {"age": YEARS | {"classes": [[0, 2]]}},
            "classes has no effect here",
        ),
        (ENTRY | {"age": SHARES | {"scale": 100}}, "scale has no effect here"),
        (ENTRY | {"age": SHARES | {"classes": [[5, 2], [6, 8]]}}, "classes must be first and last years"),
        (ENTRY | {"age": SHARES | {"classes": [[-5, 2], [6, 8]]}}, "classes must be first and last years from 0 on"),
    ],
)
def test_options_are_checked_before_any_work(options: dict[str, Any] | None, message: str, tmp_path: Path) -> None:
    path = write_means(tmp_path / "n.onnx", {"age": ([[1], [0], [0]], [0])})
    with pytest.raises(UserError, match=message):
        Registry.of(config_of(path, "onnx-estimator", options), fetch)


def test_an_option_without_a_value_is_as_good_as_none(tmp_path: Path) -> None:
    path = write_means(tmp_path / "n.onnx", {"age": ([[1], [0], [0]], [0])})
    empty = {"window": None, "gender": None, "age": YEARS | {"scale": None, "columns": None}}
    config = config_of(path, "onnx-estimator", ENTRY | empty)
    estimator = Loader(config, Registry.of(config, fetch)).estimator()
    assert estimator is not None
    assert estimator(np.full((1, 8, 8, 3), 7, np.uint8)).ages.tolist() == [7]


DISTANCES = {
    "input": {"size": 64},
    "boxes": {"output": ["a", "b"], "form": "distances"},
    "scores": {"output": ["c", "d"]},
    "strides": [8, 16],
}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (DISTANCES | {"strides": [0, 8]}, r"strides takes whole numbers from 1 on, got \[0, 8\]"),
        (DISTANCES | {"anchors": 0}, "anchors takes whole numbers from 1 on"),
        (DISTANCES | {"scores": {"output": ["c", "d"], "column": -1}}, "column takes whole numbers from 0 on"),
        (DISTANCES | {"boxes": DISTANCES["boxes"] | {"unit": "px"}}, "unit has no effect here"),
        (DISTANCES | {"strides": None}, "must each name 1 outputs"),
        ({"input": {}, "boxes": {"output": "a"}, "scores": {"output": "c"}, "strides": [8]}, "strides has no effect"),
    ],
)
def test_options_of_a_face_detector_are_checked_before_any_work(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = write_means(tmp_path / "n.onnx", {"age": ([[1], [0], [0]], [0])})
    with pytest.raises(UserError, match=message):
        Registry.of(config_of(path, "onnx-face-detector", options, knob="candidates.look"), fetch)


def test_options_of_a_kind_that_has_none_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("x")
    with pytest.raises(UserError, match="kind attributes must not have options"):
        Registry.of(config_of(path, "attributes", {"a": 1}), fetch)


def test_a_face_detector_without_landmarks_serves_the_quick_face_check_alone(tmp_path: Path) -> None:
    path = write_means(tmp_path / "n.onnx", {"age": ([[1], [0], [0]], [0])})
    options = {"input": {}, "boxes": {"output": "b"}, "scores": {"output": "s"}}
    blind = config_of(path, "onnx-face-detector", options, knob="faces.detector")
    with pytest.raises(UserError, match=r"faces\.detector must be a model with landmarks"):
        Registry.of(blind, fetch).models_of(blind)
    check = config_of(path, "onnx-face-detector", options, knob="candidates.look")
    assert Registry.of(check, fetch).models_of(check)["look"] == "mine"
