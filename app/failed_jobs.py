"""``failed-jobs``: the command line of the dead letters."""

from __future__ import annotations

from typing import Annotated

import typer

from app import commands
from app.acting import DataDir, Json, act
from app.errors import UsageError

failed_jobs = typer.Typer(rich_markup_mode=None, help="Dead letters: list, show, replay.")


@failed_jobs.command("list")
def list_failed(
    queue: Annotated[str | None, typer.Option("--queue", help="Of one queue only.")] = None,
    state: Annotated[str, typer.Option("--state", help="dead, replayed, discarded or all.")] = "dead",
    limit: Annotated[int, typer.Option("--limit", help="Rows.", min=1, max=1000)] = 50,
    cursor: Annotated[str | None, typer.Option("--cursor", help="`next` of the page before.")] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Dead letters, the newest first."""
    if state not in ("dead", "replayed", "discarded", "all"):
        raise UsageError(f"--state: {state!r} is none: use dead, replayed, discarded or all")
    chosen = None if state == "all" else state
    act(
        data_dir,
        lambda each: commands.list_letters(
            each.operations, queue=queue, state=chosen, limit=limit, cursor=cursor, as_json=as_json
        ),
    )


@failed_jobs.command("show")
def show_failed(
    letter_id: Annotated[int, typer.Argument(metavar="ID")], data_dir: DataDir = None, as_json: Json = False
) -> None:
    """One dead letter with its payload and the traceback of every attempt."""
    act(data_dir, lambda each: commands.show_letter(each.operations, letter_id, as_json=as_json))


@failed_jobs.command("replay")
def replay_failed(
    letter_ids: Annotated[list[int], typer.Argument(metavar="ID…")],
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Enqueue dead letters again."""
    act(data_dir, lambda each: commands.replay(each.operations, letter_ids, as_json=as_json))
