"""What the commands on the cache do and print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from app import output
from app.cli.dead_letters_commands import How, agreed, refuse, told, width
from app.cli.render.cache import entries_text, entry_text, listed, stats_text
from tui.text.words import plural
from workers.errors import NotFoundError
from workers.operations.cache import glob_pattern
from workers.operations.operations import CacheOperations, Operations


async def list_entries(
    operations: Operations, written: str, *, limit: int, cursor: str | None, as_json: bool
) -> int:
    """Print a page of entries."""
    page = await operations.cache.page(glob_pattern(written), cursor=cursor, limit=limit)
    items = sorted(page.items, key=lambda each: each.key)
    if as_json:
        output.document({"items": [asdict(each) for each in items], "next": page.next})
        return 0
    output.text(entries_text(items, width=width(), more=page.next is not None))
    if page.next is not None:
        output.note(f"more: --cursor {page.next}")
    return 0


async def get_entry(operations: Operations, key: str, *, as_json: bool) -> int:
    """Print one entry with its value."""
    entry, value = await operations.cache.get(key)
    if as_json:
        output.document(asdict(entry) | {"value": value})
    else:
        output.text(entry_text(entry, value))
    return 0


async def evict_keys(operations: Operations, keys: Sequence[str], how: How) -> int:
    """Evict entries by name; 1 where some are not there."""
    refuse(operations, "cache evict", how)
    found = [key for key in keys if await _is_there(operations.cache, key)]
    missing = [key for key in keys if key not in found]
    about = f"{plural(len(found), 'entry')} of {len(keys)} named" if missing else plural(len(found), "entry")
    about += f"; not there: {listed(missing)}" if missing else ""
    await _evict(operations.cache, found, about, how, left_out=missing)
    return 1 if missing else 0


async def evict_matching(operations: Operations, written: str, how: How) -> int:
    """Evict the entries that fit a pattern now."""
    refuse(operations, "cache evict", how)
    pattern = glob_pattern(written)
    found = await operations.cache.matching(pattern)
    fit = f"{plural(len(found), 'entry')} {'fits' if len(found) == 1 else 'fit'} {pattern}"
    await _evict(operations.cache, found, fit, how, pattern=pattern)
    return 0


async def evict_user(operations: Operations, user: str, how: How) -> int:
    """Evict all entries of a user.  Also where there are none: one that is being loaded is not kept then."""
    refuse(operations, "cache evict-user", how)
    number = await operations.cache.count_of_user(user)
    if how.dry_run and how.as_json:
        output.document({"dry_run": True, "user": user, "total": number})
        return 0
    told(f"{plural(number, 'entry')} of user {user}", how)
    if how.dry_run:
        return 0
    if number and not how.yes:
        agreed(f"Evict {plural(number, 'entry')}?")
    removed = await operations.cache.evict_user(user)
    with output.receipt():
        if how.as_json:
            output.document({"dry_run": False, "user": user, "total": removed})
        else:
            output.text(f"{plural(removed, 'entry')} evicted")
    return 0


async def stats(operations: Operations, *, as_json: bool) -> int:
    """Print the figures of the last hour, and the memory."""
    overview = await operations.cache.overview()
    if not as_json:
        output.text(stats_text(overview))
        return 0
    found: dict[str, Any] = asdict(overview)
    figures = found.pop("figures")
    output.document({**found, "hit_rate": overview.figures.hit_rate, **figures})
    return 0


async def _is_there(cache: CacheOperations, key: str) -> bool:
    try:
        await cache.get(key)
    except NotFoundError:
        return False
    return True


async def _evict(
    cache: CacheOperations,
    keys: Sequence[str],
    about: str,
    how: How,
    *,
    pattern: str | None = None,
    left_out: Sequence[str] | None = None,
) -> None:
    """Say what it is about, ask, and evict exactly these."""
    named = {} if left_out is None else {"left_out": left_out}
    if how.dry_run and how.as_json:
        output.document({"dry_run": True, "total": len(keys), "keys": keys, **named})
        return
    told(about, how)
    if how.dry_run:
        return
    if keys and not how.yes:
        agreed(f"Evict {plural(len(keys), 'entry')}?")
    evicted = await cache.evict(keys, pattern=pattern) if keys else 0
    with output.receipt():
        if how.as_json:
            output.document({"dry_run": False, "total": evicted, **named})
        else:
            output.text(f"{plural(evicted, 'entry')} evicted")
