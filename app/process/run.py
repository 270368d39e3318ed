"""Runs the long-running forms, headless or with the dashboard: starting, serving, draining, closed."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any

import structlog
import uvloop

from app import logs
from app.address import local_address
from app.errors import InterruptedStartError, UsageError, explain_shortage
from app.http.service import admin_token, open_listener, serve_in_background
from app.imports import without_collector
from app.process.composition import Appliance, open_appliance
from app.process.end_of_input import drain_at_end_of_input
from app.process.exit import exit_now, tasks_remain, warn_of_threads
from app.process.group import ProcessGroup
from app.process.interrupts import raise_on_interrupt
from app.process.signals import START_INTERRUPT_CODES, run_interruptible, set_stop_action
from app.process.systemd import SystemdNotifier
from app.running import announce
from app.servers.redis_eviction import check_eviction
from app.servers.redis_startup import until_redis_serves
from app.servers.redis_tls import warn_if_unchecked
from app.settings import Settings
from app.streams import write_within
from workers.engine.policy import QueuePolicy
from workers.process.worker_process import WorkerProcess
from workers.words import requeued_text

if TYPE_CHECKING:
    from app.process.dashboard import DashboardView

log = structlog.get_logger(__name__)

DRAINED_WITH_JOBS_RETURNED = 3
"""Exit code of a drain that requeued unfinished jobs."""
_EXIT_GRACE_SECONDS = 1.0
_FIRST_TURN_SECONDS = 2.0
"""Seconds that ``ready`` waits for the first turn of each queue; `/readyz` names those without one."""


@dataclass(frozen=True)
class RunOptions:
    """The parts to run; without ``queues`` there are no workers."""

    settings: Settings
    policies: Mapping[str, QueuePolicy]
    queues: tuple[str, ...]
    ui: bool
    demo: bool
    reload: bool = False
    """Whether handler processes are replaced when their code changes."""
    processes: int | None = None
    """Worker processes that this one starts and watches; None: it runs the workers itself."""
    until_eof: bool = False
    """Whether the workers drain once standard input ends: with the process that started this one."""
    browser: str | None = None
    """Address of the browser that shows the dashboard; None if a terminal does."""


def run(
    settings: Settings,
    policies: Mapping[str, QueuePolicy],
    *,
    ui: bool,
    workers: bool,
    demo: bool,
    queues: str | None,
    reload: bool = False,
    processes: int | None = None,
    until_eof: bool = False,
    browser: str | None = None,
) -> int:
    """Run until drained or quit and return the exit code.  Raises AppError."""
    selected = _parse_queues(queues, policies) if workers else ()
    if not (ui or selected):
        raise UsageError("--no-ui needs workers")
    if ui:
        with without_collector():
            from app.process.dashboard import load_keymap

        load_keymap(settings)  # a mistake ends the start before any server is opened
    if demo:
        from app.process.demo import demo_policies, demo_settings

        settings, policies = demo_settings(settings), demo_policies(policies)
    logs.log_stray_output()
    logs.set_release(settings.release)
    raise_on_interrupt()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        options = RunOptions(settings, policies, selected, ui, demo, reload, processes, until_eof, browser)
        code = _run_to_end(runner, _run(options))
        blocked = ui and _is_terminal_blocked()
        if runner.run(tasks_remain(_EXIT_GRACE_SECONDS)) or blocked:
            # The interpreter would wait without end for a handler's thread, for a handler that ignores its
            # cancellation, and for a blocked terminal.  All jobs are settled and everything is closed.
            warn_of_threads()
            exit_now(code, flush=not blocked)
    return code


async def _run(options: RunOptions) -> int:
    """Run all phases; leaving the stack closes everything in reverse order."""
    async with AsyncExitStack() as stack:
        lifecycle = Lifecycle(options, stack)
        await lifecycle.start()
        await lifecycle.serve()
        return await lifecycle.drain()


class Lifecycle:
    """One run of the program; its phases are called in order."""

    def __init__(self, options: RunOptions, stack: AsyncExitStack) -> None:
        self._options = options
        self._stack = stack
        self._dashboard: DashboardView | None = None
        self._group: ProcessGroup | None = None
        self._drained: asyncio.Task[int] | None = None
        """Resolves to the number of jobs that were requeued, of a group to its exit code."""
        self._dashboard_code = 0
        self._appliance: Appliance

    async def start(self) -> None:
        """Open the port of HTTP, the servers and the stores; a stop signal interrupts that."""
        options = self._options
        self._systemd = SystemdNotifier(os.environ)
        self._listener, listener_problem = open_listener(options.settings)
        if self._listener is not None:
            self._stack.callback(self._listener.close)
        self._appliance = await run_interruptible(_open_appliance(self._stack, options))
        self._announce()
        if options.ui:
            self._open_dashboard()
        if listener_problem:
            fix = "name an address with --http HOST:PORT, or use --no-http"
            log.warning(f"no HTTP: {fix}", cause=listener_problem)

    def _announce(self) -> None:
        """Let `probe` find this process by its data directory."""
        address = local_address(self._listener) if self._listener is not None else None
        try:
            self._stack.enter_context(announce(self._appliance.data_dir, address))
        except OSError as error:
            log.warning("probe cannot find this process", cause=explain_shortage(error) or str(error))

    def _open_dashboard(self) -> None:
        """Give the screen to the dashboard: logs and output go to a file from now on."""
        from app.process.dashboard import LOG_FILE, DashboardView

        log_file = self._appliance.data_dir / LOG_FILE
        self._stack.enter_context(logs.to_file(self._options.settings.log_level, log_file))
        self._dashboard = DashboardView(
            self._appliance, log_file, demo=self._options.demo, browser=self._options.browser
        )
        self._stack.callback(self._dashboard.close)

    async def serve(self) -> None:
        """Take jobs, serve HTTP and show the dashboard; with workers a stop signal drains from now on."""
        appliance = self._appliance
        token = admin_token(appliance.settings, appliance.data_dir) if self._listener is not None else ""
        if appliance.process is not None:
            await _start_workers(appliance, appliance.process)
            self._drained = asyncio.create_task(appliance.process.wait_drained())
            if self._options.until_eof:
                drain_at_end_of_input(appliance.process.begin_drain)
            self._run_in_background(
                self._systemd.report(appliance.process, appliance.operations.stall_reasons)
            )
        if self._options.processes is not None:
            await self._start_group(self._options.processes)
        if self._dashboard is None:
            write_within(0.0, sys.stdout, "ready\n")
        http = serve_in_background(
            self._listener,
            appliance.operations,
            appliance.process,
            token,
            self._drained if appliance.process is not None else None,
            appliance.settings.release,
            self._unready,
            after=None if self._dashboard is None else self._dashboard.wait_painted,
        )
        await self._stack.enter_async_context(http)
        if self._options.demo:
            from app.process.demo import run_feed

            self._run_in_background(run_feed(appliance))
        if self._dashboard is not None:
            if self._drained is None:
                self._dashboard_code = await self._dashboard.show()
            else:
                await self._dashboard.show_until_drained(self._drained)

    def _unready(self) -> list[str]:
        process = self._appliance.process
        if self._group is not None:
            return self._group.unready()
        return [] if process is None else [*process.unready(), *process.stalled_queues()]

    async def _start_group(self, count: int) -> None:
        """Start the worker processes; a stop signal is passed on to them from now on."""
        options = self._options
        arguments = ["--no-ui", "--no-http", "--data-dir", str(self._appliance.data_dir)]
        arguments += ["--queues", ",".join(options.queues), *(["--reload"] if options.reload else [])]
        self._group = ProcessGroup(count, arguments, drain_seconds=options.settings.drain_seconds)
        self._drained = asyncio.create_task(self._group.run())
        set_stop_action(self._group.drain)
        if self._dashboard is None:
            await self._group.wait_started()
        self._run_in_background(self._systemd.report_group(self._group))

    def _run_in_background(self, running: Coroutine[Any, Any, None]) -> None:
        """Run this in the background until the end."""
        self._stack.callback(asyncio.create_task(running).cancel)

    async def drain(self) -> int:
        """Wait until the workers have drained and return the exit code.

        A stop signal or a request by HTTP begins the drain; with a dashboard, leaving it does, too.
        """
        process = self._appliance.process
        if self._group is not None and self._drained is not None:
            if self._dashboard is not None:
                self._group.drain()
            return await self._drained
        if process is None or self._drained is None:
            return self._dashboard_code
        if self._dashboard is not None:
            process.begin_drain()
        requeued_jobs = await self._drained
        if not requeued_jobs:
            return 0
        if self._dashboard is not None:
            _print_line(f"drained: {requeued_text(requeued_jobs)}")
        return DRAINED_WITH_JOBS_RETURNED


async def _open_appliance(stack: AsyncExitStack, options: RunOptions) -> Appliance:
    settings = options.settings
    appliance = await stack.enter_async_context(
        open_appliance(
            settings,
            options.policies,
            run=options.queues if options.processes is None else (),
            reload=options.reload,
            database="later",
        )
    )
    cache = settings.cache_redis_url
    cache_url = cache.get_secret_value() if cache is not None else None
    for redis in appliance.redises:
        warn_if_unchecked(redis.url)
    checks = (
        check_eviction(
            redis.url,
            cache_url if redis.url == appliance.redis_url else cache_url or appliance.redis_url,
            redis.variable,
        )
        for redis in appliance.redises
        if redis.queues and redis.answers
    )
    await asyncio.gather(*checks)
    return appliance


async def _start_workers(appliance: Appliance, process: WorkerProcess) -> None:
    """Take jobs; from now on a stop signal drains, and a second SIGINT ends the wait.

    Waits for a Redis that does not serve yet; a stop signal ends that wait.
    """
    received: list[signal.Signals] = []
    interrupts = 0

    def drain(number: signal.Signals) -> None:
        received.append(number)
        if number is signal.SIGINT and process.draining:
            process.drain_now()
        process.begin_drain()

    def note(number: int, _: FrameType | None) -> None:
        nonlocal interrupts
        interrupts += number == signal.SIGINT
        process.stop_asked(now=interrupts > 1)

    set_stop_action(drain, while_blocked=note)

    async def start() -> None:
        if received:
            raise InterruptedStartError(START_INTERRUPT_CODES[received[0]])
        await process.start()

    redis = next(redis for redis in appliance.redises if redis.url == process.links[0].url)
    await until_redis_serves(start, redis.url, appliance.settings.start_timeout, redis.variable)
    await process.wait_taking(_FIRST_TURN_SECONDS)


def _parse_queues(queues: str | None, policies: Mapping[str, QueuePolicy]) -> tuple[str, ...]:
    if queues is None:
        return tuple(policies)
    names = tuple(dict.fromkeys(name.strip() for name in queues.split(",") if name.strip()))
    unknown = [name for name in names if name not in policies]
    if unknown or not names:
        problem = f"unknown queue {unknown[0]!r}" if unknown else "no queue is named"
        raise UsageError(problem, field="--queues", fix=f"use some of {', '.join(policies)}")
    return names


def _run_to_end(runner: asyncio.Runner, running: Coroutine[Any, Any, int]) -> int:
    """Run until ``running`` has ended, whatever a callback or a task of a handler raises.

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


def _is_terminal_blocked() -> bool:
    from tui.driver import is_terminal_blocked

    return is_terminal_blocked()


def _print_line(line: str) -> None:
    from app.process.dashboard import print_line

    print_line(line)
