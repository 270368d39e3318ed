"""``alerts list``, ``ack``, ``silence``, ``unsilence`` and ``history``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli import output
from app.cli.completion import complete_alert, complete_queue
from app.cli.options import DataDir, Json
from app.cli.render.tables import terminal_width
from app.cli.runner import run_operation
from app.cli.values import check_choice, duration_seconds
from app.errors import UsageError

if TYPE_CHECKING:
    from workers.operations.operations import Operations

commands = typer.Typer(rich_markup_mode=None)

_NAME_HELP = "Name of an alert, for instance backlog."
OptionalName = Annotated[
    str | None, typer.Argument(metavar="NAME", help=_NAME_HELP, autocompletion=complete_alert)
]
Queue = Annotated[str | None, typer.Option("--queue", help="Of one queue.", autocompletion=complete_queue)]
All = Annotated[bool, typer.Option("--all", help="Alerts of every name and queue.")]


@commands.command("list")
def list_alerts(data_dir: DataDir = None, as_json: Json = False) -> None:
    """Alerts that are pending, fire, are acknowledged or silenced, the worst first; the silences."""
    from app.cli.render.alerts import alerts_text, silences_text

    async def run(operations: Operations) -> int:
        from workers.operations.alerts import current_alerts

        snapshot = await operations.snapshot()
        alerts = current_alerts(snapshot)
        if as_json:
            output.print_json(output.page(alerts, None))
        else:
            output.print_text(alerts_text(alerts, width=terminal_width()))
            if snapshot.database.error is None and (silences := await operations.alerts.silences()):
                output.print_text(silences_text(silences))
        if snapshot.database.error is not None:
            output.print_note("the database does not answer: what operators have decided is not shown")
        return 0

    run_operation(data_dir, run, database="optional")


@commands.command("ack")
def acknowledge(
    name: Annotated[str, typer.Argument(metavar="NAME", help=_NAME_HELP, autocompletion=complete_alert)],
    queue: Queue = None,
    reason: Annotated[str, typer.Option("--reason", help="For the record.", metavar="TEXT")] = "",
    data_dir: DataDir = None,
) -> None:
    """Mark alerts that fire as seen, until they are resolved; 1 if none of that name fires."""
    _check_name(name)

    async def run(operations: Operations) -> int:
        from app.cli.render.alerts import describe_selection

        records = await operations.alerts.acknowledge(name, queue, reason)
        subjects = [name if record.queue == "" else f"{name} of {record.queue}" for record in records]
        _print_done(
            f"acknowledged: {', '.join(dict.fromkeys(subjects))}"
            if records
            else f"{describe_selection(name, queue)} is acknowledged already"
        )
        return 0

    run_operation(data_dir, run, redis="optional")


@commands.command("silence")
def silence(
    name: OptionalName = None,
    queue: Queue = None,
    all_: All = False,
    for_: Annotated[
        str | None, typer.Option("--for", help="How long: 30m, 1h, 2d; at most 30d.", metavar="TIME")
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Shown with the alert.", metavar="TEXT")] = "",
    data_dir: DataDir = None,
) -> None:
    """For a time, let alerts notify nobody and not count in the health."""
    _check_selection(name, queue, all_=all_)
    if for_ is None:
        raise UsageError("is missing", field="--for", fix="name a time, for instance --for 1h")
    seconds = duration_seconds(for_, "--for")
    if not reason.strip():
        raise UsageError("is missing", field="--reason", fix="give the reason, for instance 'CDN is down'")

    async def change(operations: Operations) -> str:
        from app.cli.render.alerts import describe_selection
        from tui.text.format import local_time
        from tui.text.words import DATE_TIME_ZONE

        until = await operations.alerts.silence(name, queue, seconds, reason)
        return f"{describe_selection(name, queue)}: silent until {local_time(until, DATE_TIME_ZONE)}"

    _run_change(data_dir, change)


@commands.command("unsilence")
def unsilence(
    name: OptionalName = None, queue: Queue = None, all_: All = False, data_dir: DataDir = None
) -> None:
    """End the silences of exactly this alert and queue."""
    _check_selection(name, queue, all_=all_)

    async def change(operations: Operations) -> str:
        from app.cli.render.alerts import describe_selection

        if await operations.alerts.end_silence(name, queue):
            return f"{describe_selection(name, queue)}: no longer silent"
        others = [describe_selection(one.alert, one.queue) for one in await operations.alerts.silences()]
        silenced = f"; silenced: {', '.join(others)}" if others else ""
        return f"{describe_selection(name, queue)}: there was no silence{silenced}"

    _run_change(data_dir, change)


@commands.command("history")
def history(
    limit: Annotated[int, typer.Option("--limit", help="Rows.", min=1, max=1000)] = 50,
    cursor: Annotated[str | None, typer.Option("--cursor", help="`next` of the page before.")] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Alerts that fired, the newest first, with how long each lasted."""
    from app.cli.render.alerts import history_text

    async def run(operations: Operations) -> int:
        page = await operations.alerts.history(limit=limit, cursor=cursor)
        if as_json:
            output.print_json(output.page(page.items, page.next))
            return 0
        output.print_text(history_text(page.items, width=terminal_width()))
        output.print_page_note(page.next)
        return 0

    run_operation(data_dir, run, redis="optional")


def _run_change(data_dir: Path | None, change: Callable[[Operations], Awaitable[str]]) -> None:
    """Make a change and print the line that it returns."""

    async def run(operations: Operations) -> int:
        _print_done(await change(operations))
        return 0

    run_operation(data_dir, run, redis="optional")


def _print_done(text: str) -> None:
    output.print_result(text, {}, as_json=False)


def _check_name(name: str) -> None:
    from workers.monitoring.alert_rules import BY_NAME

    check_choice(name, BY_NAME.keys(), "NAME")


def _check_selection(name: str | None, queue: str | None, *, all_: bool) -> None:
    if name is None and queue is None and not all_:
        raise UsageError("name an alert, a queue by --queue, or --all")
    if all_ and (name is not None or queue is not None):
        raise UsageError("--all means every name and queue: drop it, or NAME and --queue")
    if name is not None:
        _check_name(name)
