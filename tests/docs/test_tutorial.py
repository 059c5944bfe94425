"""The notebook docs/tutorial.ipynb runs, and shows what it makes."""

from pathlib import Path

import nbformat

from tests.builders import Film, Walker, publish
from tests.docs.notebook import NOTEBOOK, execute


def test_the_notebook_runs_on_an_output_of_the_name_of_the_demo(tmp_path: Path) -> None:
    film = Film(4.0, [Walker(0, 4, x=20, look=1, age=30.0), Walker(1, 3, x=400, look=2)], cuts=[2.0])
    publish(film, [], str(tmp_path / "out" / "demo"), video_id="demo")
    (tmp_path / "docs").mkdir()
    notebook = execute(tmp_path / "docs")
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs for cell in code)
    assert [output for cell in code for output in cell.outputs if output.output_type == "stream"] == []
    assert code[0].outputs[0]["data"]["text/plain"] == "['demo.mp4']"
    assert sum("image/png" in output.get("data", {}) for cell in code for output in cell.outputs) == 2


def test_the_notebook_shows_its_outputs_and_no_path_of_a_machine() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(cell.outputs for cell in notebook.cells if cell.cell_type == "code")
    for place in ("/home/", "/root/", "/Users/", "/tmp/"):
        assert place not in NOTEBOOK.read_text()
