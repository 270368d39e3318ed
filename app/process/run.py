"""The long-running forms: headless, or with the dashboard."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Coroutine, Mapping
from contextlib import AsyncExitStack, ExitStack
from multiprocessing import resource_tracker
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TextIO

import structlog
import uvloop

from app import logs
from app.errors import AppError, InterruptedStartError, UsageError
from app.http.service import admin_token, listener, serving
from app.process.composition import Appliance, appliance
from app.process.interrupts import raise_on_interrupt
from app.process.shutdown import exit_at_once, warn_of_threads
from app.process.signals import handle
from app.servers.redis_eviction import check_eviction
from app.servers.redis_startup import until_redis_serves
from app.servers.redis_tls import warn_where_unchecked
from app.settings import Settings
from app.streams import write_within
from workers.engine.policy import QueuePolicy
from workers.process.worker_process import WorkerProcess

if TYPE_CHECKING:
    from tui.app import Dashboard

log = structlog.get_logger(__name__)

LOG_FILE = "couturecast-tui.log"
"""In the data directory: what is logged, and what is printed, while the dashboard is open."""

DRAINED_WITH_JOBS_PUT_BACK = 3
_LEFT_BEHIND_SECONDS = 1.0
_FIRST_TURN_SECONDS = 2.0
"""Seconds that ``ready`` waits for the first turn of each queue; `/readyz` says which has made none."""
_BROKEN_OFF = {signal.SIGINT: 130, signal.SIGTERM: 0, signal.SIGHUP: 0}
"""Exit codes of a start that a signal broke off: no job was taken, so a drain has nothing to do."""


def run(
    settings: Settings,
    policies: Mapping[str, QueuePolicy],
    *,
    ui: bool,
    workers: bool,
    demo: bool,
    queues: str | None,
) -> int:
    """Run until drained or quit; the exit code.  Raises AppError."""
    chosen = _chosen(queues, policies) if workers else ()
    if demo:
        from app.process.demo import demo_settings

        settings = demo_settings(settings)
    logs.log_stray_output()
    raise_on_interrupt()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        code = _persistent(runner, _run(settings, policies, chosen, ui=ui, demo=demo))
        stuck = ui and _terminal_stands_still()
        if runner.run(_left_behind()) or stuck:
            # A handler's thread, or a handler that ignores its cancellation, would be waited for without end.
            # So would a terminal that takes nothing.
            # Its job has been settled; everything is closed.
            warn_of_threads()
            exit_at_once(code, flush=not stuck)
    return code


def _persistent(runner: asyncio.Runner, running: Coroutine[Any, Any, int]) -> int:
    """Run until ``running`` has ended, whatever comes out of a callback or a task of a handler meanwhile.

    asyncio lets a KeyboardInterrupt or a SystemExit that one of them raises end the event loop.  Ctrl-C is a
    signal that the loop handles, and raises neither.
    """
    task = runner.get_loop().create_task(running)
    while True:
        try:
            return runner.run(_result(task))
        except (KeyboardInterrupt, SystemExit) as error:
            if task.done():
                raise
            name = type(error).__name__
            log.exception("a handler's task or callback raised what ends programs: ignored", error=name)


async def _result(task: asyncio.Task[int]) -> int:
    return await task


def _terminal_stands_still() -> bool:
    from tui.driver import stands_still

    return stands_still()


async def _left_behind() -> bool:
    """Whether coroutines or threads go on after a second."""
    loop = asyncio.get_running_loop()
    threads = asyncio.ensure_future(loop.shutdown_default_executor())
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others - {threads}:
        task.cancel()
    _, pending = await asyncio.wait({threads, *others}, timeout=_LEFT_BEHIND_SECONDS)
    return bool(pending)


def _chosen(queues: str | None, policies: Mapping[str, QueuePolicy]) -> tuple[str, ...]:
    if queues is None:
        return tuple(policies)
    names = tuple(dict.fromkeys(name.strip() for name in queues.split(",") if name.strip()))
    unknown = [name for name in names if name not in policies]
    if unknown or not names:
        wrong = f"unknown queue {unknown[0]!r}" if unknown else "no queue is named"
        raise UsageError(f"--queues: {wrong}: use some of {', '.join(policies)}")
    return names


async def _run(
    settings: Settings, policies: Mapping[str, QueuePolicy], queues: tuple[str, ...], *, ui: bool, demo: bool
) -> int:
    async with AsyncExitStack() as stack:
        door, no_door = listener(settings)
        if door is not None:
            stack.callback(door.close)
        each = await _started(_opened(stack, settings, policies, queues))
        log_file = each.data_dir / LOG_FILE
        if ui:  # the screen belongs to the dashboard
            stack.enter_context(logs.to_file(settings.log_level, log_file))
        redirect = stack.enter_context(ExitStack())
        terminal = _private_terminal(redirect, log_file) if ui else None
        if no_door:
            log.warning("no HTTP: name an address with --http HOST:PORT, or use --no-http", cause=no_door)
        token = admin_token(settings, each.data_dir) if door is not None else ""
        drained = None
        if each.process is not None:
            await _start(each, each.process)
            drained = asyncio.create_task(each.process.drained())
        if not ui:
            write_within(0.0, sys.stdout, "ready\n")
        await stack.enter_async_context(serving(door, each.operations, each.process, token, drained))
        if demo:
            from app.process.demo import feed

            feeding = asyncio.create_task(feed(each))
            stack.callback(feeding.cancel)
        if terminal is not None:
            return await _dashboard(_screen(each, terminal, demo=demo), each.process, drained, redirect)
        if drained is None:
            raise UsageError("--no-ui needs workers")
        return DRAINED_WITH_JOBS_PUT_BACK if await drained else 0


async def _opened(
    stack: AsyncExitStack, settings: Settings, policies: Mapping[str, QueuePolicy], queues: tuple[str, ...]
) -> Appliance:
    each = await stack.enter_async_context(appliance(settings, policies, run=queues, database="later"))
    warn_where_unchecked(each.redis_url)
    cache = settings.cache_redis_url
    await check_eviction(each.redis_url, cache.get_secret_value() if cache is not None else None)
    return each


async def _started(starting: Coroutine[Any, Any, Appliance]) -> Appliance:
    """Await the start; a signal breaks it off, and what was started is stopped.

    The start is told once and then waited for: its clean-up must not be broken off, too, and where the word
    was lost on its way (as ``asyncio.wait_for`` of Python 3.11 may do) it ends all the same.
    """
    task = asyncio.ensure_future(starting)
    codes: list[int] = []

    def interrupt(code: int) -> None:
        if not codes:
            codes.append(code)
            task.cancel()

    for name, code in _BROKEN_OFF.items():
        handle(name, interrupt, code)
    await asyncio.wait({task})
    if codes and (task.cancelled() or task.exception() is None):
        raise InterruptedStartError(codes[0])
    return task.result()


async def _start(each: Appliance, process: WorkerProcess) -> None:
    """Take jobs; from now on SIGTERM, SIGHUP and SIGINT drain, and a second SIGINT ends the wait.

    A Redis that does not serve yet is waited for; a signal ends that.
    """
    signals: list[signal.Signals] = []

    def interrupt(name: signal.Signals) -> None:
        signals.append(name)
        if name is signal.SIGINT and process.draining:
            process.cut_short()
        process.begin_drain()

    asked = 0

    def note(number: int, _: FrameType | None) -> None:
        nonlocal asked
        asked += number == signal.SIGINT
        process.stop_asked(now=asked > 1)

    for name in _BROKEN_OFF:
        handle(name, interrupt, name, while_blocked=note)

    async def start() -> None:
        if signals:
            raise InterruptedStartError(_BROKEN_OFF[signals[0]])
        await process.start()

    await until_redis_serves(start, each.redis_url, each.settings.start_patience)
    await process.taking(_FIRST_TURN_SECONDS)


def _private_terminal(redirect: ExitStack, log_file: Path) -> TextIO:
    """The terminal for the dashboard alone, until ``redirect`` is closed."""
    from tui.redirect import private_terminal

    return redirect.enter_context(private_terminal(log_file))


def _screen(each: Appliance, terminal: TextIO, *, demo: bool) -> Dashboard:
    from tui.app import Dashboard

    # Started lazily, it would be handed what Textual puts in place of standard error.
    resource_tracker.ensure_running()
    return Dashboard(each.operations, demo=demo, interval=each.settings.pace.snapshot, terminal=terminal)


async def _dashboard(
    screen: Dashboard, process: WorkerProcess | None, drained: asyncio.Task[int] | None, redirect: ExitStack
) -> int:
    if process is None or drained is None:
        for name in (signal.SIGTERM, signal.SIGHUP):
            handle(name, screen.exit, 0)
        await screen.run_async()
        redirect.close()
        if screen.failed:
            raise AppError(f"the dashboard has failed: {LOG_FILE} in the data directory says where")
        return screen.return_code or 0
    drained.add_done_callback(lambda _: screen.drained())
    showing = asyncio.create_task(screen.run_async())
    await asyncio.wait({showing})
    redirect.close()
    if screen.failed and not drained.done():
        _go_on_without(showing)
    else:
        process.begin_drain()  # also where the screen was left in another way than by a drain
    put_back = await drained
    if put_back:
        _say(f"drained: {put_back} jobs went back to the head of their queues")
        return DRAINED_WITH_JOBS_PUT_BACK
    return 0


def _go_on_without(showing: asyncio.Task[Any]) -> None:
    """The workers do not end because the dashboard did."""
    log.error("the dashboard has failed and is closed, the workers go on", exc_info=showing.exception())
    for name in (signal.SIGTSTP, signal.SIGCONT):  # Textual's own handlers would write to its terminal
        signal.signal(name, signal.SIG_DFL)
    _say(f"the dashboard has failed, the workers go on: ctrl-C drains; see {LOG_FILE} in the data directory")


def _say(line: str) -> None:
    """A line on the terminal, if it takes any."""
    if not _terminal_stands_still():
        write_within(_LEFT_BEHIND_SECONDS, sys.stderr, f"{line}\n")
