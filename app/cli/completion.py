"""Values that the shell completes: names of queues and states, and ids from the database."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import typer

from workers.engine.policy import DEFAULT_POLICIES

LETTER_STATES = ("dead", "replayed", "discarded", "all")
ITEM_STATES = ("waiting", "enqueued", "completed", "same", "other", "aborted", "skipped")
"""States of a plan's letters: the fields of a `Ledger`."""
ENVIRONMENTS = ("dev", "staging", "prod")
"""Those that have databases at Upstash."""
EXPORT_FORMATS = ("jsonl", "markdown")
_DATABASE_SECONDS = 1.0
_MAX_IDS = 30

Completions = list[str | tuple[str, str]]
"""Values, some with a description."""


def complete_queue() -> Completions:
    """The names of the queues."""
    return [*DEFAULT_POLICIES]


def complete_letter_state() -> Completions:
    """The states of dead letters."""
    return [*LETTER_STATES]


def complete_item_state() -> Completions:
    """The states of a plan's letters."""
    return [*ITEM_STATES]


def complete_format() -> Completions:
    """The formats of an export."""
    return [*EXPORT_FORMATS]


def complete_environment() -> Completions:
    """The environments at Upstash."""
    return [*ENVIRONMENTS]


def complete_letter(context: typer.Context) -> Completions:
    """The ids of the newest letters, whatever their state."""
    return _from_database(context, lambda database: _letters(database, None))


def complete_dead_letter(context: typer.Context) -> Completions:
    """The ids of the newest letters that are dead."""
    return _from_database(context, lambda database: _letters(database, "dead"))


def complete_discarded_letter(context: typer.Context) -> Completions:
    """The ids of the newest letters that are discarded."""
    return _from_database(context, lambda database: _letters(database, "discarded"))


def complete_plan(context: typer.Context) -> Completions:
    """The ids of the newest plans."""
    return _from_database(context, _plans)


def _from_database(context: typer.Context, query: Callable[[Any], Awaitable[Completions]]) -> Completions:
    """The result of a query; nothing if it fails.  Ends the process if it takes too long.

    Nothing is created, migrated or printed: the operator has only pressed TAB.
    """
    from app.process.shutdown import exit_at_once

    logging.disable(logging.CRITICAL)
    data_dir = context.params.get("data_dir") or context.find_root().params.get("data_dir")
    completions: Completions = []

    def run() -> None:
        with suppress(Exception):
            completions.extend(asyncio.run(_query(data_dir, query)))

    # A name server that does not answer blocks a thread, which the interpreter would wait for.
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(_DATABASE_SECONDS)
    if thread.is_alive():
        exit_at_once(0)
    return completions


async def _query(data_dir: Any, query: Callable[[Any], Awaitable[Completions]]) -> Completions:
    from app.servers.database_startup import existing_database
    from app.settings import read

    settings, _ = read(data_dir=data_dir)
    database = existing_database(settings)
    if database is None:
        return []
    try:
        return await query(database)
    finally:
        await database.close()


async def _letters(database: Any, state: Any) -> Completions:
    from storage.dead_letters.filters import LetterFilter
    from storage.dead_letters.repository import DeadLetterRepository

    page = await DeadLetterRepository(database).page(LetterFilter(state=state), limit=_MAX_IDS)
    return [(str(letter.id), f"{letter.queue_name} {letter.error_type}") for letter in page.items]


async def _plans(database: Any) -> Completions:
    from storage.dead_letters.plans import PlanRepository

    plans = await PlanRepository(database).newest(_MAX_IDS)
    return [(str(plan.id), f"{plan.state}, {plan.total} letters") for plan in plans]
