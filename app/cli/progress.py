"""Shows how far a long command is: a bar on a terminal, else a line every few seconds."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

from app.cli import output
from app.cli.render.plans import progress_text, resume_command
from app.errors import CommandInterruptedError
from storage.asyncio_tools import cancel_and_wait
from tui.text.format import count
from workers.errors import WorkersError

if TYPE_CHECKING:
    from workers.operations.operations import Operations, Plan

_POLL_SECONDS = 0.5
_POLL_SHARE = 20
"""The pause between two polls is this many times as long as a poll: a large plan takes long to count."""
_LINE_SECONDS = 5.0
"""Between two lines if there is no terminal to draw on."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that end the command: ctrl-C, a service manager, a connection that breaks."""

T = TypeVar("T")
Show = Callable[[int, str], None]
"""Shows how many are done, and a few words about them."""


async def run_plan_with_progress(operations: Operations, plan: Plan, halt: float | None = None) -> Plan:
    """Run a plan until it is done, halts or is stopped; returns the plan at that time.

    Raises CommandInterruptedError after a signal: the plan is kept, and can be resumed.
    """
    from workers.operations.operations import OPERATION_ERRORS
    from workers.operations.replays import CLOSE_GRACE_SECONDS

    running = asyncio.create_task(operations.replays.run_plan(plan.id, halt=halt), name=f"plan {plan.id}")
    with interrupt_signals() as interrupted, _plan_progress(plan) as show:
        try:
            if plan.canary > 0:
                await _warn_without_worker(operations)
            pause = _POLL_SECONDS
            while not running.done():
                either: set[asyncio.Future[Any]] = {running, interrupted}
                await asyncio.wait(either, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
                if interrupted.done() and not running.done():
                    raise _interrupted_error(
                        f"plan {plan.id} is kept, resume it with {resume_command(plan)}", interrupted.result()
                    )
                started = time.monotonic()
                with suppress(*OPERATION_ERRORS):  # the run itself raises it, if it lasts
                    show(await operations.replays.get_plan(plan.id))
                pause = max(_POLL_SECONDS, _POLL_SHARE * (time.monotonic() - started))
            return running.result()
        except WorkersError:
            raise
        except OPERATION_ERRORS:
            output.print_note(f"plan {plan.id} is kept, resume it with {resume_command(plan)}")
            raise
        finally:
            await cancel_and_wait([running], retry_seconds=CLOSE_GRACE_SECONDS)


async def wait_for_jobs(operations: Operations, plan: Plan) -> Plan:
    """Wait until all enqueued jobs of a plan have ended; returns the plan at that time.

    Raises CommandInterruptedError after a signal: the jobs go on.
    """
    command = f"couturecast-tui failed-jobs plan {plan.id}"
    with interrupt_signals() as interrupted, _plan_progress(plan) as show:
        if plan.ledger.enqueued:
            await _warn_without_worker(operations)
        while plan.ledger.enqueued:
            await asyncio.wait({interrupted}, timeout=_POLL_SECONDS)
            if interrupted.done():
                raise _interrupted_error(
                    f"the jobs go on, {command} shows how they end", interrupted.result()
                )
            plan = await operations.replays.get_plan(plan.id)
            show(plan)
    return plan


def _interrupted_error(consequence: str, number: signal.Signals) -> CommandInterruptedError:
    return CommandInterruptedError(f"interrupted: {consequence}", exit_code=128 + number)


async def _warn_without_worker(operations: Operations) -> None:
    if not any(worker.alive for worker in (await operations.snapshot()).workers):
        output.print_note(
            "no worker is running: the jobs wait until one does, for instance couturecast-tui --no-ui"
        )


@contextmanager
def interrupt_signals() -> Iterator[asyncio.Future[signal.Signals]]:
    """Yield a future of the signal that ends the command.

    It cancels no task, since a cancellation may be lost on its way (see `storage.asyncio_tools`).
    """
    loop = asyncio.get_running_loop()
    received: asyncio.Future[signal.Signals] = loop.create_future()

    def receive(number: signal.Signals) -> None:
        if not received.done():
            received.set_result(number)

    for number in _SIGNALS:
        loop.add_signal_handler(number, receive, number)
    try:
        yield received
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)


async def unless_interrupted(
    reading: Coroutine[Any, Any, T], interrupted: asyncio.Future[signal.Signals]
) -> T | None:
    """Return the result, or None if a signal comes first: a server that does not answer delays no end."""
    task = asyncio.create_task(reading)
    either: set[asyncio.Future[Any]] = {task, interrupted}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        return task.result()
    await cancel_and_wait([task])
    return None


@contextmanager
def _plan_progress(plan: Plan) -> Iterator[Callable[[Plan], None]]:
    """Show how many letters of a plan are enqueued or skipped."""
    with show_progress(f"plan {plan.id}", plan.total) as show:

        def show_plan(now: Plan) -> None:
            show(now.ledger.sent + now.ledger.skipped, progress_text(now.ledger))

        if sys.stderr.isatty():
            show_plan(plan)
        yield show_plan


@contextmanager
def show_progress(title: str, total: int) -> Iterator[Show]:
    """Show how many of ``total`` are done, on stderr."""
    if not sys.stderr.isatty():
        print_line = _spaced_lines(title)
        yield lambda completed, words: print_line(
            f"{count(completed)} of {count(total)}{f', {words}' if words else ''}"
        )
        return
    with _bar(TextColumn("{task.completed:,.0f}/{task.total:,.0f}")) as bar:
        task = bar.add_task(title, total=total, words="")
        yield lambda completed, words: bar.update(task, completed=completed, words=words)


@contextmanager
def show_share(title: str) -> Iterator[Callable[[float | None, str], None]]:
    """Show which share (0 to 1; None: unknown) of a command is done, on stderr."""
    if not sys.stderr.isatty():
        print_line = _spaced_lines(title)
        yield lambda share, words: print_line(words if share is None else f"{words}, {share:.0%}")
        return
    with _bar(TaskProgressColumn()) as bar:
        task = bar.add_task(title, total=None, words="")
        yield lambda share, words: bar.update(
            task, total=None if share is None else 1.0, completed=share or 0.0, words=words
        )


def _bar(amount: ProgressColumn) -> Progress:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        amount,
        TextColumn("{task.fields[words]}", markup=False),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _spaced_lines(title: str) -> Callable[[str], None]:
    """Print a line every few seconds."""
    printed_at = time.monotonic()

    def print_line(text: str) -> None:
        nonlocal printed_at
        if time.monotonic() - printed_at >= _LINE_SECONDS:
            printed_at = time.monotonic()
            output.print_note(f"{title}: {text}")

    return print_line
