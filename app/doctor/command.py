"""``couturecast-tui doctor``."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from app import logs, output
from app.doctor.findings import Finding, Item, number_of
from app.doctor.settings import Configuration, configuration
from app.doctor.text import findings_text
from app.settings import Settings

_THREADS_END_SECONDS = 0.2
_SHORTEST_SECRET = 4


def doctor(data_dir: Path | None, *, as_json: bool) -> int:
    """Check everything and print it; 1 where something is wrong.  Raises AppError."""
    stdout = sys.stdout
    logs.configure("error")
    logging.getLogger().setLevel(logging.CRITICAL)  # what goes wrong is told below, in a line
    of = configuration(data_dir=data_dir)
    with asyncio.Runner() as runner:
        items = runner.run(_examine(of))
        sys.stdout = stdout  # a module that hangs while it is imported still has it redirected
        items = _without_secrets(items, _secrets(of.settings))
        _print(items, as_json=as_json)
        code = 1 if number_of("wrong", items) else 0
        if runner.run(_hang()):
            os._exit(code)  # a name server or a disk that does not answer would be waited for
    return code


async def _examine(of: Configuration) -> list[Item]:
    from app.doctor.patient import examine

    return await examine(of)


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


def _secrets(settings: Settings) -> set[str]:
    """Whatever no line may hold; foreign words, as of a handler that cannot be imported, may quote it."""
    values = {value.get_secret_value() for _, value in settings if isinstance(value, SecretStr)}
    passwords = {urlsplit(value).password or "" for value in values if "://" in value}
    found = {value for value in values if "://" not in value} | passwords | set(map(unquote, passwords))
    return {each for each in found if len(each) >= _SHORTEST_SECRET}


def _without_secrets(items: Iterable[Item], secrets: set[str]) -> list[Item]:
    def hidden(text: str) -> str:
        for secret in secrets:
            text = text.replace(secret, "***")
        return text

    return [
        replace(
            item,
            found=Finding(
                item.found.state,
                hidden(item.found.finding),
                hidden(item.found.consequence),
                hidden(item.found.mend),
            ),
        )
        for item in items
    ]
