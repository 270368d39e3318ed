"""Options that several groups of commands have, and those of the program itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def _find_data_dir(context: typer.Context, value: Path | None) -> Path | None:
    """Find the option, before the command as well as after it."""
    return value or context.find_root().params.get("data_dir")


DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        help="Where the embedded servers keep their data.",
        metavar="DIR",
        callback=_find_data_dir,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, and nothing else there.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would change, and change nothing.")]
Reveal = Annotated[
    bool, typer.Option("--reveal", help="Show secrets too, whose fields COUTURECAST_SECRET_FIELDS names.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]

NoUi = Annotated[bool, typer.Option("--no-ui", help="Workers only; prints `ready` when it takes jobs.")]
NoWorkers = Annotated[
    bool, typer.Option("--no-workers", help="Dashboard only, on the cluster that REDIS_URL names.")
]
Demo = Annotated[bool, typer.Option("--demo", help="Feed sample jobs, some of which fail.")]
Queues = Annotated[
    str | None, typer.Option("--queues", help="A subset of the queues to work on.", metavar="A,B")
]
Http = Annotated[
    str | None,
    typer.Option("--http", help="Address of HTTP; the default is 127.0.0.1:8020.", metavar="HOST:PORT"),
]
NoHttp = Annotated[bool, typer.Option("--no-http", help="Serve no HTTP.")]
Reload = Annotated[
    bool, typer.Option("--reload", help="Replace handler processes when the team's code changes.")
]
Processes = Annotated[
    int | None,
    typer.Option(
        "--processes",
        help="Worker processes on this machine, watched, restarted and drained together.",
        metavar="N",
        min=1,
        max=64,
    ),
]
UntilEof = Annotated[bool, typer.Option("--until-eof", hidden=True)]
Browser = Annotated[str | None, typer.Option("--browser", hidden=True)]
Version = Annotated[bool, typer.Option("--version", help="Print the version and exit.")]
