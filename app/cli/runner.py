"""What all commands share: the options that each has, and how one verb is carried out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import structlog
import typer

from app import logs
from app.cli import commands
from app.environment import environment
from app.process.interrupts import raise_on_interrupt
from app.settings import Settings, load, unknown_variables

if TYPE_CHECKING:
    from app.process.composition import Appliance
    from app.servers.database_startup import DatabaseUse
    from workers.engine.policy import QueuePolicy

log = structlog.get_logger(__name__)


def _data_dir(context: typer.Context, value: Path | None) -> Path | None:
    """The option may stand before the command as well as after it."""
    return value or context.find_root().params.get("data_dir")


DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        help="Where the embedded servers keep their data.",
        metavar="DIR",
        callback=_data_dir,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, and nothing else there.")]


def configured(data_dir: Path | None, **flags: Any) -> tuple[Settings, dict[str, QueuePolicy]]:
    """The settings, with the log as they want it.  Raises UsageError."""
    settings, policies = load(data_dir=data_dir, **flags)
    logs.configure(settings.log_level)
    for line in unknown_variables(environment()):
        log.warning(line)
    return settings, policies


def act(
    data_dir: Path | None, verb: Callable[[Appliance], Awaitable[int]], *, database: DatabaseUse = "required"
) -> NoReturn:
    """Carry out one verb and exit; errors of the layers below become one line.

    With ``database`` optional a verb that needs Redis alone is carried out while the database is unavailable.
    """
    settings, policies = configured(data_dir)
    from app.process.composition import open_appliance

    async def carry_out() -> int:
        async with open_appliance(settings, policies, database=database) as each:
            return await commands.told(verb(each))

    raise_on_interrupt()
    raise typer.Exit(asyncio.run(carry_out()))
