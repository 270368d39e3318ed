"""``upstash plan``, ``apply``, ``status`` and ``env``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli import output
from app.cli.bulk import confirm, require_answer
from app.cli.completion import complete_environment
from app.cli.files import private_file
from app.cli.options import Json, Yes
from app.cli.render.tables import terminal_width
from app.cli.render.upstash import (
    COMMAND,
    applied_text,
    comparison_document,
    database_document,
    difference_lines,
    plan_text,
    status_text,
)
from app.errors import AppError, CommandInterruptedError, UsageError
from app.process.interrupts import raise_on_interrupt
from app.upstash.database import Database
from app.upstash.diff import Change, compare, find_by_name
from app.upstash.errors import UpstashError
from app.upstash.spec import DEFAULT_REGION, DatabaseSpec, select_specs
from workers.errors import ReadOnlyError
from workers.words import plural

if TYPE_CHECKING:
    from app.settings import Settings
    from app.upstash.api import UpstashApi

commands = typer.Typer(rich_markup_mode=None)

Region = Annotated[
    str,
    typer.Option(
        "--region",
        help="Region in which databases are written.  It is not stored: give it with every command.",
        metavar="REGION",
    ),
]
Only = Annotated[
    str | None,
    typer.Option(
        "--only",
        help="Environments: dev, staging, prod; the default is all.",
        metavar="A,B",
        autocompletion=complete_environment,
    ),
]
Budget = Annotated[
    int | None,
    typer.Option(
        "--budget",
        help="Dollars a month for the queues of prod.  It is not stored: apply without it makes it 20.",
        min=1,
        max=100_000,
    ),
]


@commands.command()
def plan(
    only: Only = None,
    region: Region = DEFAULT_REGION,
    budget: Budget = None,
    as_json: Json = False,
) -> None:
    """Print the changes that apply would make, and make none."""
    specs = select_specs(only, region=region, budget=budget)
    with _open_account() as upstash:
        comparison = compare(specs, upstash.databases(_names(specs)))
    if as_json:
        output.print_json(comparison_document(comparison))
    else:
        output.print_text(plan_text(comparison))
    raise typer.Exit(1 if comparison.differences else 0)


@commands.command()
def apply(
    only: Only = None,
    region: Region = DEFAULT_REGION,
    budget: Budget = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Make what is missing and change what differs, after showing it."""
    specs = select_specs(only, region=region, budget=budget)
    if not yes:
        require_answer(fix="give --yes; upstash plan shows what would change")
    settings = _settings()
    if settings.read_only:
        raise ReadOnlyError("upstash apply")
    with _open_account(settings) as upstash:
        comparison = compare(specs, upstash.databases(_names(specs)))
        if comparison.changes:
            if not (as_json and yes):
                output.print_note("\n".join(map(str, comparison.changes)))
            if not yes:
                confirm(f"Make {plural(len(comparison.changes), 'change')} at Upstash?")
            _make_changes(upstash, comparison.changes, {spec.name: spec for spec in specs})
    document = comparison_document(comparison)
    output.print_result(applied_text(comparison, specs), document, as_json=as_json)
    raise typer.Exit(1 if comparison.differences else 0)


def _make_changes(upstash: UpstashApi, changes: Sequence[Change], specs: Mapping[str, DatabaseSpec]) -> None:
    """Make the changes in their order.  Raises UpstashError, which names those that were made."""
    made: list[Change] = []
    try:
        for change in changes:
            if change.what == "create":
                _create(upstash, specs[change.database])
            else:
                upstash.change(change)
            made.append(change)
            output.print_note(f"done: {change}")
    except AppError as error:
        raise UpstashError(f"{error}{_so_far(made)}") from None
    except KeyboardInterrupt:
        raise CommandInterruptedError(
            f"interrupted: the change that was under way may have been made{_so_far(made)}"
        ) from None


