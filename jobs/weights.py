"""`rollcall weights`: list the models, show where their files lie, and fetch, check and copy them."""

from collections.abc import Iterator
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn
from rich.table import Table

from jobs.cli.errors import run_command
from jobs.cli.help import PLAIN
from jobs.cli.options import STARTER, ConfigFiles, Profile, Settings
from pipeline.config import Config, load
from pipeline.errors import UserError
from pipeline.storage.blobs import fetch
from pipeline.storage.store import Store
from pipeline.weights import Registry, sha256_of

app = typer.Typer(help="The registry of model weights.", no_args_is_help=True, **PLAIN)

Names = Annotated[list[str] | None, typer.Argument(help="Registry entries; without any, what the configuration uses.")]
All = Annotated[bool, typer.Option("--all", help="Every entry of the registry.")]

PLAIN_WIDTH = 2000  # columns without a terminal, so that no path in a log or a pipe is folded


@app.command("list")
def list_weights(config: ConfigFiles = None, settings: Settings = None, profile: Profile = STARTER) -> None:
    """Show every entry: kind, licence, how its bytes are known, where they lie. * marks what the configuration uses."""
    checked, registry = _open(config, settings, profile)
    used = set(registry.models_of(checked).values())
    table = Table("", "name", "kind", "licence", "sha256", "here", box=None, pad_edge=False)
    for name, entry in sorted(registry.entries.items()):
        if entry.parts:
            table.add_row(
                "*" if used >= set(registry.leaves(name)) else "",
                name,
                entry.kind,
                "",
                ", ".join(entry.parts.values()),
                "",
            )
            continue
        here = registry.here(name)
        known = "known" if entry.sha256 else "pinned" if registry.sha256(name) else "at first pull"
        table.add_row("*" if name in used else "", name, entry.kind, entry.licence, known, str(here or "no"))
    _console().print(table)


@app.command()
def pull(
    names: Names = None,
    every: All = False,
    config: ConfigFiles = None,
    settings: Settings = None,
    profile: Profile = STARTER,
) -> None:
    """Fetch and verify weights."""
    checked, registry = _open(config, settings, profile, progress := _progress())
    with progress:
        files = registry.pull(_chosen(registry, checked, names, every))
    for name, path in files.items():
        how = "" if registry.entries[name].sha256 else " (nobody has published it: pinned)"
        typer.echo(f"{name}: {path}, sha256 {registry.sha256(name)}{how}")


@app.command()
def verify(
    names: Names = None,
    every: All = False,
    config: ConfigFiles = None,
    settings: Settings = None,
    profile: Profile = STARTER,
) -> None:
    """Check the files that are here against their sha256. Status 1 if one is missing or has other bytes."""
    checked, registry = _open(config, settings, profile)
    sound = True
    for name in _leaves(registry, _chosen(registry, checked, names, every)):
        path, expected = registry.here(name), registry.sha256(name)
        state = "missing" if path is None else "verified" if sha256_of(path) == expected else "other bytes"
        if state == "other bytes" and expected is None:
            state = f"no sha256 known: `rollcall weights pull {name}` pins it"
        # With --all, a missing file is no error.
        sound = sound and (state == "verified" or (every and state == "missing"))
        typer.echo(f"{name}: {state}{f', {path}' if path else ''}")
    if not sound:
        raise typer.Exit(1)


@app.command()
def mirror(
    target: Annotated[str, typer.Argument(help="A folder or s3://…, for weights.mirror on machines without internet.")],
    names: Names = None,
    every: All = False,
    config: ConfigFiles = None,
    settings: Settings = None,
    profile: Profile = STARTER,
) -> None:
    """Copy verified weights to a folder or bucket that clusters without internet read."""
    checked, registry = _open(config, settings, profile, progress := _progress())
    place = Store(target)
    chosen = _chosen(registry, checked, names, every)
    with progress:
        held = registry.copy_to(place, chosen)
    for name in _leaves(registry, chosen):
        typer.echo(
            f"{name}: {place.full(registry.sha256(name) or '') if name in held else 'left out, it is a local file'}"
        )
    if held:
        typer.echo(f"{len(held)} files; use them with --set weights.mirror={place.uri}")
    else:
        typer.echo("nothing to copy: all of these are local files, and are read where they lie")


def _open(
    config: ConfigFiles, settings: Settings, profile: Profile, progress: Progress | None = None
) -> tuple[Config, Registry]:
    """Return the configuration and its registry, whose downloads `progress` shows."""
    checked = load(config or [], settings or [], profile)

    def shown(uri: str) -> Iterator[bytes]:
        assert progress is not None
        task: TaskID = progress.add_task(uri.rsplit("/", 1)[-1], total=None)
        for block in fetch(uri):
            progress.advance(task, len(block))
            yield block

    return checked, Registry.of(checked, shown if progress else fetch)


def _chosen(registry: Registry, config: Config, names: list[str] | None, every: bool) -> list[str]:
    if names and every:
        raise UserError("--all and names exclude each other; leave one out")
    if every:
        return list(registry.entries)
    return names or list(registry.models_of(config).values())


def _leaves(registry: Registry, names: list[str]) -> list[str]:
    return list(dict.fromkeys(leaf for name in names for leaf in registry.leaves(name)))


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=PLAIN_WIDTH)


def _progress() -> Progress:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


if __name__ == "__main__":
    run_command(app)
