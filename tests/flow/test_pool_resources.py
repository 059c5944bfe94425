from pathlib import Path

import pytest

from pipeline.config import Config, load
from pipeline.errors import UserError
from pipeline.flow.machine import Machine
from pipeline.flow.pool_resources import in_words, resources_of
from pipeline.flow.pools import Maps
from pipeline.flow.stage import Resources
from pipeline.storage.blobs import fetch
from pipeline.storage.ledger import Keys, Ledger
from pipeline.storage.store import Store
from pipeline.weights import Registry

LARGE = Machine(16, 1, 64e9)


def configured(*settings: str, device: str = "cpu") -> Config:
    config = load(settings=list(settings))
    return config.on_device("cuda", "card") if device == "cuda" else config.on_device("cpu")


def test_what_the_configuration_leaves_open_fits_the_machine() -> None:
    resources = resources_of(configured(), LARGE)
    assert resources == {
        "observe": Resources(num_cpus=1, num_gpus=0, min_workers=13, max_workers=13, threads=2),
        "enrich": Resources(num_cpus=0.5, num_gpus=0, min_workers=2, max_workers=2, threads=2),
    }
    assert in_words(resources, Machine(16, 0, 64e9)) == "workers for 16 CPUs: observe 13, enrich 2"


def test_on_a_card_workers_have_several_spans_and_equal_shares() -> None:
    resources = resources_of(configured(device="cuda"), LARGE)
    assert (resources["observe"].min_workers, resources["observe"].spans) == (4, 6)
    assert {each.num_gpus for each in resources.values()} == {0.166}
    assert in_words(resources, LARGE) == "workers for 16 CPUs and 1 GPU: observe 4 (6 spans each), enrich 2"


def test_every_number_can_be_chosen() -> None:
    settings = [
        "run.observe={workers: 3, max_workers: 5, cpus: 2, gpus: 0.25, spans: 2}",
        "run.enrich={workers: 1, max_workers: auto, cpus: auto, gpus: auto}",
        "run.restore={workers: 2, max_workers: 1, cpus: 0.25, gpus: 0.1}",
    ]
    resources = resources_of(configured(*settings, device="cuda"), LARGE)
    assert resources["observe"] == Resources(num_cpus=2, num_gpus=0.25, min_workers=3, max_workers=5, spans=2)
    assert resources["restore"] == Resources(num_cpus=0.25, num_gpus=0.1, min_workers=2, max_workers=2)
    # observe, two pools like enrich, and restore
    assert resources["enrich"] == Resources(num_cpus=0.5, num_gpus=0.142, min_workers=1, max_workers=1)


def test_more_workers_than_cpus_are_said_to_share_them() -> None:
    resources = resources_of(configured("run.observe.workers=500"), Machine(2, 0, 64e9))
    words = "workers for 2 CPUs: observe 500, enrich 1; the workers of observe share 2 CPUs, because they are more"
    assert in_words(resources, Machine(2, 0, 64e9)) == words


def test_the_workers_of_observe_share_the_cores_for_their_threads_and_a_card_has_none() -> None:
    def threads(machine: Machine, *settings: str, device: str = "cpu") -> set[int]:
        return {each.threads for each in resources_of(configured(*settings, device=device), machine).values()}

    assert threads(LARGE, "run.observe.workers=4") == {4}
    assert threads(LARGE, "run.engine=local") == {16}
    assert threads(Machine(2, 0, LARGE.memory_bytes)) == {2}
    assert threads(Machine(1, 0, LARGE.memory_bytes)) == {1}
    assert threads(LARGE, device="cuda") == {0}


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_one_process_has_one_worker_of_each(device: str) -> None:
    resources = resources_of(configured("run.engine=local", device=device), LARGE)
    assert {each.min_workers for each in resources.values()} == {1}


def test_without_workers_of_its_own_the_stages_of_enrich_belong_to_observe(tmp_path: Path) -> None:
    config = configured("run.enrich.workers=0", "restore.mode=auto", device="cuda")
    resources = resources_of(config, LARGE)
    assert in_words(resources, LARGE) == "workers for 16 CPUs and 1 GPU: observe 4 (6 spans each)"
    assert resources["observe"].num_gpus == 0.25
    assert resources_of(configured("run.enrich.workers=0"), LARGE)["observe"].min_workers == 15
    maps = Maps.of(config, Registry.of(config, fetch), Ledger(Store(str(tmp_path)), Keys("o", "e")), "run")
    (pool,) = maps.whole
    assert [stage.name for stage in pool.stages] == ["observe", "find_faces", "restore_faces", "estimate", "commit"]
    assert maps.kept_faces[0].resources == pool.resources
    assert config.run.face_spans == 6
    assert configured(device="cuda").run.face_spans == 1


def test_restoration_has_no_pool_between_stages_of_one_worker() -> None:
    with pytest.raises(UserError, match=r"restore must be null where enrich.workers is 0"):
        configured("run.enrich.workers=0", "run.restore={workers: 1, max_workers: 1, cpus: 1, gpus: 0}")
