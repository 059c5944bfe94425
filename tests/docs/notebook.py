"""docs/tutorial.ipynb with its outputs. After `make demo`, `python -m tests.docs.notebook` runs it and writes them."""

import os
import tempfile
from importlib import import_module
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from traitlets.config import Config

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs" / "tutorial.ipynb"


def execute(folder: Path) -> NotebookNode:
    """Run the cells of the notebook in a folder beside `out`, and return it with its outputs. Raises
    CellExecutionError if a cell fails."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    with tempfile.TemporaryDirectory() as home:
        own = {name: home for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR")}
        import_module("matplotlib.font_manager")  # makes its list of fonts, which it would announce in the notebook
        environment = os.environ | own | {"PYTHONPATH": str(ROOT)}
        without_ports = Config(KernelManager={"transport": "ipc", "connection_file": f"{home}/kernel.json"})
        place = {"metadata": {"path": str(folder)}}
        client = NotebookClient(notebook, config=without_ports, timeout=600, resources=place, record_timing=False)
        client.startup_timeout = 600
        client.execute(env=environment)
    notebook.metadata.pop("language_info", None)
    return notebook


if __name__ == "__main__":
    nbformat.write(execute(NOTEBOOK.parent), NOTEBOOK)
