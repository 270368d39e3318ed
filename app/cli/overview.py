"""Reads what ``status`` shows besides the snapshot: groups of dead letters, and events."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from app.cli.render.status import MAX_EVENTS, MAX_GROUPS, Overview
from workers.operations.operations import ALL_EVENTS, OPERATION_ERRORS, LetterFilter, Operations

_DATABASE_SECONDS = 1.0
"""While a status waits for a busy database, it shows nothing of the queues."""


async def with_details(operations: Operations, overview: Overview) -> Overview:
    """Return the overview with groups and events, if the database answers in time."""
    if overview.snapshot.database.error is not None:
        return overview
    day = LetterFilter(since=datetime.now(UTC) - timedelta(days=1))
    try:
        async with asyncio.timeout(_DATABASE_SECONDS):
            groups = await operations.dead_letters.groups(day, limit=MAX_GROUPS)
            events = await operations.events.page(ALL_EVENTS, limit=MAX_EVENTS)
    except (TimeoutError, *OPERATION_ERRORS):
        return overview
    return replace(overview, groups=groups, events=events.items)
