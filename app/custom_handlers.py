"""The handlers that COUTURECAST_HANDLERS names: where each is found, and whether it can be imported."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from app.errors import UsageError
from app.queue_settings import queue_prefix
from app.settings import Settings
from couturecast_handlers.importing import describe_function
from workers.engine.policy import QueuePolicy
from workers.engine.runner import SaqFunction
from workers.errors import HandlerImportError
from workers.handlers.processes.launch import HandlerSource, Streams
from workers.handlers.processes.pool import HandlerPool
from workers.handlers.registry import import_inline_handler, parse_custom_handlers


def custom_handlers(settings: Settings, policies: Mapping[str, QueuePolicy]) -> dict[str, str]:
    """Return the functions that COUTURECAST_HANDLERS names, as ``module:function`` by queue.

    Raises UsageError, also if a folder to import them from is missing.
    """
    try:
        names = parse_custom_handlers(settings.handlers, policies)
    except HandlerImportError as error:
        raise to_usage_error(error) from None
    for folder in settings.handlers_path if names else ():
        if not folder.is_dir():
            problem, field = f"{folder} is not a folder", "COUTURECAST_HANDLERS_PATH"
            raise UsageError(problem, field=field, fix="make it, or correct the path")
    return names


@dataclass(frozen=True, slots=True)
class FoundHandler:
    """A custom handler that can be imported, and the interpreter that runs it."""

    signature: str
    is_async: bool
    place: str
    """File and line; empty for one that is written in C."""
    python: str
    """Version of the interpreter."""
    executable: str


async def find_handler(policy: QueuePolicy, name: str, settings: Settings) -> FoundHandler:
    """Import a custom handler as a start does, where it will run, and change nothing.  Raises UsageError."""
    try:
        if policy.run == "inline":
            function = await asyncio.to_thread(import_inline, policy, name, settings)
            return _found_handler(describe_function(function))
        source = replace(handler_source(policy, name, settings), writes_bytecode=False)
        pool = HandlerPool(source, _refuse_to_enqueue)
        try:
            await pool.start()
            return _found_handler(pool.processes[0].about)
        finally:
            await pool.close()
    except HandlerImportError as error:
        raise to_usage_error(error) from error.__cause__  # what it quotes may be secret


def _found_handler(facts: Mapping[str, Any]) -> FoundHandler:
    names = ("signature", "async", "place", "python", "executable")
    return FoundHandler(*(facts[name] for name in names))


def import_inline(policy: QueuePolicy, name: str, settings: Settings) -> SaqFunction:
    """Import a custom handler into this process.  Raises HandlerImportError."""
    setting = f"{queue_prefix(policy.name)}RUN"
    return import_inline_handler(name, setting, list(map(str, settings.handlers_path)))


async def _refuse_to_enqueue(*_: object) -> str | None:
    raise NotImplementedError


def to_usage_error(error: HandlerImportError) -> UsageError:
    """Return the error as one of the settings."""
    return UsageError(error.problem, field="COUTURECAST_HANDLERS", fix=error.fix)


def handler_source(
    policy: QueuePolicy, name: str, settings: Settings, streams: Streams | None = None
) -> HandlerSource:
    """Return where the custom handler of a queue is found; with ``streams`` it runs in the foreground."""
    python = str(settings.handlers_python or sys.executable)
    return HandlerSource(policy.name, name, python, tuple(map(str, settings.handlers_path)), streams)
