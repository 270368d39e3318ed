"""What it takes to come from the databases that there are to those that there should be.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from app.errors import AppError
from app.upstash.database import CONSOLE, Database
from app.upstash.spec import Wanted

_METERED = ("free", "payg")
"""Plans that are put right; one with a fixed price was bought on purpose, and is left alone."""
_FIXED = ("pro", "fixed_250mb", "fixed_1gb")


What = Literal["create", "eviction", "tls", "plan", "budget"]
Value = str | float | bool | None


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is done to one database; the budget is in dollars a month."""

    database: str
    what: What
    before: Value
    after: Value
    database_id: str | None = None
    """None: it is not there yet."""

    def __str__(self) -> str:
        if self.what == "create":
            return f"create {self.database}: {self.after}"
        return f"change {self.database}: {self.what} {_said(self, self.before)} → {_said(self, self.after)}"


@dataclass(frozen=True, slots=True)
class Difference:
    """What is not as it should be, and cannot be changed in place."""

    database: str
    says: str

    def __str__(self) -> str:
        return f"{self.database}: {self.says}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """All that differs."""

    changes: tuple[Change, ...]
    differences: tuple[Difference, ...]


def compare(wanted: Sequence[Wanted], found: Sequence[Database]) -> Comparison:
    """What differs between the databases that are wanted and those that there are.

    Names are what databases are known by.  Raises AppError where two have the same.
    """
    changes: list[Change] = []
    differences: list[Difference] = []
    for each in wanted:
        there = named(each.name, found)
        if there is None:
            changes.append(Change(each.name, "create", None, described(each)))
        else:
            changes += _changes(each, there)
            differences += _differences(each, there)
    return Comparison(tuple(changes), tuple(differences))


def named(name: str, found: Sequence[Database]) -> Database | None:
    """The one of that name.  Raises AppError where there are two."""
    same = [each for each in found if each.database_name == name]
    if len(same) > 1:
        ids = ", ".join(each.database_id for each in same)
        raise AppError(
            f"{name}: {len(same)} databases have this name ({ids}): rename all but one at {CONSOLE}"
        )
    return same[0] if same else None


def described(wanted: Wanted) -> str:
    """How one is made, in words."""
    parts = [wanted.plan, wanted.region, f"eviction {_switch(wanted.eviction)}", "TLS on"]
    if wanted.budget is not None:
        parts.append(f"budget ${wanted.budget} a month")
    return ", ".join(parts)


def _changes(wanted: Wanted, found: Database) -> list[Change]:
    """In the order in which they are made: what endangers jobs first, the plan before its budget."""
    metered = found.plan in _METERED
    budget = found.budget / 100 if found.budget else None
    values: list[tuple[What, Value, Value]] = [("eviction", found.eviction, wanted.eviction)]
    values.append(("tls", found.tls, True))
    if metered:
        values.append(("plan", found.plan, wanted.plan))
    if metered and wanted.budget is not None:
        values.append(("budget", budget, wanted.budget))
    return [
        Change(found.database_name, what, before, after, found.database_id)
        for what, before, after in values
        if before != after
    ]


def _differences(wanted: Wanted, found: Database) -> list[Difference]:
    made = []
    if found.place != wanted.region:
        made.append(
            f"is in {found.place}, not {wanted.region}, and cannot be moved: give --region {found.place}; "
            "or rename it and apply, which makes another one without its jobs"
        )
    page = f"{CONSOLE}/{found.database_id}"
    if found.state != "active":
        made.append(f"is {found.state}: {page} says why")
    if found.plan not in (*_METERED, *_FIXED):
        told = f"the plan {found.plan!r}, which is unknown here" if found.plan else "no plan that is told"
        made.append(f"has {told}: its plan and budget are not looked at: {page} shows them")
    if found.read_regions:
        regions = ", ".join(found.read_regions)
        made.append(f"has read regions ({regions}), each billed for every write: remove them at {page}")
    return [Difference(found.database_name, each) for each in made]


def _said(change: Change, value: Value) -> str:
    if change.what == "budget":
        return "none" if value is None else f"${value:g} a month"
    return _switch(value) if isinstance(value, bool) else str(value)


def _switch(value: bool) -> str:
    return "on" if value else "off"
