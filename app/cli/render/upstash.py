"""The databases at Upstash, and what differs there, as plain text and as documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from app.cli.render.tables import table_text
from app.upstash.database import Database
from app.upstash.diff import Change, Diff, Difference
from app.upstash.spec import DatabaseSpec
from tui.text.format import MISSING
from workers.words import plural

COMMAND = "couturecast-tui upstash"

Pair = tuple[DatabaseSpec, Database | None]
"""A database: desired, and actual."""


def plan_text(comparison: Diff) -> str:
    """Return the changes that ``apply`` would make, and what else differs."""
    lines = [*map(str, comparison.changes), *map(str, comparison.differences)]
    if comparison.changes:
        lines.append(f"{plural(len(comparison.changes), 'change')}, for {COMMAND} apply to make")
    return "\n".join(lines) or "nothing to change"


def applied_text(comparison: Diff, specs: Sequence[DatabaseSpec]) -> str:
    """Return what is left to do after the changes were made."""
    lines = [] if comparison.changes else ["nothing to change"]
    lines += map(str, comparison.differences)
    if comparison.changes:
        for environment in dict.fromkeys(spec.environment for spec in specs):
            names = " and ".join(spec.variable for spec in specs if spec.environment == environment)
            lines.append(
                f"{environment}: {COMMAND} env {environment} --output FILE writes {names} to set there"
            )
    return "\n".join(lines)


def status_text(pairs: Sequence[Pair], comparison: Diff, *, width: int | None = None) -> str:
    """Return a row for each database, then what differs."""
    url = "to (password hidden)"
    head = ("environment", "database", "state", "region", "plan", "eviction", "TLS", "set", url)
    rows = [_row(spec, database) for spec, database in pairs]
    lines = [table_text(head, rows, shrink=(url,), width=width), *difference_lines(comparison)]
    lines.append(
        f"the passwords: {COMMAND} env ENVIRONMENT --output FILE, or https://console.upstash.com/redis"
    )
    return "\n".join(lines)


def difference_lines(comparison: Diff) -> list[str]:
    """Return everything that differs, and how to change it."""
    lines = [*map(str, comparison.changes), *map(str, comparison.differences)]
    return [*lines, f"{COMMAND} apply changes that"] if comparison.changes else lines


def comparison_document(comparison: Diff) -> dict[str, Any]:
    """Return a comparison for programs."""
    return {
        "changes": [asdict(change) for change in comparison.changes],
        "differences": [
            {"database": difference.database, "says": difference.message}
            for difference in comparison.differences
        ],
    }


def database_document(spec: DatabaseSpec, database: Database | None, comparison: Diff) -> dict[str, Any]:
    """Return one database for programs; its URL has no password."""
    differences: Sequence[Change | Difference] = (*comparison.changes, *comparison.differences)
    problems = [str(difference) for difference in differences if difference.database == spec.name]
    document = {"environment": spec.environment, "variable": spec.variable, "name": spec.name}
    if database is None:
        return {**document, "exists": False, "problems": problems}
    return {
        **document,
        "exists": True,
        "id": database.database_id,
        "state": database.state,
        "region": database.write_region,
        "plan": database.plan,
        "eviction": database.eviction,
        "tls": database.tls,
        "budget": database.budget / 100 if database.budget else None,
        "endpoint": database.host,
        "port": database.port,
        "url": database.url(),
        "problems": problems,
    }


def _row(spec: DatabaseSpec, database: Database | None) -> tuple[str, ...]:
    if database is None:
        return (spec.environment, spec.name, "not there", *[MISSING] * 4, spec.variable, MISSING)
    eviction = "on" if database.eviction else "off"
    return (
        spec.environment,
        spec.name,
        database.state,
        database.write_region,
        database.plan or MISSING,
        eviction if database.eviction == spec.eviction else f"{eviction}, not as it should be",
        "on" if database.tls else "off",
        spec.variable,
        database.url() or "being made",
    )
