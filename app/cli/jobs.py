"""``jobs list``, ``show`` and ``why``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli import output
from app.cli.completion import JOB_STATES, complete_job_state, complete_queue
from app.cli.options import DataDir, Json
from app.cli.render.tables import terminal_width
from app.cli.runner import run_operation
from app.cli.values import check_choice

if TYPE_CHECKING:
    from workers.operations.operations import Operations

commands = typer.Typer(rich_markup_mode=None)

Queue = Annotated[
    str,
    typer.Argument(
        metavar="QUEUE",
        help="Name of a queue, for instance color-extraction.",
        autocompletion=complete_queue,
    ),
]
Key = Annotated[str, typer.Argument(metavar="KEY", help="Of a job.")]


@commands.command("list")
def list_jobs(
    queue: Annotated[
        str | None, typer.Option("--queue", help="Of one queue.", autocompletion=complete_queue)
    ] = None,
    state: Annotated[
        str | None,
        typer.Option(
            "--state",
            help="running, ready, scheduled, done or failed; without it the first three.",
            autocompletion=complete_job_state,
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", help="Rows.", min=1, max=200)] = 50,
    cursor: Annotated[str | None, typer.Option("--cursor", help="`next` of the page before.")] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Jobs by state: those that run, are ready or scheduled; with --state those that ended, too."""
    from app.cli.render.jobs import jobs_text

    if state is not None:
        check_choice(state, JOB_STATES, "--state")

    async def run(operations: Operations) -> int:
        page = await operations.jobs.page(queue, state, limit=limit, cursor=cursor)  # type: ignore[arg-type]
        if as_json:
            output.print_json(output.page(page.items, page.next))
            return 0
        output.print_text(jobs_text(page.items, width=terminal_width()))
        output.print_page_note(page.next)
        return 0

    run_operation(data_dir, run, database="optional")


@commands.command("show")
def show_job(queue: Queue, key: Key, data_dir: DataDir = None, as_json: Json = False) -> None:
    """One job: payload, result, every attempt's error, and why it does not run."""
    from app.cli.render.jobs import job_text

    async def run(operations: Operations) -> int:
        job = await operations.jobs.get(queue, key)
        if as_json:
            output.print_json(asdict(job))
        else:
            output.print_text(job_text(job))
        return 0

    run_operation(data_dir, run, database="optional")


@commands.command("why")
def why(
    queue: Queue,
    key: Annotated[str | None, typer.Argument(metavar="[KEY]", help="Of a job.")] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Why a job does not run, or why a queue starts nothing more, in one sentence."""

    async def run(operations: Operations) -> int:
        answer = await operations.jobs.why(queue, key)
        if as_json:
            output.print_json({"queue": queue, "key": key, **asdict(answer)})
        else:
            output.print_text(answer.sentence)
        return 0

    run_operation(data_dir, run, database="optional")
