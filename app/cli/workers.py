"""``workers …``: list the processes of the cluster, drain them, read their logs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from app.cli import output
from app.cli.arguments import WORKER_HELP, Worker
from app.cli.bulk import confirm, require_answer
from app.cli.completion import complete_queue, complete_worker
from app.cli.drain import All, Wait, drain_and_print, drainer
from app.cli.options import DataDir, Json, Yes
from app.cli.render.tables import terminal_width
from app.cli.runner import run_operation
from app.errors import UsageError
from workers.errors import ReadOnlyError

if TYPE_CHECKING:
    from workers.operations.operations import Operations

commands = typer.Typer(rich_markup_mode=None)


@commands.command("list")
def list_workers(data_dir: DataDir = None, as_json: Json = False) -> None:
    """Every process of the cluster: jobs, CPU, memory, event loop, and whether it takes jobs."""

    async def run(operations: Operations) -> int:
        from app.cli.render.workers import workers_text

        workers = await operations.workers.list()
        if as_json:
            output.print_json(output.page(workers, None))
        else:
            output.print_text(workers_text(workers, width=terminal_width()))
        return 0

    run_operation(data_dir, run, database="optional")


@commands.command("logs")
def show_log(
    worker: Worker,
    queue: Annotated[
        str | None, typer.Option("--queue", help="Of one queue.", autocompletion=complete_queue)
    ] = None,
    job: Annotated[str | None, typer.Option("--job", help="Of one job.", metavar="KEY")] = None,
    limit: Annotated[int, typer.Option("--limit", help="Lines.", min=1, max=500)] = 50,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """The newest lines of a process' log, the oldest of them first.

    The process is asked for them; 1 if it does not answer.
    """

    async def run(operations: Operations) -> int:
        from app.cli.render.workers import log_text

        lines = (await operations.workers.log(worker, queue=queue, job=job))[-limit:]
        if as_json:
            output.print_json(output.page(lines, None))
        else:
            output.print_text(log_text(lines))
        return 0

    run_operation(data_dir, run, database="optional")


@commands.command("drain")
def drain_worker(
    worker: Annotated[
        str | None,
        typer.Argument(
            metavar="[ID]",
            help=WORKER_HELP,
            autocompletion=complete_worker,
        ),
    ] = None,
    every: All = False,
    undo: Annotated[bool, typer.Option("--undo", help="Let it take jobs again, until it has ended.")] = False,
    now: Annotated[
        bool, typer.Option("--now", help="Return its jobs to their queues at once: they do not finish.")
    ] = False,
    wait: Wait = 0.0,
    yes: Yes = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Let processes finish what runs, and end; --undo lets one take jobs again.

    No job is deleted: what does not end in time goes back to the head of its queue, no attempt charged.
    """
    if (worker is None) == (not every):
        raise UsageError("name a worker, or give --all")
    if undo and (every or wait or now):
        raise UsageError("--undo takes one worker, and neither --all, --wait nor --now")
    if now and every:
        raise UsageError("--now takes one worker, and not --all")
    if not (undo or yes):
        require_answer(fix="give --yes")

    async def run(operations: Operations) -> int:
        if undo and worker is not None:
            return await _undo(operations, worker, as_json=as_json)
        if not yes:
            await _confirm_drain(operations, worker, now=now)
        names = [] if worker is None else [worker]
        return await drain_and_print(operations, drainer(names, now=now), wait, as_json=as_json)

    run_operation(data_dir, run, database="optional")


async def _undo(operations: Operations, worker: str, *, as_json: bool) -> int:
    from app.cli.render.workers import results_text

    results = [await operations.workers.undo_drain(worker)]
    output.print_result(results_text(results), output.page(results, None), as_json=as_json)
    return 1 if results[0].problem else 0


async def _confirm_drain(operations: Operations, worker: str | None, *, now: bool) -> None:
    """Raises AppError if the answer is no."""
    from app.cli.render.workers import question_text
    from workers.operations.worker_list import find_worker

    if operations.read_only:
        raise ReadOnlyError("drain")
    workers = await operations.workers.list()
    selected = [find_worker(workers, worker)] if worker is not None else workers
    live_workers = [candidate for candidate in selected if candidate.state != "dead"]
    output.print_note(question_text(live_workers, now=now))
    confirm("drain?")
