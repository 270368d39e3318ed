"""``couturecast-tui doctor``."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from app import logs, output
from app.cli.render.doctor import findings_text
from app.doctor.checks.settings import Configuration, configuration
from app.doctor.redaction import conceal, secrets_given, without_passwords
from app.doctor.results import Item, number_of
from app.errors import AppError
from app.process.interrupts import raise_on_interrupt
from tui.text.format import escape

_THREADS_END_SECONDS = 0.2


def doctor(data_dir: Path | None, *, as_json: bool) -> int:
    """Check everything and print it; 1 where something is wrong.  Raises AppError."""
    logs.configure("error")
    logging.disable(logging.CRITICAL)  # what goes wrong is told below, in a line
    conceal(secrets_given())
    of = configuration(data_dir=data_dir)
    raise_on_interrupt()
    with asyncio.Runner() as runner:
        code, error = 1, ""
        try:
            code = _reported(runner, of, as_json=as_json)
        except KeyboardInterrupt:
            code, error = 130, "interrupted"
            raise
        except AppError as refused:
            error = str(refused)
            raise
        finally:
            if runner.run(_hang()):
                _leave(code, error)
    return code


def _reported(runner: asyncio.Runner, of: Configuration, *, as_json: bool) -> int:
    stdout = sys.stdout
    try:
        items = runner.run(_examine(of))
    finally:
        sys.stdout = stdout  # a module that hangs while it is imported still has it redirected
    _print(items, as_json=as_json)
    return 1 if number_of("wrong", items) else 0


async def _examine(of: Configuration) -> list[Item]:
    from app.doctor.runner import examine

    return [_without_passwords(item) for item in await examine(of)]


def _without_passwords(item: Item) -> Item:
    found = item.found
    return replace(item, found=replace(found, finding=without_passwords(found.finding)))


def _leave(code: int, error: str) -> NoReturn:
    """End at once: a name server or a disk that does not answer would be waited for."""
    if error:
        output.note(f"error: {escape(error)}")
    os._exit(code)


async def _hang() -> bool:
    """Whether threads or coroutines go on although nobody waits for them."""
    threads = asyncio.ensure_future(asyncio.get_running_loop().shutdown_default_executor())
    others = asyncio.all_tasks() - {asyncio.current_task()}
    _, pending = await asyncio.wait({threads, *others}, timeout=_THREADS_END_SECONDS)
    return bool(pending)


def _print(items: list[Item], *, as_json: bool) -> None:
    if as_json:
        documents = [item.document() for item in items]
        output.document(
            {"items": documents, "wrong": number_of("wrong", items), "warnings": number_of("warning", items)}
        )
        return
    terminal = sys.stdout.isatty()
    text = findings_text(
        items,
        width=shutil.get_terminal_size().columns if terminal else None,
        colour=terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb",
        encoding=sys.stdout.encoding,
    )
    output.piece(f"{text}\n")
