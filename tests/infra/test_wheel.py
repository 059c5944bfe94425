"""The wheel has everything that the program reads: a container installs it without the repository."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("pipeline", "jobs", "rollcall", "conf", "weights", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the contents of the wheel, which is built from a copy: setuptools writes into its source."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, source / name)
    build = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", build, str(target)], cwd=source, check=True, capture_output=True)
    with zipfile.ZipFile(next(target.glob("*.whl"))) as wheel:
        wheel.extractall(target / "unpacked")
    return target / "unpacked"


def test_the_wheel_has_the_configuration_the_weights_and_the_page(unpacked: Path) -> None:
    for folder, pattern in (("conf", "*.yaml"), ("weights", "*"), ("jobs/reviewing", "*.html"), ("rollcall", "*.*")):
        names = sorted(path.name for path in (ROOT / folder).glob(pattern))
        assert sorted(path.name for path in (unpacked / folder).glob(pattern)) == names


def test_the_program_of_the_wheel_finds_its_models(unpacked: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "jobs.main", "weights", "verify", "--profile", "starter"],
        cwd=unpacked,
        env=os.environ | {"PYTHONPATH": str(unpacked)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
