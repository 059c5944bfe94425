"""The files for Docker, compose, `ray up` and AWS are well-formed, and name what exists."""

import json
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import ray
import typer
import yaml
from jsonschema import Draft7Validator
from ray._private.runtime_env import packaging
from ray.runtime_env import RuntimeEnv

from jobs.process import app
from tests.infra.manifests import INFRA, ROOT, documents, ray_cluster, ray_job, read

TOOLS = Path(sys.executable).parent
MOST_BYTES = 20 << 20
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
COMMAND = re.compile(r"rollcall process (?:[^\n`]|\\\n)+")


def test_hadolint_finds_no_fault_in_the_dockerfile() -> None:
    run = subprocess.run([TOOLS / "hadolint", INFRA / "Dockerfile"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout


def test_the_dockerfile_copies_what_is_there_and_sent() -> None:
    sent = {line[1:] for line in (INFRA / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = set()
    for words in re.findall(r"^COPY (?!--from)(.+) \S+$", (INFRA / "Dockerfile").read_text(), re.MULTILINE):
        copied |= set(words.split())
    assert copied == sent
    assert [name for name in copied if not (ROOT / name).exists()] == []


def test_the_image_is_not_root_and_has_every_package_by_its_hash() -> None:
    text = (INFRA / "Dockerfile").read_text()
    assert re.findall(r"^USER (\S+)$", text, re.MULTILINE) == ["1000:1000"]
    installs = re.findall(r"pip install (.*?)(?: \\)?$", text, re.MULTILINE)
    assert all("--require-hashes" in words or words.endswith(" .") for words in installs)
    assert all("--no-deps" in words for words in installs)


def test_the_image_asks_for_the_part_of_the_driver_that_decodes_videos() -> None:
    (asked,) = re.findall(r"NVIDIA_DRIVER_CAPABILITIES=(\S+)", (INFRA / "Dockerfile").read_text())
    assert {"compute", "video"} <= set(asked.split(","))


def test_the_compose_file_keeps_the_schema() -> None:
    command = [TOOLS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", INFRA / "compose.yaml"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout


def test_compose_opens_its_ports_to_this_machine_only() -> None:
    services = read("compose.yaml")["services"]
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_compose_mounts_files_that_are_there_and_volumes_that_it_declares() -> None:
    compose = read("compose.yaml")
    for service in compose["services"].values():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            assert (INFRA / source).exists() if source.startswith(".") else source in compose["volumes"]
        assert set(service.get("secrets", [])) <= set(compose["secrets"])


def test_every_file_has_the_image_of_this_version() -> None:
    images = [
        group["template"]["spec"]["containers"][0]["image"]
        for _, document in documents("RayCluster", "RayJob", "RayCronJob")
        for group in [ray_cluster(document)["headGroupSpec"], *ray_cluster(document)["workerGroupSpecs"]]
    ]
    cronjob = read("kubernetes/nightly/cronjob.yaml")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    images += [cronjob["containers"][0]["image"], read("ray-cluster-aws.yaml")["docker"]["image"]]
    assert set(images) == {f"registry.example.com/rollcall:{VERSION}-full"}
    assert read("compose.yaml")["services"]["head"]["image"] == f"rollcall:{VERSION}"


def test_ray_up_knows_every_field() -> None:
    schema = json.loads((Path(ray.__file__).parent / "autoscaler/ray-schema.json").read_text())
    cluster = read("ray-cluster-aws.yaml")
    faults = [f"{error.json_path}: {error.message}" for error in Draft7Validator(schema).iter_errors(cluster)]
    assert not faults, "\n".join(faults)
    assert cluster["head_node_type"] in cluster["available_node_types"]
    for name, group in cluster["available_node_types"].items():
        spot = group["node_config"].get("InstanceMarketOptions", {}).get("MarketType") == "spot"
        assert spot == name.endswith("spot")


def test_the_policy_grants_reading_sources_and_writing_only_the_output() -> None:
    policy = json.loads((INFRA / "iam-policy.json").read_text())
    may: dict[str, set[str]] = {}
    for statement in policy["Statement"]:
        assert statement["Effect"] == "Allow"
        for resource in statement["Resource"]:
            may.setdefault(resource, set()).update(statement["Action"])
    assert may["arn:aws:s3:::example-sources/archive/*"] == {"s3:GetObject"}
    writers = [resource for resource, actions in may.items() if actions & {"s3:PutObject", "s3:DeleteObject"}]
    assert writers == ["arn:aws:s3:::example-results/archive/*"]
    job = read("kubernetes/nightly/rayjob.yaml")["spec"]
    assert "s3://example-sources/archive/ " in job["entrypoint"]
    assert "--output s3://example-results/archive " in job["entrypoint"]


def runtime_envs() -> list[Any]:
    jobs = [ray_job(document) for _, document in documents("RayJob", "RayCronJob")]
    return [read("runtime-env.yaml"), *(yaml.safe_load(job["runtimeEnvYAML"]) for job in jobs if job)]


@pytest.mark.parametrize("environment", runtime_envs())
def test_a_job_has_time_to_end_cleanly(environment: dict[str, Any]) -> None:
    env_vars = RuntimeEnv(**environment)["env_vars"]
    assert int(env_vars["RAY_JOB_STOP_WAIT_TIME_S"]) >= 30
    supervisor = Path(ray.__file__).parent / "dashboard/modules/job/job_supervisor.py"
    assert "RAY_JOB_STOP_WAIT_TIME_S" in supervisor.read_text()


def commands() -> list[str]:
    """Return every command line of the program in these files."""
    jobs = [ray_job(document) for _, document in documents("RayJob", "RayCronJob")]
    texts = [job["entrypoint"] for job in jobs if job]
    texts += COMMAND.findall((INFRA.parent / "docs" / "cluster.md").read_text())
    return [text.replace("\\\n", " ") for text in texts]


def test_the_commands_have_options_that_exist() -> None:
    known = {name for parameter in typer.main.get_command(app).params for name in parameter.opts}
    used = {word for command in commands() for word in command.split() if word.startswith("--")}
    assert "--output" in used
    assert used <= known


def test_a_quarantined_video_does_not_fail_the_night() -> None:
    for _, document in documents("RayJob", "RayCronJob"):
        job = ray_job(document)
        assert job is not None
        assert "--allow-quarantined" in job["entrypoint"].split()


def package(folder: Path, target: Path) -> list[str]:
    """Pack a working directory as `ray job submit` does. Return the names of its files."""
    packaging.create_package(str(folder), target, include_gitignore=True)
    with zipfile.ZipFile(target) as archive:
        return [name for name in archive.namelist() if not name.endswith("/")]


def test_a_working_directory_has_the_program_and_its_models_and_nothing_else(tmp_path: Path) -> None:
    names = package(ROOT, tmp_path / "package.zip")
    assert (tmp_path / "package.zip").stat().st_size < MOST_BYTES
    assert {"jobs/process.py", "conf/base.yaml", "weights/starter-person.safetensors"} <= set(names)
    folders = {name.split("/")[0] for name in names if "/" in name}
    assert not folders & {"docs", "infra", "out", "tests"}
    assert not [name for name in names if any(part.startswith(".") for part in name.split("/"))]


def test_secrets_and_outputs_stay_here(tmp_path: Path) -> None:
    folder = tmp_path / "repository"
    for name in (".env", ".env.local", "infra/.env", "out/a.parquet", ".git/config", ".venv/bin/python", "jobs/a.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    (folder / ".rayignore").write_text((ROOT / ".rayignore").read_text())
    names = package(folder, tmp_path / "package.zip")
    assert names == ["jobs/a.py"]