def _create(upstash: UpstashApi, spec: DatabaseSpec) -> None:
    """Make a database, unless it was made since the comparison."""
    if find_by_name(spec.name, upstash.databases([spec.name])) is not None:
        raise UpstashError(
            f"{spec.name} was made by another program since the comparison: apply again, which compares it"
        )
    upstash.create(spec)


def _so_far(made: Sequence[Change]) -> str:
    if not made:
        return "; nothing was changed before"
    return f"; done before: {'; '.join(map(str, made))}; apply again does the rest"


@commands.command()
def status(
    only: Only = None,
    region: Region = DEFAULT_REGION,
    budget: Budget = None,
    as_json: Json = False,
) -> None:
    """Each database, its state and its address; without passwords."""
    specs = select_specs(only, region=region, budget=budget)
    with _open_account() as upstash:
        databases = upstash.databases(_names(specs))
    comparison = compare(specs, databases)
    pairs = [(spec, find_by_name(spec.name, databases)) for spec in specs]
    if as_json:
        items = [database_document(spec, database, comparison) for spec, database in pairs]
        output.print_json({"items": items})
    else:
        output.print_text(status_text(pairs, comparison, width=terminal_width()))
    raise typer.Exit(1 if comparison.changes or comparison.differences else 0)


@commands.command()
def env(
    environment: Annotated[
        str,
        typer.Argument(
            metavar="ENVIRONMENT", help="dev, staging or prod.", autocompletion=complete_environment
        ),
    ],
    file: Annotated[
        Path, typer.Option("--output", help="For its owner only; it holds passwords.", metavar="FILE")
    ],
    force: Annotated[bool, typer.Option("--force", help="Replace FILE.")] = False,
    as_json: Json = False,
) -> None:
    """Write REDIS_URL, and CACHE_REDIS_URL if it has one, with their passwords, into a file."""
    if "," in environment:
        raise UsageError("name one environment: a file holds the URLs of one")
    specs = select_specs(environment)
    with _open_account() as upstash:
        databases = upstash.databases(_names(specs))
        urls = {spec.variable: _full_url(upstash, spec, find_by_name(spec.name, databases)) for spec in specs}
    for line in _problems(specs, databases):
        output.print_note(line)
    with private_file(file, force=force) as stream:
        stream.writelines(f"{name}={url}\n" for name, url in urls.items())
    document = {"file": str(file), "variables": list(urls)}
    output.print_result(f"{file}: {', '.join(urls)}", document, as_json=as_json)


def _full_url(upstash: UpstashApi, spec: DatabaseSpec, database: Database | None) -> str:
    """Return the URL with its password.  Raises AppError if the database cannot be used as it is."""
    apply_command = f"{COMMAND} apply --only {spec.environment}"
    if database is None:
        raise AppError(f"{spec.name} is not there", fix=f"{apply_command} makes it")
    if not database.tls:
        raise AppError(f"{spec.name} has TLS off", fix=f"{apply_command} changes that")
    if database.eviction and not spec.eviction:
        raise AppError(
            f"{spec.name} has eviction on and would lose jobs", fix=f"{apply_command} changes that"
        )
    if not database.url():
        raise AppError(f"{spec.name} has no address yet", fix="try again in a minute")
    return database.url(upstash.password(database).get_secret_value())


def _problems(specs: Sequence[DatabaseSpec], databases: Sequence[Database]) -> list[str]:
    """Return the differences, without region and budget, which this command is not given."""
    regions = {database.database_name: database.write_region for database in databases}
    same_region = [replace(spec, region=regions[spec.name], budget=None) for spec in specs]
    return difference_lines(compare(same_region, databases))


def _names(specs: Sequence[DatabaseSpec]) -> list[str]:
    return [spec.name for spec in specs]


def _open_account(settings: Settings | None = None) -> AbstractContextManager[UpstashApi]:
    """Return the account that the settings name.  Raises UsageError."""
    from app.upstash.api import open_api

    return open_api(settings or _settings())


def _settings() -> Settings:
    from app.cli.settings import load_settings

    settings, _ = load_settings(None)
    raise_on_interrupt()
    return settings
