"""``events``: what happened, and with ``--follow`` what happens."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli import output
from app.cli.completion import complete_event_kind, complete_queue
from app.cli.options import DataDir, Json
from app.cli.progress import interrupt_signals, unless_interrupted
from app.cli.render.events import event_lines, events_text
from app.cli.render.tables import terminal_width
from app.cli.runner import run_operation
from app.errors import UsageError
from storage.errors import InvalidFilterError, StorageError

if TYPE_CHECKING:
    from storage.repositories.events import Event, EventFilter
    from workers.operations.operations import Operations

commands = typer.Typer(rich_markup_mode=None)

_POLL_SECONDS = 2.0
_FIRST_EVENTS = 10
"""Events before those that follow, by default."""


@commands.command("events")
def list_events(
    since: Annotated[
        str | None, typer.Option("--since", help="Then or later: 1h, 7d, 2026-03-01T12:00.", metavar="TIME")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", help="Before.", metavar="TIME")] = None,
    kind: Annotated[
        str | None, typer.Option("--kind", help="Of one kind.", autocompletion=complete_event_kind)
    ] = None,
    queue: Annotated[
        str | None, typer.Option("--queue", help="Of one queue.", autocompletion=complete_queue)
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", help="Rows, 50 without it.", min=1, max=1000)
    ] = None,
    cursor: Annotated[str | None, typer.Option("--cursor", help="`next` of the page before.")] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Print the newest, then each as it happens, until ctrl-C.")
    ] = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Events, the newest first; --follow prints new ones as they happen.

    Deploys, drains, pauses, replays, alerts, new groups, lost workers: see docs/events.md.  With --follow
    the oldest comes first, and --json prints one document a line.
    """
    if follow and (cursor is not None or until is not None):
        raise UsageError("--follow goes on from now: remove --cursor and --until")
    event_filter = _event_filter(since=since, until=until, kind=kind, queue=queue)

    if follow:
        first = limit or (_FIRST_EVENTS if since is None else 1_000)
        run_operation(
            data_dir,
            lambda running: _follow(running, event_filter, first, as_json=as_json),
            redis="optional",
        )
    run_operation(
        data_dir,
        lambda running: _list(running, event_filter, limit or 50, cursor, as_json=as_json),
        redis="optional",
    )


def _event_filter(**conditions: str | None) -> EventFilter:
    from storage.repositories.events import EventFilter

    try:
        return EventFilter.from_options(**conditions)
    except InvalidFilterError as error:
        raise UsageError(error.problem, field=f"--{error.field}", fix=error.fix) from None


async def _list(
    operations: Operations, event_filter: EventFilter, limit: int, cursor: str | None, *, as_json: bool
) -> int:
    page = await operations.events.page(event_filter, limit=limit, cursor=cursor)
    if as_json:
        output.print_json(output.page(page.items, page.next))
        return 0
    output.print_text(events_text(page.items, width=terminal_width()))
    output.print_page_note(page.next)
    return 0


async def _follow(operations: Operations, event_filter: EventFilter, first: int, *, as_json: bool) -> int:
    """Print events until a signal ends it; an outage of the database is reported, and ends."""
    follower = operations.events.follow(event_filter)
    is_unavailable = False
    with interrupt_signals() as interrupted:
        events = await unless_interrupted(follower.start(first), interrupted) or []
        while not interrupted.done():
            _print_events(events, as_json=as_json)
            await asyncio.wait({interrupted}, timeout=_POLL_SECONDS)
            try:
                events = await unless_interrupted(follower.poll(), interrupted) or []
            except StorageError as error:
                if not is_unavailable:
                    output.print_note(f"events wait for the database: {error}")
                is_unavailable, events = True, []
                continue
            if is_unavailable and not interrupted.done():
                output.print_note("the database answers again")
                is_unavailable = False
    return 0


def _print_events(events: Sequence[Event], *, as_json: bool) -> None:
    if as_json:
        for event in events:
            output.print_json_line(asdict(event))
    elif events:
        output.print_text(event_lines(events))
