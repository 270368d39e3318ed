"""The first letter of a group is an event, written with the letter."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from sqlalchemy import exists, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.database.events import NewEvent
from storage.database.tables import ARCHIVED_LETTERS, LETTERS

_MAX_QUERY_FINGERPRINTS = 100
"""Fingerprints of one query."""


async def find_new_groups(connection: AsyncConnection, fingerprints: Collection[str]) -> set[str]:
    """Return the fingerprints that no letter has yet; each costs one step in an index."""
    ordered = sorted(fingerprints)
    new: set[str] = set()
    for start in range(0, len(ordered), _MAX_QUERY_FINGERPRINTS):
        batch = ordered[start : start + _MAX_QUERY_FINGERPRINTS]
        columns = [
            or_(
                *(exists(select(t.c.id).where(t.c.fingerprint == name)) for t in (LETTERS, ARCHIVED_LETTERS))
            ).label(f"known_{number}")
            for number, name in enumerate(batch)
        ]
        flags = (await connection.execute(select(*columns))).one()
        new |= {name for name, is_known in zip(batch, flags, strict=True) if not is_known}
    return new


def new_group_events(
    rows: Sequence[dict[str, Any]], recorded: Collection[str], new_groups: Collection[str]
) -> Iterator[NewEvent]:
    """Yield an event for the first row of each new group, of the rows whose uids were ``recorded``."""
    seen: set[str] = set()
    for row in rows:
        fingerprint = row["fingerprint"]
        if fingerprint not in new_groups or fingerprint in seen or row["uid"] not in recorded:
            continue
        seen.add(fingerprint)
        yield NewEvent(
            "new-group",
            f"first dead letter of a new group: {row['function']}: {row['error_type']}: "
            f"{row['error_message']}",
            queue=row["queue_name"],
            subject=fingerprint,
            detail={name: row[name] for name in ("function", "error_type", "job_id", "release")},
            dedupe=f"new-group:{fingerprint}",
            at=row["failed_at"],
        )
