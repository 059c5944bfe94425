"""Rules on which room may import what. A line that breaks a rule is in the wrong file."""

import ast
from importlib import import_module
from pathlib import Path

import pytest

from jobs import main

ROOT = Path(__file__).parents[2]
LIBRARIES = {
    "ray": {
        "pipeline/flow/cluster.py",
        "pipeline/flow/ray_engine.py",
        "pipeline/flow/ray_feed.py",
        "pipeline/flow/ray_metrics.py",
        "pipeline/flow/ray_nodes.py",
        "jobs/benchmarks/ray_recipe.py",  # the usual way of using it, for comparison
    },
    "torch": {"pipeline/models", "pipeline/training", "pipeline/evaluation"},
    "torchvision": {"pipeline/models", "pipeline/training"},
    "ultralytics": {"pipeline/models", "pipeline/training", "pipeline/evaluation"},
    "boxmot": {"pipeline/models", "pipeline/training"},
    "facexlib": {"pipeline/models"},
    "facenet_pytorch": {"pipeline/models"},
    "retinaface": {"pipeline/models"},
    "gfpgan": {"pipeline/models"},
    "basicsr": {"pipeline/models"},
    "h5py": {"pipeline/models"},
    "onnxruntime": {"pipeline/models"},
    "timm": {"pipeline/models"},
    "cv2": {
        "pipeline/media",
        "pipeline/models",
        "pipeline/corpora",
        "pipeline/training",
        "pipeline/evaluation",
        "jobs/benchmarks/decoders.py",  # compares it with ours
        "jobs/benchmarks/made_videos.py",
    },
    "trackeval": {"pipeline/evaluation"},
    "imagehash": {"pipeline/corpora"},
    "matplotlib": {"pipeline/evaluation/plots.py", "rollcall"},
    "xlsxwriter": {"pipeline/exports"},
    "flask": {"jobs/reviewing"},
    "jinja2": {"pipeline/report/page.py"},
    "markupsafe": {"pipeline/report/page.py"},
    "vl_convert": {"pipeline/report/library.py"},
    "PIL": {"pipeline/media", "pipeline/corpora", "rollcall"},
    "pillow_heif": {"pipeline/media"},
    "av": {"pipeline/media", "jobs/benchmarks/decoders.py", "jobs/benchmarks/made_videos.py"},
    "torchcodec": {"jobs/benchmarks/decoders.py"},
    "scenedetect": {"pipeline/media"},
    "fsspec": {"pipeline/storage"},
    "s3fs": {"pipeline/storage"},
    "pydantic": {"pipeline/config.py"},
    "yaml": {"pipeline/config.py", "pipeline/weights"},
    "typer": {"jobs"},
    "rich": {"jobs"},
}
ROOMS = {
    "pipeline.flow": {"pipeline/flow", "jobs"},
    "pipeline.chunk": {"pipeline/chunk", "pipeline/flow", "jobs"},
    "pipeline.video": {"pipeline/video", "pipeline/flow", "jobs"},
    "pipeline.planning": {"pipeline/planning", "pipeline/video", "pipeline/flow", "jobs"},
    "pipeline.models": {
        "pipeline/models",
        "pipeline/training",
        "pipeline/evaluation",
        "pipeline/chunk",
        "pipeline/video",
        "pipeline/flow",
        "jobs",
    },
    "pipeline.training": {"pipeline/training", "jobs"},
    "pipeline.evaluation": {"pipeline/evaluation", "pipeline/training", "jobs"},
    "pipeline.exports": {"pipeline/exports", "jobs"},
    "pipeline.corpora": {"pipeline/corpora", "pipeline/training", "pipeline/evaluation", "jobs"},
    "pipeline.report": {"pipeline/report", "jobs"},
    "pipeline.storage": {
        "pipeline/storage",
        "pipeline/planning",
        "pipeline/chunk/commit.py",
        "pipeline/chunk/read_faces.py",
        "pipeline/exports",
        "pipeline/video",
        "pipeline/flow",
        "jobs",
        "rollcall",
    },
    "pipeline.media": {
        "pipeline/media",
        "pipeline/planning",
        "pipeline/chunk",
        "pipeline/exports",
        "pipeline/video",
        "pipeline/models",
        "pipeline/corpora",
        "jobs",
    },
    "jobs": {"jobs"},
    "rollcall": {"rollcall"},
}
CORES_MAY = {"numpy", "scipy", "annotated_types", "pipeline"}


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


@pytest.mark.parametrize(
    "path",
    sorted(path for package in ("pipeline", "jobs", "rollcall") for path in ROOT.glob(f"{package}/**/*.py")),
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_every_import_is_in_its_room(path: Path) -> None:
    here = path.relative_to(ROOT).as_posix()
    for name in imports(path):
        for library, rooms in (LIBRARIES | ROOMS).items():
            if name == library or name.startswith(f"{library}."):
                assert any(here.startswith(room) for room in rooms), f"{here} may not import {name}"


@pytest.mark.parametrize("path", sorted(ROOT.glob("pipeline/cores/**/*.py")), ids=lambda path: path.name)
def test_cores_know_numbers_and_nothing_else(path: Path) -> None:
    import sys

    for name in imports(path):
        top = name.split(".")[0]
        assert top in CORES_MAY | sys.stdlib_module_names, f"cores/{path.name} may not import {name}"
        if top == "pipeline":
            assert name.startswith(("pipeline.cores", "pipeline.arrays", "pipeline.boxes", "pipeline.errors"))


def command_modules() -> set[str]:
    """Return the modules that are commands: those that jobs/main.py names, and those of its groups."""
    modules: set[str] = set()
    for package in ("jobs.main", *(f"jobs.{name}" for name in main.COMMANDS if (ROOT / "jobs" / name).is_dir())):
        above = package.removesuffix(".main")
        modules |= {f"{above}.{name}" for name in import_module(package).COMMANDS}
    return modules


@pytest.mark.parametrize("path", sorted(ROOT.glob("jobs/**/*.py")), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_module_imports_a_command(path: Path) -> None:
    here = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            named = {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)} - {here}
            assert not named & command_modules(), f"{here} may not import a command; move what it needs to jobs/shared"
