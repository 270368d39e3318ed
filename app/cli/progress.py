"""A plan that is carried out while somebody looks on: progress on stderr, how to go on where it breaks."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from app import output
from app.cli.render.plans import progress_text
from app.errors import AppError
from storage.asyncio_tools import cancel_and_wait
from tui.text.format import count
from workers.errors import WorkersError
from workers.operations.operations import OPERATION_ERRORS, Operations, Plan
from workers.operations.replays import CLOSE_GRACE_SECONDS

_LOOK = 0.5
"""Seconds between two looks at the plan."""
_SHARE = 20
"""The pause between two looks is so many times as long as a look: a large plan takes long to count."""
_LINES = 5.0
"""Seconds between two lines where there is no terminal to draw on."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What ends the command: a connection that breaks, and a service manager, as ctrl-C does."""

Show = Callable[[Plan], None]


class BrokenOffError(AppError):
    """The operator, or the system, ended the command while a plan went on."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


async def carried_out(operations: Operations, plan: Plan, halt: float | None = None) -> Plan:
    """Run a plan to its end, or until it halts or is stopped; how it stands then.

    Raises BrokenOffError at ctrl-C and SIGTERM: the plan stays, and can be resumed.
    """
    how = f"couturecast-tui failed-jobs resume {plan.id}"
    running = asyncio.create_task(operations.replays.run_plan(plan.id, halt=halt), name=f"plan {plan.id}")
    with _signals() as came, _progress(plan) as show:
        try:
            await _warn_of_no_worker(operations, wanted=plan.canary > 0)
            pause = _LOOK
            while not running.done():
                either: set[asyncio.Future[Any]] = {running, came}
                await asyncio.wait(either, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
                if came.done() and not running.done():
                    kept = f"interrupted: plan {plan.id} is kept, go on with {how}"
                    raise BrokenOffError(kept, came.result())
                begun = time.monotonic()
                with suppress(*OPERATION_ERRORS):  # the run itself says so, where it lasts
                    show(await operations.replays.get_plan(plan.id))
                pause = max(_LOOK, _SHARE * (time.monotonic() - begun))
            return running.result()
        except WorkersError:
            raise
        except OPERATION_ERRORS:
            output.note(f"plan {plan.id} is kept, go on with {how}")
            raise
        finally:
            await cancel_and_wait([running], retry_seconds=CLOSE_GRACE_SECONDS)


async def waited(operations: Operations, plan: Plan) -> Plan:
    """Wait until all jobs of a plan that were enqueued have ended; how it stands then.

    Raises BrokenOffError at ctrl-C and SIGTERM: the jobs go on.
    """
    look = f"couturecast-tui failed-jobs plan {plan.id}"
    with _signals() as came, _progress(plan) as show:
        await _warn_of_no_worker(operations, wanted=plan.ledger.enqueued > 0)
        while plan.ledger.enqueued:
            await asyncio.wait({came}, timeout=_LOOK)
            if came.done():
                raise BrokenOffError(f"interrupted: the jobs go on, {look} shows how they end", came.result())
            plan = await operations.replays.get_plan(plan.id)
            show(plan)
    return plan


async def _warn_of_no_worker(operations: Operations, *, wanted: bool) -> None:
    if wanted and not any(worker.alive for worker in (await operations.snapshot()).workers):
        output.note(
            "no worker is running: the jobs wait until one does, for instance couturecast-tui --no-ui"
        )


@contextmanager
def _signals() -> Iterator[asyncio.Future[signal.Signals]]:
    """The signal that comes to end the command.

    No task is cancelled by it: a cancellation may be lost on its way (see `storage.asyncio_tools`).
    """
    loop = asyncio.get_running_loop()
    came: asyncio.Future[signal.Signals] = loop.create_future()

    def end(number: signal.Signals) -> None:
        if not came.done():
            came.set_result(number)

    for each in _SIGNALS:
        loop.add_signal_handler(each, end, each)
    try:
        yield came
    finally:
        for each in _SIGNALS:
            loop.remove_signal_handler(each)


@contextmanager
def _progress(plan: Plan) -> Iterator[Show]:
    """Shows how far a plan is: a bar on a terminal, a line every few seconds elsewhere."""
    if not sys.stderr.isatty():
        yield _lines()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
        TextColumn("{task.fields[words]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"plan {plan.id}", total=plan.total, words="")

        def show(now: Plan) -> None:
            done = now.ledger.sent + now.ledger.skipped
            bar.update(task, completed=done, words=progress_text(now.ledger))

        show(plan)
        yield show


def _lines() -> Show:
    said = time.monotonic()

    def show(now: Plan) -> None:
        nonlocal said
        if time.monotonic() - said >= _LINES:
            said = time.monotonic()
            done = f"{count(now.ledger.sent)} of {count(now.total)} enqueued"
            output.note(f"plan {now.id}: {done}, {progress_text(now.ledger)}")

    return show
