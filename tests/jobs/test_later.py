import subprocess
import sys

import pytest

from jobs import evaluate, train
from jobs.later import _load


@pytest.mark.parametrize("group", [train, evaluate], ids=lambda group: group.__name__)
def test_help_tells_of_every_command_without_importing_it(group: object) -> None:
    name = getattr(group, "__name__", "")
    code = (
        "import sys; from typer.testing import CliRunner; "
        f"from {name} import app; print(CliRunner().invoke(app, ['--help']).output); print('torch' in sys.modules)"
    )
    *told, has_torch = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert has_torch == "False"
    assert set(getattr(group, "COMMANDS", ())) <= set(told)


@pytest.mark.parametrize("package", [train, evaluate], ids=lambda group: group.__name__)
def test_every_command_is_there(package: object) -> None:
    for name in getattr(package, "COMMANDS", ()):
        assert _load(getattr(package, "__name__", ""), name).name == name
