"""Lineages: a letter whose job was a replay continues the lineage of the letter that was replayed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Select, and_, func, or_, select, union_all, update
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.database.tables import ARCHIVED_LETTERS, LETTERS, ReplayRow
from storage.dead_letters.records import ReplayOutcome


def place_in_lineages(
    rows: Sequence[dict[str, Any]], origins: Mapping[int, Any]
) -> tuple[list[dict[str, Any]], list[ReplayOutcome]]:
    """Return new rows with their root and number of deaths, and the replays that ended with them.

    ``origins`` are rows, by id, of the letters that were replayed.
    """
    new_rows, outcomes = [], []
    for row in rows:
        columns = {name: value for name, value in row.items() if name != "replay_item"}
        origin = origins.get(row["replay_of"])
        if origin is None:
            new_rows.append(columns | {"root_id": None, "deaths": 1})
            continue
        same = origin.fingerprint == row["fingerprint"]
        deaths = origin.deaths + 1 if same else 1
        new_rows.append(columns | {"root_id": origin.root_id or origin.id, "deaths": deaths})
        outcomes.append(ReplayOutcome(origin.id, row["replay_item"], "same" if same else "other"))
    return new_rows, outcomes


async def fetch_origins(connection: AsyncConnection, rows: Sequence[dict[str, Any]]) -> Mapping[int, Any]:
    """Return the letters, by id, whose replays these rows are."""
    origins = {row["replay_of"] for row in rows} - {None}
    if not origins:
        return {}
    parts = [
        select(t.c.id, t.c.root_id, t.c.fingerprint, t.c.deaths).where(t.c.id.in_(origins))
        for t in (LETTERS, ARCHIVED_LETTERS)
    ]
    return {row.id: row for row in await connection.execute(union_all(*parts))}


async def mark_replayed(connection: AsyncConnection, letter_ids: Sequence[int] | Select[Any]) -> set[int]:
    """Set the state of letters whose jobs were enqueued, whatever it was; returns those that it changed."""
    now = datetime.now(UTC)
    marked_ids: set[int] = set()
    for table in (LETTERS, ARCHIVED_LETTERS):
        c = table.c
        change = update(table).where(c.id.in_(letter_ids), c.state != "replayed").returning(c.id)
        values = {"state": "replayed", "replay_count": c.replay_count + 1, "replayed_at": now}
        marked_ids |= set((await connection.execute(change.values(values))).scalars())
    return marked_ids


async def finish_replays(connection: AsyncConnection, outcomes: Sequence[ReplayOutcome]) -> None:
    """Write the ends of replays to their plans.

    A process that was killed between enqueueing and writing leaves its item ``waiting``, and that one is
    ended too.  Items of other plans that wait for the same letter are not: they had no part in it.
    """
    if not outcomes:
        return
    await mark_replayed(connection, [outcome.letter_id for outcome in outcomes])
    now = datetime.now(UTC)
    for ending in sorted({outcome.ending for outcome in outcomes}):
        letters = [outcome.letter_id for outcome in outcomes if outcome.ending == ending]
        items = [outcome.item_id for outcome in outcomes if outcome.ending == ending]
        interrupted = and_(ReplayRow.id.in_(items), ReplayRow.state == "waiting")
        change = update(ReplayRow).where(
            ReplayRow.letter_id.in_(letters), or_(ReplayRow.state == "enqueued", interrupted)
        )
        enqueued_at = func.coalesce(ReplayRow.enqueued_at, now)
        await connection.execute(change.values(state=ending, enqueued_at=enqueued_at, ended_at=now))
