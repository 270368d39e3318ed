"""``upstash``: the command line of the databases there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from app.cli.runner import Json, configured
from app.errors import UsageError
from app.process.interrupts import raise_on_interrupt
from app.settings import Settings
from app.upstash import spec

upstash = typer.Typer(
    rich_markup_mode=None,
    help="The databases at Upstash: make them as docs/upstash.md wants them.  None is ever deleted.",
)

Region = Annotated[
    str,
    typer.Option(
        "--region",
        help="The region that databases are written in.  It is not remembered: give it each time.",
        metavar="REGION",
    ),
]
Only = Annotated[
    str | None, typer.Option("--only", help="Of dev, staging, prod; all without it.", metavar="A,B")
]
Budget = Annotated[
    int | None,
    typer.Option(
        "--budget",
        help="Dollars a month for the queues of prod.  It is not remembered: apply without it makes it 20.",
        min=1,
        max=100_000,
    ),
]


@upstash.command()
def plan(
    only: Only = None,
    region: Region = spec.DEFAULT_REGION,
    budget: Budget = None,
    as_json: Json = False,
) -> None:
    """What apply would do; it changes nothing."""
    from app.cli import upstash_commands as verbs

    chosen = spec.select_specs(only, region=region, budget=budget)
    settings = _settings()
    raise typer.Exit(verbs.plan(settings, chosen, as_json=as_json))


@upstash.command()
def apply(
    only: Only = None,
    region: Region = spec.DEFAULT_REGION,
    budget: Budget = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Make what is missing and put right what differs, after showing it."""
    from app.cli import upstash_commands as verbs

    chosen = spec.select_specs(only, region=region, budget=budget)
    if not (yes or sys.stdin.isatty()):
        raise UsageError("nobody is there to be asked: give --yes; upstash plan shows what would happen")
    settings = _settings()
    raise typer.Exit(verbs.apply(settings, chosen, yes=yes, as_json=as_json))


@upstash.command()
def status(
    only: Only = None,
    region: Region = spec.DEFAULT_REGION,
    budget: Budget = None,
    as_json: Json = False,
) -> None:
    """Each database, how it is and where; without passwords."""
    from app.cli import upstash_commands as verbs

    chosen = spec.select_specs(only, region=region, budget=budget)
    settings = _settings()
    raise typer.Exit(verbs.status(settings, chosen, as_json=as_json))


@upstash.command()
def env(
    environment: Annotated[str, typer.Argument(metavar="ENVIRONMENT", help="dev, staging or prod.")],
    file: Annotated[
        Path, typer.Option("--output", help="For its owner only; it holds passwords.", metavar="FILE")
    ],
    force: Annotated[bool, typer.Option("--force", help="Replace FILE.")] = False,
    as_json: Json = False,
) -> None:
    """Write REDIS_URL, and CACHE_REDIS_URL where it has one, with their passwords, into a file."""
    from app.cli import upstash_commands as verbs

    if "," in environment:
        raise UsageError("name one environment: a file holds the URLs of one")
    chosen = spec.select_specs(environment)
    settings = _settings()
    raise typer.Exit(verbs.write_env(settings, chosen, file, force=force, as_json=as_json))


def _settings() -> Settings:
    settings, _ = configured(None)
    raise_on_interrupt()
    return settings
