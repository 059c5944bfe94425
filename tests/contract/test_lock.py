"""requirements.lock gives the same packages on every Python that Rollcall runs on."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[2]
PYTHONS = ("3.11", "3.12")
PIXELS_NUMBERS_FILES = (
    *("av", "boxmot", "facenet-pytorch", "facexlib", "fsspec", "gfpgan", "h5py", "imageio", "numpy", "onnxruntime"),
    *(
        "opencv-contrib-python-headless",
        "pandas",
        "pillow",
        "pillow-heif",
        "pyarrow",
        "ray",
        "retina-face",
        "s3fs",
        "safetensors",
    ),
    *("scenedetect", "scikit-image", "scikit-learn", "scipy", "tifffile", "torch", "torchvision", "ultralytics"),
)


def locked(python: str) -> dict[str, str]:
    """Return the version of each package that `make setup` installs on Linux."""
    machine = {"python_version": python, "python_full_version": f"{python}.9", "implementation_name": "cpython"}
    machine |= {"sys_platform": "linux", "os_name": "posix", "platform_machine": "x86_64", "platform_system": "Linux"}
    machine |= {"platform_python_implementation": "CPython"}
    return {
        requirement.name: str(requirement.specifier)
        for requirement in requirements()
        if requirement.marker is None or requirement.marker.evaluate(machine)
    }


def requirements() -> Iterator[Requirement]:
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        if re.match(r"[A-Za-z0-9]", line):
            yield Requirement(line.removesuffix("\\").strip())


def test_every_python_gets_one_version_of_what_touches_pixels_numbers_and_files() -> None:
    packages = [locked(python) for python in PYTHONS]
    differing = {name: versions for name in packages[0] if len(set(versions := [p.get(name) for p in packages])) > 1}
    assert not {name for name in PIXELS_NUMBERS_FILES if name in differing}, differing


@pytest.mark.parametrize("name", PIXELS_NUMBERS_FILES)
def test_what_must_not_differ_is_in_the_lock(name: str) -> None:
    assert name in locked(PYTHONS[0])


def test_the_pythons_of_the_lock_are_those_of_the_project() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    promised = re.search(r'^requires-python = "(.*?)"', text, re.MULTILINE)
    assert promised is not None
    assert [f"3.{minor}" for minor in range(8, 20) if f"3.{minor}.0" in SpecifierSet(promised[1])] == list(PYTHONS)


def pins(path: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / path).read_text(), re.MULTILINE))


def test_the_container_has_the_versions_of_the_lock() -> None:
    everything, container = pins("requirements.lock"), pins("infra/requirements.lock")
    assert {name: version for name, version in container.items() if everything.get(name) != version} == {}


def test_the_container_has_what_the_project_depends_on_and_no_tool_for_development() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    container = pins("infra/requirements.lock")
    assert {Requirement(line).name for line in project["dependencies"]} <= set(container)
    assert not {"pytest", "moto", "pyright", "selenium", "ruff"} & set(container)
