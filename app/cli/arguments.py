"""Arguments that several groups of commands have, with their completion."""

from __future__ import annotations

from typing import Annotated

import typer

from app.cli.completion import complete_queue, complete_worker

Queue = Annotated[
    str,
    typer.Argument(
        metavar="QUEUE",
        help="Name of a queue, for instance color-extraction.",
        autocompletion=complete_queue,
    ),
]
WORKER_HELP = "Id, its beginning, or host:pid, as workers list shows them."
Worker = Annotated[str, typer.Argument(metavar="ID", help=WORKER_HELP, autocompletion=complete_worker)]
