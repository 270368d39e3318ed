"""Options that several groups of commands have."""

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
