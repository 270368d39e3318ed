"""The first death of a group, whatever became of that letter since."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import Table, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.dead_letters.filters import STATES


async def fetch_first_deaths(
    connection: AsyncConnection, table: Table, samples: Sequence[int]
) -> Mapping[str, datetime]:
    """Return by fingerprint when the first letter of a group in ``table`` died, in any state.

    ``samples`` has the id of one letter of each group, at most 1,000.  Each state is one step in the index of
    groups, however many letters it has.
    """
    c, sample = table.c, table.alias("sample")
    firsts = (
        select(func.min(c.failed_at))
        .where(c.state == state, c.fingerprint == sample.c.fingerprint)
        .scalar_subquery()
        for state in STATES
    )
    query = select(sample.c.fingerprint, *firsts).where(sample.c.id.in_(samples))
    return {
        fingerprint: min(at for at in times if at is not None)
        for fingerprint, *times in await connection.execute(query)
    }
