"""What the commands on the databases at Upstash do and print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from app import output
from app.cli.render.status import table
from app.errors import AppError
from app.settings import Settings
from app.upstash.api import UpstashApi, open_api
from app.upstash.database import Database
from app.upstash.diff import Change, Diff, Difference, compare, find_by_name
from app.upstash.errors import BrokenOffError, UpstashError
from app.upstash.spec import DatabaseSpec
from tui.text.format import MISSING
from workers.errors import ReadOnlyError

_COMMAND = "couturecast-tui upstash"


def plan(settings: Settings, wanted: Sequence[DatabaseSpec], *, as_json: bool) -> int:
    """Print what `apply` would do; 1 where that is not enough."""
    with open_api(settings) as upstash:
        found = compare(wanted, upstash.databases(_names(wanted)))
    if as_json:
        output.document(_fields(found))
    else:
        output.text(_plan_text(found))
    return 1 if found.differences else 0


def apply(settings: Settings, wanted: Sequence[DatabaseSpec], *, yes: bool, as_json: bool) -> int:
    """Do what is missing, after it was shown; 1 where that was not all that differs."""
    if settings.read_only:
        raise AppError(str(ReadOnlyError("upstash apply")))
    with open_api(settings) as upstash:
        found = compare(wanted, upstash.databases(_names(wanted)))
        if found.changes:
            if not (as_json and yes):
                output.note("\n".join(map(str, found.changes)))
            if not (yes or output.confirmed(f"Carry out {_counted(found)} at Upstash?")):
                raise AppError("nothing was changed")
            _carry_out(upstash, found.changes, {each.name: each for each in wanted})
    with output.receipt():
        if as_json:
            output.document(_fields(found))
        else:
            output.text("\n".join(_afterwards(found, wanted)))
    return 1 if found.differences else 0


def status(settings: Settings, wanted: Sequence[DatabaseSpec], *, as_json: bool) -> int:
    """Print each database that is wanted; 1 where one is missing or is not as it should be."""
    with open_api(settings) as upstash:
        there = upstash.databases(_names(wanted))
    found = compare(wanted, there)
    pairs = [(each, find_by_name(each.name, there)) for each in wanted]
    if as_json:
        output.document({"items": [_item(each, database, found) for each, database in pairs]})
    else:
        output.text("\n".join(_status_lines(pairs, found)))
    return 1 if found.changes or found.differences else 0


def write_env(
    settings: Settings, wanted: Sequence[DatabaseSpec], file: Path, *, force: bool, as_json: bool
) -> int:
    """Write the URLs of one environment, passwords and all, into a file for its owner only."""
    with open_api(settings) as upstash:
        there = upstash.databases(_names(wanted))
        urls = {each.variable: _whole_url(upstash, each, find_by_name(each.name, there)) for each in wanted}
    for line in _doubts(wanted, there):
        output.note(line)
    with output.into(file, force=force) as written:
        written.writelines(f"{name}={url}\n" for name, url in urls.items())
    with output.receipt():
        if as_json:
            output.document({"file": str(file), "variables": list(urls)})
        else:
            output.text(f"{file}: {', '.join(urls)}")
    return 0


def _names(wanted: Sequence[DatabaseSpec]) -> list[str]:
    return [each.name for each in wanted]


def _carry_out(upstash: UpstashApi, changes: Sequence[Change], wanted: dict[str, DatabaseSpec]) -> None:
    """Make the changes in their order.  Raises UpstashError, which names those that were made."""
    done: list[Change] = []
    try:
        for change in changes:
            if change.what == "create":
                _create(upstash, wanted[change.database])
            else:
                upstash.change(change)
            done.append(change)
            output.note(f"done: {change}")
    except AppError as error:
        raise UpstashError(f"{error}{_so_far(done)}") from None
    except KeyboardInterrupt:
        raise BrokenOffError(f"interrupted: what was under way may have been done{_so_far(done)}") from None


def _create(upstash: UpstashApi, wanted: DatabaseSpec) -> None:
    """Make a database, unless it was made since the account was looked at."""
    if find_by_name(wanted.name, upstash.databases([wanted.name])) is not None:
        raise UpstashError(
            f"{wanted.name} was made by somebody else meanwhile: apply again, which compares it"
        )
    upstash.create(wanted)


def _so_far(done: Sequence[Change]) -> str:
    if not done:
        return "; nothing was changed before"
    return f"; done before: {'; '.join(map(str, done))}; apply again does the rest"


def _whole_url(upstash: UpstashApi, wanted: DatabaseSpec, found: Database | None) -> str:
    """The URL with its password.  Raises AppError where there is none to write."""
    if found is None:
        raise AppError(f"{wanted.name} is not there: {_COMMAND} apply --only {wanted.environment} makes it")
    if not found.tls:
        raise AppError(
            f"{wanted.name} has TLS off: {_COMMAND} apply --only {wanted.environment} puts it right"
        )
    if found.eviction and not wanted.eviction:
        raise AppError(
            f"{wanted.name} has eviction on and would lose jobs: "
            f"{_COMMAND} apply --only {wanted.environment} puts it right"
        )
    if not found.url():
        raise AppError(f"{wanted.name} has no address yet: try again in a minute")
    return found.url(upstash.password(found).get_secret_value())


def _doubts(wanted: Sequence[DatabaseSpec], there: Sequence[Database]) -> list[str]:
    """What of the databases is not as it should be; env is told neither the region nor the budget."""
    places = {each.database_name: each.write_region for each in there}
    here = [replace(each, region=places[each.name], budget=None) for each in wanted]
    return _comparison_lines(compare(here, there))


def _plan_text(found: Diff) -> str:
    lines = [str(each) for each in (*found.changes, *found.differences)]
    if found.changes:
        lines.append(f"{_counted(found)}, for {_COMMAND} apply to make")
    return "\n".join(lines) or "nothing to change"


def _counted(found: Diff) -> str:
    number = len(found.changes)
    return f"{number} change{'' if number == 1 else 's'}"


def _afterwards(found: Diff, wanted: Sequence[DatabaseSpec]) -> list[str]:
    """What is left to say and to do."""
    lines = [] if found.changes else ["nothing to change"]
    lines += [str(each) for each in found.differences]
    if found.changes:
        for environment in dict.fromkeys(each.environment for each in wanted):
            names = " and ".join(each.variable for each in wanted if each.environment == environment)
            lines.append(
                f"{environment}: {_COMMAND} env {environment} --output FILE writes {names} to set there"
            )
    return lines


def _fields(found: Diff) -> dict[str, Any]:
    """For programs."""
    return {
        "changes": [asdict(each) for each in found.changes],
        "differences": [{"database": each.database, "says": each.message} for each in found.differences],
    }


def _item(wanted: DatabaseSpec, found: Database | None, compared: Diff) -> dict[str, Any]:
    """One database for programs; its URL has no password."""
    problems = _problems(wanted.name, compared)
    item = {"environment": wanted.environment, "variable": wanted.variable, "name": wanted.name}
    if found is None:
        return {**item, "exists": False, "problems": problems}
    return {
        **item,
        "exists": True,
        "id": found.database_id,
        "state": found.state,
        "region": found.write_region,
        "plan": found.plan,
        "eviction": found.eviction,
        "tls": found.tls,
        "budget": found.budget / 100 if found.budget else None,
        "endpoint": found.host,
        "port": found.port,
        "url": found.url(),
        "problems": problems,
    }


def _problems(name: str, compared: Diff) -> list[str]:
    everything: Sequence[Change | Difference] = (*compared.changes, *compared.differences)
    return [str(each) for each in everything if each.database == name]


def _status_lines(pairs: Sequence[tuple[DatabaseSpec, Database | None]], compared: Diff) -> list[str]:
    head = (
        "environment",
        "database",
        "state",
        "region",
        "plan",
        "eviction",
        "TLS",
        "set",
        "to (password hidden)",
    )
    lines = table([head, *(_row(each, found) for each, found in pairs)])
    lines += _comparison_lines(compared)
    lines.append(
        f"the passwords: {_COMMAND} env ENVIRONMENT --output FILE, or https://console.upstash.com/redis"
    )
    return lines


def _comparison_lines(compared: Diff) -> list[str]:
    lines = [str(each) for each in (*compared.changes, *compared.differences)]
    return [*lines, f"{_COMMAND} apply puts that right"] if compared.changes else lines


def _row(wanted: DatabaseSpec, found: Database | None) -> tuple[str, ...]:
    if found is None:
        return (wanted.environment, wanted.name, "not there", *[MISSING] * 4, wanted.variable, MISSING)
    return (
        wanted.environment,
        wanted.name,
        found.state,
        found.write_region,
        found.plan or MISSING,
        _eviction(wanted, found),
        "on" if found.tls else "off",
        wanted.variable,
        found.url() or "being made",
    )


def _eviction(wanted: DatabaseSpec, found: Database) -> str:
    said = "on" if found.eviction else "off"
    return said if found.eviction == wanted.eviction else f"{said}, not as wanted"
