"""The manifests for Kubernetes have no misspelt field, and keep the rules that KubeRay has beside its schemas."""

import re
from collections.abc import Iterator
from functools import cache
from math import inf
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import ray
import yaml
from jsonschema import Draft202012Validator

from pipeline.config import load
from pipeline.flow.machine import Machine
from pipeline.flow.pool_resources import resources_of
from tests.infra.manifests import (
    KUBERNETES,
    RAY_KINDS,
    ROOT,
    WITHOUT_SCHEMA,
    documents,
    ray_cluster,
    ray_job,
    read,
)
from tests.shared import SHARED

CRDS = SHARED / "infra" / "kuberay-crds"
KUBERNETES_VERSIONS = ("1.32", "1.37")
LONGEST_NAME = {"RayCluster": 53, "RayJob": 47, "RayCronJob": 36}
LONGEST_SUFFIX = len("-29999999-9")
"""The CronJob appends minutes since 1970, nightly.py the number of the try."""
DNS_1035 = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")
OURS = list(documents(*RAY_KINDS))
NAMES = [path for path, _ in OURS]


@cache
def validator(kind: str) -> Draft202012Validator:
    path = CRDS / f"ray.io_{kind.lower()}s.yaml"
    if not path.is_file():
        pytest.skip("needs KubeRay's CRDs beside the repository (../shared/infra/kuberay-crds)")
    definition = yaml.load(path.read_bytes(), yaml.CSafeLoader)
    schema = next(v for v in definition["spec"]["versions"] if v["name"] == "v1")["schema"]["openAPIV3Schema"]
    return Draft202012Validator(strict(schema))


def strict(schema: Any) -> Any:
    """Turn a schema of a CRD into one that refuses unknown fields, as the API server's strict validation does."""
    if not isinstance(schema, dict):
        return schema
    changed = {key: value for key, value in schema.items() if key not in {"items", "properties"}}
    if "properties" in schema:
        changed["properties"] = {name: strict(inner) for name, inner in schema["properties"].items()}
        changed["required"] = [
            name for name in schema.get("required", []) if "default" not in schema["properties"].get(name, {})
        ]
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            changed["additionalProperties"] = False
        if "metadata" in changed["properties"] and "kind" in changed["properties"]:
            changed["properties"]["metadata"] = {"type": "object"}
    if "items" in schema:
        changed["items"] = strict(schema["items"])
    if isinstance(schema.get("additionalProperties"), dict):
        changed["additionalProperties"] = strict(schema["additionalProperties"])
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    return changed


@pytest.mark.parametrize(("path", "document"), OURS, ids=NAMES)
def test_kuberay_knows_every_field(path: str, document: dict[str, Any]) -> None:
    faults = [f"{error.json_path}: {error.message}" for error in validator(document["kind"]).iter_errors(document)]
    assert not faults, "\n".join(faults)


def test_a_misspelt_field_of_ray_is_noticed() -> None:
    document = read("kubernetes/raycluster.yaml")
    document["spec"]["workerGroupSpecs"][0]["maxReplica"] = 1
    assert not validator("RayCluster").is_valid(document)


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
def test_kubernetes_knows_every_field_of_its_kinds(version: str) -> None:
    checked = 0
    for _, document in documents():
        if document["kind"] not in (*RAY_KINDS, *WITHOUT_SCHEMA):
            kubernetes_validate.validate(document, version, strict=True)
            checked += 1
    assert checked >= 6


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
@pytest.mark.parametrize(("path", "document"), OURS, ids=NAMES)
def test_kubernetes_knows_every_field_of_rays_pods(path: str, document: dict[str, Any], version: str) -> None:
    for template in templates(document):
        pod = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "any"}, "template": template}
        kubernetes_validate.validate(pod, version, strict=True)


def test_a_misspelt_field_of_kubernetes_is_noticed() -> None:
    document = read("kubernetes/nightly/cronjob.yaml")
    document["spec"]["concurencyPolicy"] = "Forbid"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, KUBERNETES_VERSIONS[-1], strict=True)


