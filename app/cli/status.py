"""``status``: what the overview shows, once, or again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from app.cli import output
from app.cli.options import DataDir, Json
from app.cli.runner import run_operation
from app.errors import UsageError

if TYPE_CHECKING:
    from workers.operations.operations import Operations

commands = typer.Typer(rich_markup_mode=None)

_INTERVAL_SECONDS = 2.0


@commands.command()
def status(
    watch: Annotated[bool, typer.Option("--watch", help="Show it again and again, until ctrl-C.")] = False,
    interval: Annotated[
        float | None,
        typer.Option("--interval", help="Seconds between two of --watch, 2 without it.", min=0.2, max=3600),
    ] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """All that the overview shows, as tables; --watch repeats it.

    It exits with 1 if a server is unavailable.  With --watch it exits with 0 at ctrl-C; while Redis does not
    answer, the last figures stay, with their age.  Without a terminal --watch prints one block after the
    other, with --json one document a line.
    """
    if interval is not None and not watch:
        raise UsageError("--interval goes with --watch: add it, or drop --interval")

    async def run(operations: Operations) -> int:
        if not watch:
            return await _show(operations, as_json=as_json)
        from app.cli.watch import watch_status

        return await watch_status(operations, interval or _INTERVAL_SECONDS, as_json=as_json)

    run_operation(data_dir, run, database="optional")


async def _show(operations: Operations, *, as_json: bool) -> int:
    """Show the state; return 1 if a server is unavailable."""
    from app.cli.overview import with_details
    from app.cli.render.status import Overview, status_document, status_text

    await operations.ping()
    snapshot = await operations.snapshot()
    if as_json:
        output.print_json(status_document(snapshot))
    else:
        output.write(f"{status_text(await with_details(operations, Overview(snapshot)))}\n")
    errors = [snapshot.database.error, *(redis.error for redis in snapshot.redises)]
    return 0 if all(error is None for error in errors) else 1
