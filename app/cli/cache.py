"""``cache list``, ``get``, ``evict``, ``evict-user`` and ``stats``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli import output
from app.cli.bulk import BulkChange, BulkOptions, check_writable, make_change, require_answer
from app.cli.options import DataDir, DryRun, Json, Reveal, Yes
from app.cli.render.cache import entries_text, entry_text, join_some, stats_text
from app.cli.render.tables import terminal_width
from app.cli.runner import run_operation
from app.cli.values import utf8
from app.errors import UsageError
from workers.words import plural

if TYPE_CHECKING:
    from workers.operations.operations import CacheOperations, Operations

commands = typer.Typer(rich_markup_mode=None)

_PART_OR_PATTERN = "A part of a key, or with * ? [ a pattern for whole keys."


@commands.command("list")
def list_entries(
    pattern: Annotated[str, typer.Argument(metavar="PATTERN", help=_PART_OR_PATTERN)] = "",
    limit: Annotated[
        int, typer.Option("--limit", help="Rows; a page may have some more, or fewer.", min=1, max=1000)
    ] = 50,
    cursor: Annotated[str | None, typer.Option("--cursor", help="`next` of the page before.")] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Entries with state, age, TTL and size, in no order.

    fresh: served from the cache.  stale: served only if a load fails.  outdated: invalidated, and never
    served again.  corrupt: not written by this program.
    """
    glob = _glob(pattern, "PATTERN")

    async def run(operations: Operations) -> int:
        page = await operations.cache.page(glob, cursor=cursor, limit=limit)
        entries = sorted(page.items, key=lambda entry: entry.key)
        if as_json:
            output.print_json(output.page(entries, page.next))
            return 0
        output.print_text(entries_text(entries, width=terminal_width(), more=page.next is not None))
        output.print_page_note(page.next)
        return 0

    run_operation(data_dir, run, database="optional")


def _glob(pattern: str, option: str) -> str:
    from workers.operations.cache import glob_pattern

    return glob_pattern(utf8(pattern, option))


@commands.command("get")
def get_entry(
    key: Annotated[str, typer.Argument(metavar="KEY", help="As cache list has it: user:location:block.")],
    reveal: Reveal = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """One entry with its value; 1 if it does not exist."""
    utf8(key, "KEY")

    async def run(operations: Operations) -> int:
        entry, value = await operations.cache.get(key, reveal=reveal)
        if as_json:
            output.print_json(asdict(entry) | {"value": value})
        else:
            output.print_text(entry_text(entry, value))
        return 0

    run_operation(data_dir, run, database="optional")


@commands.command("evict")
def evict(
    keys: Annotated[list[str] | None, typer.Argument(metavar="KEY", help="As cache list has them.")] = None,
    pattern: Annotated[str | None, typer.Option("--pattern", help=_PART_OR_PATTERN, metavar="P")] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Evict entries by key or pattern, after the count was shown; 1 if a named one does not exist.

    Evicts what was counted.  An evicted entry is loaded again when it is read.
    """
    if bool(keys) == (pattern is not None):
        raise UsageError("name the entries: either keys, or --pattern P; --pattern '*' means all")
    if pattern == "":
        raise UsageError("is empty", field="--pattern", fix="use '*' for all entries")
    options = _bulk_options(dry_run=dry_run, yes=yes, as_json=as_json)
    if pattern is not None:
        glob = _glob(pattern, "--pattern")
        run_operation(
            data_dir, lambda operations: _evict_matching(operations, glob, options), database="optional"
        )
    names = [utf8(key, "KEY") for key in dict.fromkeys(keys or ())]
    run_operation(data_dir, lambda operations: _evict_keys(operations, names, options), database="optional")


async def _evict_keys(operations: Operations, names: Sequence[str], options: BulkOptions) -> int:
    """Evict the named entries; return 1 if some do not exist."""
    check_writable(operations, "cache evict", options)
    keys = await operations.cache.existing_keys(names)
    existing = set(keys)
    missing = [name for name in names if name not in existing]
    summary = plural(len(keys), "entry")
    if missing:
        summary += f" of {len(names)} named; not there: {join_some(missing)}"
    await make_change(_eviction(operations.cache, keys, summary, left_out=missing), options)
    return 1 if missing else 0


async def _evict_matching(operations: Operations, glob: str, options: BulkOptions) -> int:
    check_writable(operations, "cache evict", options)
    keys = await operations.cache.keys_matching(glob)
    summary = f"{plural(len(keys), 'entry')} {'fits' if len(keys) == 1 else 'fit'} {glob}"
    await make_change(_eviction(operations.cache, keys, summary, pattern=glob), options)
    return 0


def _eviction(
    cache: CacheOperations,
    keys: Sequence[str],
    summary: str,
    *,
    pattern: str | None = None,
    **more: Any,
) -> BulkChange:
    """Return the eviction of exactly these keys, with ``more`` fields for programs."""
    return BulkChange(
        total=len(keys),
        summary=summary,
        document={"total": len(keys), "keys": keys, **more},
        question=f"Evict {plural(len(keys), 'entry')}?",
        make=lambda: cache.evict(keys, pattern=pattern),
        result_text=_result,
        result_document=lambda evicted: {"total": evicted, **more},
    )


@commands.command("evict-user")
def evict_user(
    user: Annotated[str, typer.Argument(metavar="USER", help="Id of a user.")],
    dry_run: DryRun = False,
    yes: Yes = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Evict all entries of a user, after the count was shown, and those that are being loaded."""
    from workers.operations.cache import user_id_problem

    problem = user_id_problem(utf8(user, "USER"))
    if problem:
        raise UsageError("no user can have this id", field="USER", fix=problem)
    options = _bulk_options(dry_run=dry_run, yes=yes, as_json=as_json)
    run_operation(data_dir, lambda operations: _evict_user(operations, user, options), database="optional")


async def _evict_user(operations: Operations, user: str, options: BulkOptions) -> int:
    """Evict a user's entries; one that is being loaded is not counted, and not kept either."""
    check_writable(operations, "cache evict-user", options)
    total = await operations.cache.count_for_user(user)
    change = BulkChange(
        total=total,
        summary=f"{plural(total, 'entry')} of user {user}",
        document={"user": user, "total": total},
        question=f"Evict {plural(total, 'entry')}?",
        make=lambda: operations.cache.evict_user(user),
        result_text=_result,
        result_document=lambda evicted: {"user": user, "total": evicted},
        even_if_none=True,
    )
    await make_change(change, options)
    return 0


def _result(evicted: int) -> str:
    return f"{plural(evicted, 'entry')} evicted"


def _bulk_options(*, dry_run: bool, yes: bool, as_json: bool) -> BulkOptions:
    """Return how entries are evicted.  Raises UsageError if it cannot be confirmed."""
    options = BulkOptions(dry_run=dry_run, yes=yes, as_json=as_json)
    if options.needs_confirmation:
        require_answer()
    return options


@commands.command("stats")
def stats(data_dir: DataDir = None, as_json: Json = False) -> None:
    """Hit rate of the last hour, how reads ended, memory, evictions by the server."""

    async def run(operations: Operations) -> int:
        overview = await operations.cache.overview()
        if not as_json:
            output.print_text(stats_text(overview))
            return 0
        output.print_json(overview.to_fields())
        return 0

    run_operation(data_dir, run, database="optional")
