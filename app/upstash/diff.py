"""Compares the databases that exist with those that should exist.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from app.errors import AppError
from app.upstash.database import CONSOLE, Database
from app.upstash.spec import DatabaseSpec

_METERED_PLANS = ("free", "payg")
"""Plans that are corrected; a plan with a fixed price was bought on purpose, and is left alone."""
_FIXED_PLANS = ("pro", "fixed_250mb", "fixed_1gb")

Setting = Literal["create", "eviction", "tls", "plan", "budget"]
Value = str | float | bool | None


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one database; a budget is in dollars a month."""

    database: str
    what: Setting
    before: Value
    after: Value
    database_id: str | None = None
    """None: it does not exist yet."""

    def __str__(self) -> str:
        if self.what == "create":
            return f"create {self.database}: {self.after}"
        before, after = (_display(self.what, value) for value in (self.before, self.after))
        return f"change {self.database}: {self.what} {before} → {after}"


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference that cannot be changed in place."""

    database: str
    message: str

    def __str__(self) -> str:
        return f"{self.database}: {self.message}"


@dataclass(frozen=True, slots=True)
class Diff:
    """All differences: those that `apply` changes, and those that it cannot."""

    changes: tuple[Change, ...]
    differences: tuple[Difference, ...]


def compare(specs: Sequence[DatabaseSpec], existing: Sequence[Database]) -> Diff:
    """Compare the databases by name.  Raises AppError if two have the same."""
    changes: list[Change] = []
    differences: list[Difference] = []
    for spec in specs:
        database = find_by_name(spec.name, existing)
        if database is None:
            changes.append(Change(spec.name, "create", None, describe(spec)))
        else:
            changes += _changes(spec, database)
            differences += _differences(spec, database)
    return Diff(tuple(changes), tuple(differences))


def find_by_name(name: str, databases: Sequence[Database]) -> Database | None:
    """Return the database of that name, if any.  Raises AppError if there are two."""
    same = [database for database in databases if database.database_name == name]
    if len(same) > 1:
        ids = ", ".join(database.database_id for database in same)
        raise AppError(
            f"{len(same)} databases have this name ({ids})",
            field=name,
            fix=f"rename all but one at {CONSOLE}",
        )
    return same[0] if same else None


def describe(spec: DatabaseSpec) -> str:
    """Describe how a database is created."""
    parts = [spec.plan, spec.region, f"eviction {_switch(spec.eviction)}", "TLS on"]
    if spec.budget is not None:
        parts.append(f"budget ${spec.budget} a month")
    return ", ".join(parts)


def _changes(spec: DatabaseSpec, existing: Database) -> list[Change]:
    """Return the changes in the order of `apply`: dangers to jobs first, the plan before its budget."""
    metered = existing.plan in _METERED_PLANS
    budget = existing.budget / 100 if existing.budget else None
    values: list[tuple[Setting, Value, Value]] = [("eviction", existing.eviction, spec.eviction)]
    values.append(("tls", existing.tls, True))
    if metered:
        values.append(("plan", existing.plan, spec.plan))
    if metered and spec.budget is not None:
        values.append(("budget", budget, spec.budget))
    return [
        Change(existing.database_name, what, before, after, existing.database_id)
        for what, before, after in values
        if before != after
    ]


def _differences(spec: DatabaseSpec, existing: Database) -> list[Difference]:
    messages = []
    region = existing.write_region
    if region != spec.region:
        messages.append(
            f"is in {region}, not {spec.region}, and cannot be moved: use --region {region}; "
            "or rename it and apply, which creates another one without its jobs"
        )
    page = f"{CONSOLE}/{existing.database_id}"
    if existing.state != "active":
        messages.append(f"is {existing.state}: {page} says why")
    if existing.plan not in (*_METERED_PLANS, *_FIXED_PLANS):
        plan = f"the plan {existing.plan!r}, which is unknown here" if existing.plan else "an unknown plan"
        messages.append(f"has {plan}: its plan and budget are not compared: {page} shows them")
    if existing.read_regions:
        regions = ", ".join(existing.read_regions)
        messages.append(f"has read regions ({regions}), each billed for every write: remove them at {page}")
    return [Difference(existing.database_name, message) for message in messages]


def _display(setting: Setting, value: Value) -> str:
    if setting == "budget":
        return "none" if value is None else f"${value:g} a month"
    return _switch(value) if isinstance(value, bool) else str(value)


def _switch(value: bool) -> str:
    return "on" if value else "off"
