"""`rollcall config`: the effective configuration, its checks, and its schema."""

import json
import re
from collections.abc import Mapping
from typing import Any

import typer

from jobs.cli.errors import run_command
from jobs.cli.help import PLAIN
from jobs.cli.options import STARTER, ConfigFiles, Profile, Settings
from jobs.shared.checks import check_tracking, checked_models, decide_device
from pipeline.config import CONF, Config, cluster_address, flatten, layers, load

app = typer.Typer(help="The effective configuration.", no_args_is_help=True, **PLAIN)

KNOB = re.compile(r"^(?P<indent> *)(?P<key>\w+):[^#]*?(?: +# *(?P<comment>.*))?$")


@app.command()
def show(config: ConfigFiles = None, settings: Settings = None, profile: Profile = STARTER) -> None:
    """Print every knob with its value, and which layer gave it if that was not conf/base.yaml."""
    plain = load(config or [], settings or [], profile).plain()
    base, *over = layers(config or [], settings or [], profile)
    sources = {key: where for where, tree in over for key, _ in flatten(tree)}
    typer.echo(f"# {base[0]} unless a line says otherwise")
    _print_tree(plain, sources)


@app.command()
def validate(config: ConfigFiles = None, settings: Settings = None, profile: Profile = STARTER) -> None:
    """Check a configuration as `process` would: keys, values, models, licences, and the device if no cluster has it.
    Fetches nothing, and loads only models from ONNX files and packages."""
    checked = load(config or [], settings or [], profile)
    registry, models = checked_models(checked)
    for role, name in models.items():
        absent = "" if registry.here(name) else "; not here yet, `process` fetches it"
        typer.echo(f"{role}: {name} ({registry.entry(name).licence}){absent}")
    check_tracking(checked)
    if not cluster_address(checked):
        typer.echo(f"device: {decide_device(checked).compute.device}")
    typer.echo("the configuration is valid")


@app.command()
def schema() -> None:
    """Print the JSON schema of the configuration, with the default and the meaning of every knob."""
    typer.echo(json.dumps(described_schema(), indent=2))


def knob_comments() -> dict[str, tuple[str, str]]:
    """Return the comments of conf/base.yaml: dotted key -> (`result` or `run`, unit and meaning)."""
    comments: dict[str, tuple[str, str]] = {}
    path: list[tuple[int, str]] = []
    for match in filter(None, map(KNOB.match, (CONF / "base.yaml").read_text().splitlines())):
        depth = len(match["indent"])
        path = [*(step for step in path if step[0] < depth), (depth, match["key"])]
        kind, _, text = (match["comment"] or "").partition(" ")
        if kind in ("result", "run"):
            comments[".".join(key for _, key in path)] = (kind, text.strip())
    return comments


def described_schema() -> dict[str, Any]:
    """Return the JSON schema of the configuration, with descriptions and defaults from conf/base.yaml."""
    tree = Config.model_json_schema()
    defaults = load().plain()
    for dotted, (kind, text) in knob_comments().items():
        node, value = tree, defaults
        for part in dotted.split("."):
            node = tree["$defs"][node["$ref"].rsplit("/", 1)[1]] if "$ref" in node else node
            node, value = node["properties"][part], value[part]
        node["description"] = text if kind == "result" else f"{text} (changes no row)"
        node["default"] = value
    return tree


def _print_tree(tree: Mapping[str, Any], sources: Mapping[str, str], above: tuple[str, ...] = ()) -> None:
    for key, value in tree.items():
        path = (*above, key)
        indent = "  " * len(above)
        if isinstance(value, Mapping) and value:
            typer.echo(f"{indent}{key}:")
            _print_tree(value, sources, path)
        else:
            where = sources.get(".".join(path))
            # JSON is valid YAML, so it reads the same there.
            typer.echo(f"{indent}{key}: {json.dumps(value, ensure_ascii=False)}{f'  # {where}' if where else ''}")


if __name__ == "__main__":
    run_command(app)
