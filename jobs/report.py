"""`rollcall report`: the results of an output as one page for people."""

from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer

from jobs.cli.console import say
from jobs.cli.errors import run_command
from jobs.cli.help import PLAIN
from jobs.shared.reporting import write_report
from pipeline.cores.groups import NEAREST_ADIENCE, parse_age_groups
from pipeline.errors import UserError
from pipeline.report.inputs import ReportOptions
from pipeline.storage.store import Store

app = typer.Typer(**PLAIN)


@app.command()
def report(
    uri: Annotated[str, typer.Argument(help="The output of `process`.", show_default=False)],
    output: Annotated[
        str | None, typer.Option("--output", help="Write index.html to this folder or prefix instead.", metavar="URI")
    ] = None,
    min_group: Annotated[
        int, typer.Option("--min-group", help="Hide smaller groups of people in summaries; 1: hide none.", min=1)
    ] = 5,
    age_groups: Annotated[
        str | None,
        typer.Option(
            "--age-groups",
            help="Age groups of the summaries, as 0-12,13-17,18-64,65+. Default: the eight groups of Adience.",
            metavar="GROUPS",
        ),
    ] = None,
    time_zone: Annotated[
        str, typer.Option("--time-zone", help="Time zone of days and hours, as Europe/Berlin.", metavar="NAME")
    ] = "UTC",
    summary_only: Annotated[
        bool, typer.Option("--summary-only", help="Leave out everything that describes single persons.")
    ] = False,
) -> None:
    """Write the results as one HTML page, URI/report/index.html, which needs no network: people by age and gender, by
    day and hour, each video with its persons, what failed, fairness, cost and models."""
    try:
        zone = ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise UserError(
            f"--time-zone: there is no time zone {time_zone!r}; give one as Europe/Berlin or UTC"
        ) from error
    groups = NEAREST_ADIENCE if age_groups is None else parse_age_groups(age_groups)
    options = ReportOptions(zone, time_zone, min_group, groups, summary_only)
    say(write_report(uri, options, None if output is None else Store(output)))


if __name__ == "__main__":
    run_command(app)
