"""``handlers``: imports a team's own handlers where they will run, and finds the package for their tests."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from app.cli import output
from app.cli.options import DataDir, Json

if TYPE_CHECKING:
    from app.settings import Settings
    from workers.engine.policy import QueuePolicy

commands = typer.Typer(rich_markup_mode=None)


@commands.callback()
def group() -> None:
    """A team's own handlers."""


@commands.command()
def check(data_dir: DataDir = None, as_json: Json = False) -> None:
    """Import the functions of COUTURECAST_HANDLERS where they will run; 1 if one cannot be used."""
    from app.cli.settings import load_settings
    from app.process.interrupts import raise_on_interrupt

    settings, policies = load_settings(data_dir)
    raise_on_interrupt()
    checked = asyncio.run(_check(settings, policies))
    if as_json:
        output.print_json({"items": checked, "next": None})
    else:
        output.print_text("\n".join(map(_line, checked)))
    raise typer.Exit(1 if any(handler["problem"] for handler in checked) else 0)


@commands.command()
def package() -> None:
    """Print the folder of couturecast_handlers, for a copy beside a team's own tests."""
    import couturecast_handlers

    output.print_text(os.path.dirname(os.path.abspath(couturecast_handlers.__file__)))


async def _check(settings: Settings, policies: Mapping[str, QueuePolicy]) -> list[dict[str, Any]]:
    """Check the handlers; return one entry for each queue."""
    from app.custom_handlers import custom_handlers, find_handler
    from app.errors import UsageError

    names, checked = custom_handlers(settings, policies), []
    for queue, policy in policies.items():
        entry: dict[str, Any] = {"queue": queue, "handler": names.get(queue), "run": None, "problem": None}
        if queue in names:
            entry["run"] = policy.run
            try:
                entry |= asdict(await find_handler(policy, names[queue], settings))
            except UsageError as error:
                entry |= {"problem": error.problem, "fix": error.fix}
        checked.append(entry)
    return checked


def _line(handler: Mapping[str, Any]) -> str:
    begin = f"{handler['queue']:<18} "
    if handler["handler"] is None:
        return f"{begin}built-in"
    if handler["problem"]:
        fix = handler["fix"] or "correct COUTURECAST_HANDLERS, or the module"
        return f"{begin}fails: {handler['problem']}: {fix}"
    kind = "async def" if handler["is_async"] else "def"
    where = "inline" if handler["run"] == "inline" else "in a process"
    return (
        f"{begin}{kind} {handler['handler']}{handler['signature']}, {where}, "
        f"Python {handler['python']} ({handler['executable']}), {handler['place']}"
    )
