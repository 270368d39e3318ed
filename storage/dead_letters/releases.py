"""The releases in which the letters of a group died."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.dead_letters.records import MAX_RELEASES

_MAX_READ = 200
"""Releases of one group that are read, from the last of the alphabet on."""


async def fetch_releases(
    connection: AsyncConnection, table: Table, samples: Sequence[int]
) -> Mapping[str, tuple[str, ...]]:
    """Return by fingerprint the releases of a group in ``table``, that of its newest letter first.

    ``samples`` has the id of one letter of each group, at most 1,000.  A release takes two steps in the index
    of fingerprint, release and id, however many letters it has.
    """
    newest: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for fingerprint, release, letter_id in await connection.execute(_select_releases(table, samples)):
        newest[fingerprint].append((letter_id, release))
    return {
        fingerprint: tuple(release for _, release in sorted(releases, reverse=True)[:MAX_RELEASES])
        for fingerprint, releases in newest.items()
    }


def _select_releases(table: Table, samples: Sequence[int]) -> Select[Any]:
    """Select fingerprint, release, and the id of the newest letter of each release.

    Starting with the last release of the alphabet, each row of the recursion finds the one before it.
    """
    c, sample = table.c, table.alias("sample")
    first = select(
        sample.c.fingerprint,
        _last_release(c, sample.c.fingerprint).label("release"),
        literal(1).label("number"),
    ).where(sample.c.id.in_(samples))
    chain = first.cte("found", recursive=True)
    after = chain.alias("after")
    before = _last_release(c, after.c.fingerprint, c.release < after.c.release)
    chain = chain.union_all(
        select(after.c.fingerprint, before, after.c.number + 1).where(
            after.c.release.is_not(None), after.c.number < _MAX_READ
        )
    )
    newest = (
        select(c.id)
        .where(c.fingerprint == chain.c.fingerprint, c.release == chain.c.release)
        .order_by(c.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    return select(chain.c.fingerprint, chain.c.release, newest).where(chain.c.release.is_not(None))


def _last_release(c: Any, fingerprint: Any, *conditions: ColumnElement[bool]) -> Any:
    query = select(c.release).where(c.fingerprint == fingerprint, c.release.is_not(None), *conditions)
    return query.order_by(c.release.desc()).limit(1).scalar_subquery()