def templates(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    cluster = ray_cluster(document)
    yield cluster["headGroupSpec"]["template"]
    for group in cluster["workerGroupSpecs"]:
        yield group["template"]


def test_every_way_to_run_has_the_same_cluster() -> None:
    clusters = [ray_cluster(document) for _, document in OURS]
    assert len(clusters) == 3
    assert clusters[0] == clusters[1] == clusters[2]


def test_the_nightly_run_and_its_alternative_differ_only_in_retries_and_cleaning_up() -> None:
    nightly, alternative = read("kubernetes/nightly/rayjob.yaml")["spec"], read("kubernetes/raycronjob.yaml")["spec"]
    ours = {"backoffLimit", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "deletionStrategy"}
    rest = [
        {key: value for key, value in job.items() if key not in ours} for job in (nightly, alternative["jobTemplate"])
    ]
    assert rest[0] == rest[1]


@pytest.mark.parametrize(("path", "document"), OURS, ids=NAMES)
def test_names_leave_room_for_what_kuberay_appends(path: str, document: dict[str, Any]) -> None:
    name = document["metadata"].get("name") or document["metadata"]["generateName"] + "a" * 5
    assert DNS_1035.fullmatch(name)
    assert len(name) <= LONGEST_NAME[document["kind"]]


def test_the_name_of_a_night_is_short_enough_for_a_ray_job() -> None:
    name = read("kubernetes/nightly/cronjob.yaml")["metadata"]["name"]
    assert DNS_1035.fullmatch(name)
    assert len(name) + LONGEST_SUFFIX <= LONGEST_NAME["RayJob"]


@pytest.mark.parametrize(("path", "document"), OURS, ids=NAMES)
def test_a_cluster_keeps_kuberays_rules(path: str, document: dict[str, Any]) -> None:
    cluster = ray_cluster(document)
    head, groups = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    assert document["apiVersion"] == "ray.io/v1"
    assert cluster["rayVersion"] == ray.__version__
    assert cluster["authOptions"] == {"mode": "token"}
    assert head["rayStartParams"]["num-cpus"] == "0", "tasks beside the driver could take its memory"
    for group in [head, *groups]:
        assert not (
            "resources" in group and {"num-cpus", "num-gpus", "memory", "resources"} & set(group["rayStartParams"])
        )
        assert "labels" not in group["rayStartParams"]
        assert group["template"]["spec"].get("restartPolicy", "Never") == "Never", "autoscaler v2 demands it"
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
    assert cluster["enableInTreeAutoscaling"]
    assert cluster["autoscalerOptions"]["version"] == "v2"
    env = {item["name"] for item in head["template"]["spec"]["containers"][0].get("env", [])}
    assert not env & {"RAY_enable_autoscaler_v2", "RAY_REDIS_ADDRESS", "REDIS_PASSWORD", "REDIS_USERNAME"}
    assert "gcsFaultToleranceOptions" not in cluster, "it does not save the cluster of a RayJob"
    assert len({group["groupName"] for group in groups}) == len(groups)
    for group in groups:
        assert 0 <= group["minReplicas"] <= group["maxReplicas"]
        assert not group.get("suspend")


@pytest.mark.parametrize(("path", "document"), [(p, d) for p, d in OURS if ray_job(d)])
def test_a_job_keeps_kuberays_rules(path: str, document: dict[str, Any]) -> None:
    job = ray_job(document)
    assert job is not None
    rules = (job.get("deletionStrategy") or {}).get("deletionRules", [])
    shuts_down = job.get("shutdownAfterJobFinishes", False)
    assert shuts_down != bool(rules), "one of the two removes the cluster, and they exclude each other"
    assert shuts_down or not job.get("ttlSecondsAfterFinished")
    for status in {rule["condition"]["jobStatus"] for rule in rules}:
        ttl = {r["policy"]: r["condition"]["ttlSeconds"] for r in rules if r["condition"]["jobStatus"] == status}
        assert ttl["DeleteCluster"] <= ttl["DeleteSelf"]
        assert "DeleteWorkers" not in ttl, "autoscaling forbids it"
    assert job["submissionMode"] in {"K8sJobMode", "SidecarMode"}
    assert "clusterSelector" not in job
    assert job["preRunningDeadlineSeconds"] < job["activeDeadlineSeconds"]
    assert not {key for key in job if key.startswith("entrypointNum")}, "Ray would move the driver off the head"


@pytest.mark.parametrize("path", ["kubernetes/nightly/cronjob.yaml", "kubernetes/raycronjob.yaml"])
def test_a_schedule_has_five_fields_and_its_zone_apart(path: str) -> None:
    spec = read(path)["spec"]
    assert len(spec["schedule"].split()) == 5
    assert "TZ=" not in spec["schedule"]
    assert spec["timeZone"]


@pytest.mark.parametrize(("path", "document"), OURS, ids=NAMES)
def test_a_worker_has_time_to_drain(path: str, document: dict[str, Any]) -> None:
    for group in ray_cluster(document)["workerGroupSpecs"]:
        pod = group["template"]["spec"]
        command = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
        assert command[0] == "rollcall-drain"
        assert int(command[1]) + 20 <= pod["terminationGracePeriodSeconds"]
    assert "infra/drain.sh /usr/local/bin/rollcall-drain" in (ROOT / "infra/Dockerfile").read_text()


@pytest.mark.parametrize(("path", "document"), OURS, ids=NAMES)
def test_only_workers_are_on_spot_nodes_and_the_autoscaler_takes_these_first(
    path: str, document: dict[str, Any]
) -> None:
    cluster = ray_cluster(document)
    kind = "karpenter.sh/capacity-type"
    assert cluster["headGroupSpec"]["template"]["spec"]["nodeSelector"][kind] == "on-demand"
    groups = {group["template"]["spec"]["nodeSelector"][kind]: group for group in cluster["workerGroupSpecs"]}
    assert groups["spot"]["priority"] > groups["on-demand"]["priority"]
    tolerated = {kind: {t["key"] for t in group["template"]["spec"]["tolerations"]} for kind, group in groups.items()}
    assert tolerated == {"on-demand": {"nvidia.com/gpu"}, "spot": {"nvidia.com/gpu", "spot"}}


def test_the_pools_of_the_nightly_run_fit_the_nodes_that_it_starts_with(tmp_path: Path) -> None:
    """Ray 2.60 does not grow pools on an autoscaling cluster (ray#59144), so the nodes must be there."""
    cluster = ray_cluster(read("kubernetes/nightly/rayjob.yaml"))
    file = tmp_path / "rollcall.yaml"
    file.write_text(read("kubernetes/base/config.yaml")["data"]["rollcall.yaml"])
    config = load([file], [], "full").on_device("cuda", "card")
    have = {"cpu": 0.0, "nvidia.com/gpu": 0.0}
    for group in cluster["workerGroupSpecs"]:
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        have = {key: total + group["minReplicas"] * float(limits[key]) for key, total in have.items()}
    pools = resources_of(config, Machine(have["cpu"], have["nvidia.com/gpu"], inf)).values()
    assert sum(pool.min_workers * pool.num_gpus for pool in pools) <= have["nvidia.com/gpu"]
    reduce_cpus = config.run.max_reduces * config.run.reduce_cpus
    assert sum(pool.min_workers * pool.num_cpus for pool in pools) + reduce_cpus <= have["cpu"]


def test_what_the_files_name_is_there() -> None:
    named = {(d["kind"], d["metadata"].get("name")) for _, d in documents() if d["kind"] != "Kustomization"}
    kustomization = read("kubernetes/nightly/kustomization.yaml")
    for generator in kustomization["configMapGenerator"]:
        named.add(("ConfigMap", generator["name"]))
        assert all((KUBERNETES / "nightly" / name).is_file() for name in generator["files"])
    assert all((KUBERNETES / "nightly" / name).is_file() for name in kustomization["resources"])
    pods = [template["spec"] for _, document in OURS for template in templates(document)]
    pods.append(read("kubernetes/nightly/cronjob.yaml")["spec"]["jobTemplate"]["spec"]["template"]["spec"])
    for pod in pods:
        assert ("ServiceAccount", pod["serviceAccountName"]) in named
        maps = {volume["configMap"]["name"] for volume in pod["volumes"] if "configMap" in volume}
        assert {("ConfigMap", name) for name in maps} <= named
        assert {mount["name"] for mount in pod["containers"][0]["volumeMounts"]} == {v["name"] for v in pod["volumes"]}


def test_everything_is_in_one_namespace() -> None:
    for _, document in documents():
        if document["kind"] not in {"Namespace", "Kustomization"}:
            assert document["metadata"]["namespace"] == "rollcall"
        for subject in document.get("subjects", []):
            assert subject["namespace"] == "rollcall", "Kubernetes refuses an account without one"


def test_no_pod_runs_as_root_or_may_become_root() -> None:
    pods = [template["spec"] for _, document in OURS for template in templates(document)]
    pods.append(read("kubernetes/nightly/cronjob.yaml")["spec"]["jobTemplate"]["spec"]["template"]["spec"])
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"]
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False


def test_the_pod_monitor_finds_rays_pods() -> None:
    monitor = read("kubernetes/podmonitor.yaml")["spec"]
    ours = {key: value for key, value in monitor["selector"]["matchLabels"].items() if not key.startswith("ray.io/")}
    for _, document in OURS:
        for template in templates(document):
            assert ours.items() <= template["metadata"]["labels"].items()
            ports = {port["name"] for port in template["spec"]["containers"][0]["ports"]}
            assert {endpoint["port"] for endpoint in monitor["podMetricsEndpoints"]} <= ports


def test_the_pod_of_the_night_may_do_what_it_does_and_no_more() -> None:
    role = next(document for _, document in documents("Role"))
    assert role["rules"] == [{"apiGroups": ["ray.io"], "resources": ["rayjobs"], "verbs": ["create", "get"]}]
    assert read("kubernetes/nightly/cronjob.yaml")["spec"]["concurrencyPolicy"] == "Forbid"
