import pickle
from pathlib import Path

import pytest

from pipeline.config import load
from pipeline.errors import UserError
from pipeline.storage.blobs import fetch
from pipeline.weights import LOCK, Registry, sha256_of
from tests.shared import needs_shared
from tests.weights.registries import BYTES, GOOD, SHA256, URI, entry, offline, registry, with_extra

SHARED_WEIGHTS = Path(__file__).parents[1] / "conf" / "shared-weights.yaml"


def test_a_registry_goes_to_other_processes_with_its_pins(tmp_path: Path) -> None:
    here = Registry({"reid": entry(sha256=None, uri=str(tmp_path / "f"))}, cache=tmp_path / "cache", fetch=fetch)
    (tmp_path / "f").write_bytes(BYTES)
    here.path("reid")
    (tmp_path / "cache" / LOCK).unlink()
    assert pickle.loads(pickle.dumps(here)).sha256("reid") == SHA256


def test_a_name_that_is_not_there_brings_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no weights named ried; did you mean reid\?"):
        registry(tmp_path).path("ried")


def test_an_entry_of_the_configuration_wins_over_the_one_that_ships() -> None:
    ours = Registry.of(with_extra(yolo11m={**GOOD, "kind": "yolo"}), fetch)
    assert ours.entry("yolo11m").uri == URI
    assert ours.entry("yolo11x").uri != URI


def test_every_model_of_a_configuration_is_listed_down_to_its_files() -> None:
    config = load(profile="full")
    models = Registry.of(config, fetch).models_of(config)
    assert models == {
        "detector": "yolo11m",
        "body": "osnet-x1-0-msmt17",
        "look": "yunet",
        "face_detector": "retinaface-r50",
        "restorer": "gfpgan-1.4",
        "estimator.embedder": "facenet-vggface2",
        "estimator.heads": "bosch-data-huber",
        "face_embedding": "facenet-vggface2",
    }


def test_a_model_that_is_switched_off_is_not_listed() -> None:
    config = load(settings=["restore.mode=off", "estimate.estimator=null", "estimate.face_embedding=null"])
    models = Registry.of(config, fetch).models_of(config)
    assert set(models) == {"detector", "body", "face_detector"}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "observe.detector.weights=yolo11z",
            "observe.detector.weights: there are no weights named yolo11z; did you mean yolo11x",
        ),
        ("faces.detector=yolo11m", "faces.detector must be of kind retinaface-r50 or "),
        ("estimate.uses=both", "estimate.uses=both needs an estimator that reads bodies.* choose one of kind mivolo"),
    ],
)
def test_a_model_that_cannot_fill_its_role_is_refused_with_its_knob(setting: str, message: str) -> None:
    config = load(settings=[setting])
    with pytest.raises(UserError, match=message):
        Registry.of(config, fetch).models_of(config)


@needs_shared
def test_every_file_of_the_shared_profile_has_the_bytes_that_it_names(tmp_path: Path) -> None:
    config = load([SHARED_WEIGHTS], [f"weights.cache={tmp_path}"])
    shared = Registry.of(config, offline)
    files = shared.pull(config.weights.extra)
    assert {name: sha256_of(path) for name, path in files.items()} == {
        name: shared.entry(name).sha256 for name in files
    }
    assert None not in shared.digests(config).values()
    assert shared.entry(shared.models_of(config)["detector"]).licence == "AGPL-3.0"


def test_weights_inside_an_installed_package_are_verified_where_they_lie(tmp_path: Path) -> None:
    config = load(settings=["faces.detector=mtcnn", f"weights.cache={tmp_path}"])
    mtcnn = Registry.of(config, offline)
    assert set(mtcnn.pull(["mtcnn"])) == {"mtcnn-pnet", "mtcnn-rnet", "mtcnn-onet"}
    assert {role for role in mtcnn.models_of(config) if role.startswith("face_detector")} == {
        "face_detector.pnet",
        "face_detector.rnet",
        "face_detector.onet",
    }


def test_bodies_without_an_estimator_are_refused() -> None:
    config = load(settings=["estimate.estimator=null", "estimate.uses=bodies"])
    with pytest.raises(UserError, match=r"needs an estimator, and estimate\.estimator is null"):
        Registry.of(config, fetch).models_of(config)
