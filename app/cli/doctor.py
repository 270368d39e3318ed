"""``doctor``."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from dataclasses import replace
from typing import NoReturn

import typer

from app import logs
from app.cli import output
from app.cli.options import DataDir, Json
from app.cli.render.doctor import findings_text
from app.cli.render.tables import terminal_width
from app.doctor.checks.settings import Configuration, configuration
from app.doctor.redaction import conceal, secrets_given, without_passwords
from app.doctor.results import Item, number_of
from app.errors import AppError
from app.process.interrupts import raise_on_interrupt
from tui.text.format import escape

commands = typer.Typer(rich_markup_mode=None)

_THREADS_END_SECONDS = 0.2


@commands.command()
def doctor(data_dir: DataDir = None, as_json: Json = False) -> None:
    """Check servers, settings and machine, and print how to fix what is wrong; changes nothing."""
    sys.dont_write_bytecode = True  # not of a handler's module either
    logs.configure("error")
    logging.disable(logging.CRITICAL)  # every problem is one of the findings
    conceal(secrets_given())
    config = configuration(data_dir=data_dir)
    raise_on_interrupt()
    with asyncio.Runner() as runner:
        code, error = 1, ""
        try:
            code = _check_and_print(runner, config, as_json=as_json)
        except KeyboardInterrupt:
            code, error = 130, "interrupted"
            raise
        except AppError as refused:
            error = str(refused)
            raise
        finally:
            if runner.run(_tasks_remain()):
                _exit_now(code, error)
    raise typer.Exit(code)


def _check_and_print(runner: asyncio.Runner, config: Configuration, *, as_json: bool) -> int:
    """1 if something is wrong."""
    stdout = sys.stdout
    try:
        items = runner.run(_examine(config))
    finally:
        sys.stdout = stdout  # a module that hangs while it is imported still has it redirected
    _print(items, as_json=as_json)
    return 1 if number_of("wrong", items) else 0


async def _examine(config: Configuration) -> list[Item]:
    from app.doctor.runner import examine  # its checks import whatever they check

    return [_without_passwords(item) for item in await examine(config)]


def _without_passwords(item: Item) -> Item:
    finding = item.found
    return replace(item, found=replace(finding, finding=without_passwords(finding.finding)))


def _exit_now(code: int, error: str) -> NoReturn:
    """End at once: the interpreter would wait for a name server or a disk that does not answer."""
    if error:
        output.print_note(f"error: {escape(error)}")
    os._exit(code)


async def _tasks_remain() -> bool:
    """Whether threads or coroutines are still running."""
    threads = asyncio.ensure_future(asyncio.get_running_loop().shutdown_default_executor())
    others = asyncio.all_tasks() - {asyncio.current_task()}
    _, pending = await asyncio.wait({threads, *others}, timeout=_THREADS_END_SECONDS)
    return bool(pending)


def _print(items: list[Item], *, as_json: bool) -> None:
    if as_json:
        documents = [item.document() for item in items]
        output.print_json(
            {"items": documents, "wrong": number_of("wrong", items), "warnings": number_of("warning", items)}
        )
        return
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    text = findings_text(items, width=terminal_width(), colour=colour, encoding=sys.stdout.encoding)
    output.write(f"{text}\n")
