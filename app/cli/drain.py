"""``drain``, and what it shares with ``workers drain``: request it, wait, print how far it is."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli import output
from app.cli.arguments import WORKER_HELP
from app.cli.completion import complete_worker
from app.cli.options import DataDir, Json
from app.cli.progress import interrupt_signals
from app.cli.runner import run_operation
from app.errors import CommandInterruptedError, UsageError
from storage.asyncio_tools import cancel_and_wait

if TYPE_CHECKING:
    from workers.operations.operations import Operations
    from workers.operations.workers import DrainResult

commands = typer.Typer(rich_markup_mode=None)

_REQUEUED_EXIT_CODE = 3
"""Exit code of a drain after which jobs were requeued."""
_MAX_WAIT_SECONDS = 86_400.0

All = Annotated[bool, typer.Option("--all", help="Every process of the cluster.")]
Wait = Annotated[
    float,
    typer.Option(
        "--wait",
        help="Wait up to so many seconds for its end; exits with 3 if jobs were requeued.",
        metavar="SECONDS",
        min=0,
        max=_MAX_WAIT_SECONDS,
    ),
]

Drain = Callable[["Operations"], Awaitable[Sequence["DrainResult"]]]
"""Requests the drain of some processes."""


@commands.command("drain")
def drain(
    worker: Annotated[
        str | None,
        typer.Option(
            "--worker",
            help=WORKER_HELP,
            metavar="ID",
            autocompletion=complete_worker,
        ),
    ] = None,
    every: All = False,
    wait: Wait = 0.0,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Drain the process of this data directory, another one, or all; it does not ask.

    Running jobs finish and nothing new starts; what does not end in time goes back to the head of its queue,
    no attempt charged.  No job is deleted.
    """
    if worker is not None and every:
        raise UsageError("--worker and --all exclude each other: remove one")
    names = [] if every else [worker] if worker is not None else _names_of_own_processes(data_dir)
    run_operation(
        data_dir,
        lambda operations: drain_and_print(operations, drainer(names), wait, as_json=as_json),
        database="optional",
    )


def drainer(names: Sequence[str], *, now: bool = False) -> Drain:
    """Drain the processes of these names; without names, all.

    With ``now`` their jobs are requeued at once.
    """

    async def request(operations: Operations) -> Sequence[DrainResult]:
        if not names:
            return await operations.workers.drain_all()
        return [await operations.workers.drain(name, now=now) for name in names]

    return request


async def drain_and_print(operations: Operations, request: Drain, wait: float, *, as_json: bool) -> int:
    """Drain, wait for the end, print how far each is; 3 if jobs were returned, 1 if a drain has a problem."""
    from app.cli.render.workers import results_text

    results = await request(operations)
    if wait and results:
        if not as_json:
            output.print_note(results_text(results))
        results = await _wait(operations, results, wait)
    output.print_result(results_text(results), output.page(results, None), as_json=as_json)
    if any(result.put_back for result in results):
        return _REQUEUED_EXIT_CODE
    failed = any(result.problem or (wait and result.state != "drained") for result in results)
    return 1 if failed or not results else 0


async def _wait(
    operations: Operations, results: Sequence[DrainResult], seconds: float
) -> Sequence[DrainResult]:
    """Raises CommandInterruptedError after a signal: the drain goes on."""
    with interrupt_signals() as interrupted:
        waiting = asyncio.ensure_future(operations.workers.wait(results, seconds))
        either: set[asyncio.Future[Any]] = {waiting, interrupted}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                raise CommandInterruptedError(
                    "interrupted: the drain goes on, couturecast-tui workers list shows it",
                    exit_code=128 + interrupted.result(),
                )
            return waiting.result()
        finally:
            await cancel_and_wait([waiting])


def _names_of_own_processes(data_dir: Path | None) -> list[str]:
    """Return ``host:pid`` of what runs in the data directory.  Raises UsageError if nothing does."""
    from app.cli.settings import load_settings
    from app.running import running_processes

    settings, _ = load_settings(data_dir)
    processes = running_processes(settings.data_dir)
    if not processes:
        raise UsageError(
            f"no process runs in {settings.data_dir}", fix="name one with --worker ID, or give --all"
        )
    return [f"{socket.gethostname()}:{process.pid}" for process in processes]
