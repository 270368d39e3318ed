"""``cron list``, ``run``, ``enable`` and ``disable``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli import output
from app.cli.completion import complete_schedule
from app.cli.options import DataDir, Json
from app.cli.render.tables import terminal_width
from app.cli.runner import run_operation
from app.cli.selection import Reason
from workers.words import plural

if TYPE_CHECKING:
    from app.servers.database_startup import DatabaseUse
    from workers.operations.operations import Operations

commands = typer.Typer(rich_markup_mode=None)

Name = Annotated[
    str,
    typer.Argument(
        metavar="SCHEDULE", help="Of a schedule, for instance weather.", autocompletion=complete_schedule
    ),
]


@commands.command("list")
def list_schedules(data_dir: DataDir = None, as_json: Json = False) -> None:
    """Schedules with next, last and missed runs, and who disabled them."""
    from app.cli.render.cron import schedules_text

    async def run(operations: Operations) -> int:
        schedules = await operations.schedules.list()
        if as_json:
            output.print_json(output.page(schedules, None))
        else:
            output.print_text(schedules_text(schedules, width=terminal_width()))
        return 0

    run_operation(data_dir, run, database="optional")


@commands.command("run")
def run_schedule(name: Name, reason: Reason = "", data_dir: DataDir = None, as_json: Json = False) -> None:
    """Enqueue the jobs of a schedule now; its own runs come as before."""

    async def change(operations: Operations) -> tuple[str, dict[str, Any]]:
        run = await operations.schedules.run(name, reason)
        waiting = run.jobs - run.enqueued
        already_queued = f"; {waiting} are queued already" if waiting else ""
        return f"{name}: {plural(run.enqueued, 'job')} enqueued on {run.queue}{already_queued}", asdict(run)

    _run_change(data_dir, change, as_json=as_json, database="required")


@commands.command("enable")
def enable(name: Name, reason: Reason = "", data_dir: DataDir = None, as_json: Json = False) -> None:
    """Let a schedule run again, in every process, from its next occurrence on."""

    async def change(operations: Operations) -> tuple[str, dict[str, Any]]:
        changed = await operations.schedules.enable(name, reason)
        text = f"{name} runs again" if changed else f"{name} was not disabled"
        return text, {"schedule": name, "enabled": True, "changed": changed}

    _run_change(data_dir, change, as_json=as_json)


@commands.command("disable")
def disable(name: Name, reason: Reason = "", data_dir: DataDir = None, as_json: Json = False) -> None:
    """Let a schedule enqueue nothing, in any process, until it is enabled."""

    async def change(operations: Operations) -> tuple[str, dict[str, Any]]:
        changed = await operations.schedules.disable(name, reason)
        done = f"{name} is disabled: nothing is enqueued until couturecast-tui cron enable {name}"
        text = done if changed else f"{name} was disabled already"
        return text, {"schedule": name, "enabled": False, "changed": changed}

    _run_change(data_dir, change, as_json=as_json)


def _run_change(
    data_dir: Path | None,
    change: Callable[[Operations], Awaitable[tuple[str, dict[str, Any]]]],
    *,
    as_json: bool,
    database: DatabaseUse = "optional",
) -> None:
    async def run(operations: Operations) -> int:
        text, document = await change(operations)
        output.print_result(text, document, as_json=as_json)
        return 0

    run_operation(data_dir, run, database=database)
