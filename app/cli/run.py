"""``run``: one job here and now, in the foreground."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli import output
from app.cli.arguments import Queue
from app.cli.options import DataDir, Json
from app.cli.values import json_object
from app.errors import INTERRUPTED

if TYPE_CHECKING:
    from app.process.foreground import ForegroundHandler
    from app.settings import Settings
    from workers.engine.policy import QueuePolicy
    from workers.operations.foreground import ForegroundResult

commands = typer.Typer(rich_markup_mode=None)


@commands.command()
def run(
    queue: Queue,
    data: Annotated[str, typer.Option("--data", help="The job's arguments.", metavar="JSON")],
    key: Annotated[str | None, typer.Option("--key", help="The job's key; one is made by default.")] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Run one job here and now, in the foreground, with its traceback; 1 if it fails.

    It is in no queue: no timeout ends it, nothing retries it, and it becomes no dead letter.  Its
    handler really stores and enqueues.  breakpoint() stops in the handler.
    """
    from app.cli.settings import load_command_settings
    from app.process.interrupts import raise_on_interrupt

    arguments = json_object(data, "--data")
    settings, policies = load_command_settings(data_dir)
    raise_on_interrupt()
    running = _run(settings, policies, queue, arguments, key, as_json=as_json)
    raise typer.Exit(asyncio.run(running))


async def _run(
    settings: Settings,
    policies: Mapping[str, QueuePolicy],
    queue: str,
    data: Mapping[str, Any],
    key: str | None,
    *,
    as_json: bool,
) -> int:
    from app.process.foreground import open_foreground
    from workers.handlers.processes.launch import Streams

    streams = Streams(sys.stderr.fileno() if as_json else None)
    async with open_foreground(settings, policies, queue, data, streams) as handler:
        if not as_json:
            output.print_note(_heading(handler))
        with _interrupts(handler) as interrupts, redirect_stdout(sys.stderr if as_json else sys.stdout):
            result = await handler.operations.foreground.run(
                queue, data, handler.function, key=key, on_update=_print_update
            )
    if as_json:
        output.print_json(asdict(result))
    else:
        _print(result, handler.policy, interrupted=bool(interrupts))
    if result.error_type is None:
        return 0
    return INTERRUPTED if interrupts else 1


@contextmanager
def _interrupts(handler: ForegroundHandler) -> Iterator[list[bool]]:
    """Leave ctrl-C to a handler in a process of its own, whose terminal is ours; one entry for each."""
    received: list[bool] = []
    if handler.about is None:
        yield received
        return
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, received.append, True)
    try:
        yield received
    finally:
        loop.remove_signal_handler(signal.SIGINT)


def _heading(handler: ForegroundHandler) -> str:
    name = handler.name or "the built-in handler"
    where = (
        "in this process"
        if handler.about is None
        else f"in a process of Python {handler.about['python']} ({handler.about['executable']})"
    )
    return f"{handler.policy.function} of {handler.policy.name}: {name}, {where}"


def _print_update(fields: Mapping[str, Any]) -> None:
    for name, value in fields.items():
        output.print_note(f"{name}: {json.dumps(value, default=str)}")


def _print(result: ForegroundResult, policy: QueuePolicy, *, interrupted: bool) -> None:
    if result.traceback:
        output.print_note(result.traceback.rstrip())
    if result.error_type is None:
        output.print_note(f"done in {result.seconds:.3f} s")
        output.print_json(result.result)
    elif interrupted:
        output.print_note(f"error: interrupted after {result.seconds:.3f} s")
    else:
        error = ": ".join(dict.fromkeys((result.error_type, result.message or "")))
        output.print_note(
            f"error: failed after {result.seconds:.3f} s: {error}: {_consequence(result, policy)}"
        )
    if result.seconds > policy.timeout:
        output.print_note(
            f"warning: a worker would have ended it after {policy.timeout:g} s, the timeout of {policy.name}"
        )


def _consequence(result: ForegroundResult, policy: QueuePolicy) -> str:
    delay = policy.retry_delay(1)
    if result.permanent or delay is None:
        return "a worker would make it a dead letter"
    return f"a worker would retry it after {delay:g} s"
