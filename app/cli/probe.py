"""``probe``: for the health check of a container."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from app.address import Address
from app.cli.options import DataDir
from app.errors import InvalidValueError, UsageError
from app.probe import check, find_addresses

commands = typer.Typer(rich_markup_mode=None)


@commands.command()
def probe(
    question: Annotated[
        Literal["live", "ready"], typer.Argument(help="live: it makes progress; ready: it takes jobs.")
    ],
    http: Annotated[
        str | None,
        typer.Option("--http", help="Ask this address instead.", metavar="HOST:PORT"),
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Ask the process that runs in this data directory; exits with 0 or 1.

    It takes less than two seconds.  If several processes run there, all of them must answer well.
    """
    check(question, find_addresses(question, data_dir) if http is None else [_parse(http)])
    typer.echo(question)


def _parse(http: str) -> Address:
    try:
        return Address.parse(http)
    except InvalidValueError as error:
        raise UsageError(error.problem, field="--http", fix=error.fix) from None
