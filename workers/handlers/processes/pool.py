"""The handler processes of one queue: as many as its jobs need, replaced when they end."""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import structlog
from saq import Job

from storage.backoff import Backoff
from workers.engine.attempts import META
from workers.engine.runner import SaqFunction
from workers.errors import HandlerImportError, HandlerInterruptedError
from workers.handlers.processes.launch import HandlerSource
from workers.handlers.processes.process import HandlerProcess, ProcessStack
from workers.handlers.processes.recycle import NEVER, Recycle

log = structlog.get_logger(__name__)

_MAX_SUSPECTS = 1_000
_MAX_STARTS = os.cpu_count() or 1
"""Processes that start at once: more of them import nothing faster, and may not be needed any more."""
_FIRST_RETRY_SECONDS, _MAX_RETRY_SECONDS = 0.1, 5.0

EnqueueJob = Callable[[str, dict[str, Any], str | None, float], Awaitable[str | None]]
"""Enqueues a job of a function, with data, key and Unix time; its key, None if one with it waits."""


class HandlerPool:
    """Runs the jobs of one queue in processes.

    ``async def`` handlers share one process; a plain ``def`` handler has one for each job in flight.  If a
    process dies of an unknown cause, its jobs run alone the next time, so that the cause shows; so does a
    job that was cancelled, but not by us.
    """

    def __init__(self, source: HandlerSource, enqueue: EnqueueJob, recycle: Recycle = NEVER) -> None:
        self.source = source
        self.problem: str | None = None
        """Why the newest process could not be started; None while it can be."""
        self.on_problem: Callable[[], None] = lambda: None
        """Called when that changes."""
        self._files: dict[str, list[int]] = {}
        self._files_to_fix: dict[str, list[int]] = {}
        """Files and folders of the import that failed."""
        self._enqueue = enqueue
        self._recycle = recycle
        self._processes: list[HandlerProcess] = []
        self._idle: list[HandlerProcess] = []
        """Processes that take a job: that of all ``async def`` jobs, or those of plain ones that run none."""
        self._waiting: deque[asyncio.Future[HandlerProcess]] = deque()
        """Jobs for which no process is idle."""
        self._starts: set[asyncio.Task[None]] = set()
        self._is_async = True
        self._suspects: OrderedDict[str, None] = OrderedDict()
        self._backoff = Backoff(_FIRST_RETRY_SECONDS, _MAX_RETRY_SECONDS)
        self._closed = False
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def processes(self) -> list[HandlerProcess]:
        """The processes that run."""
        return list(self._processes)

    @property
    def waits_for_code(self) -> bool:
        """Whether the newest process could not be started because of files that can be corrected."""
        return bool(self._files_to_fix)

    async def start(self) -> None:
        """Start the first process.  Raises HandlerImportError."""
        process = await self._start_process()
        self._is_async = process.is_async
        self._idle.append(process)

    def as_function(self) -> SaqFunction:
        """Return the handler as the engine calls it."""

        async def run_in_process(ctx: dict[str, Any], /, **kwargs: Any) -> Any:
            return await self._run(ctx["job"], kwargs)

        run_in_process.handler_pool = self  # type: ignore[attr-defined]
        return run_in_process

    @staticmethod
    def for_function(function: SaqFunction) -> HandlerPool | None:
        """Return the pool whose function it is; None if it runs in our event loop."""
        pool: HandlerPool | None = getattr(function, "handler_pool", None)
        return pool

    async def stack(self, job: Job) -> ProcessStack:
        """Return where a job stands in its process."""
        process = next((process for process in self._processes if process.runs(job)), None)
        return ProcessStack(None) if process is None else await process.stack(job)

    async def read_files(self) -> dict[str, list[int]]:
        """Return the files of the team's modules that processes have imported, or that are to be fixed."""
        for process in self.processes:
            if process.alive:
                self._files = {**await process.read_files(), **self._files}
        return {**self._files, **self._files_to_fix}

    async def replace(self) -> None:
        """Start a new process, and end each of the others once its jobs have ended.

        Raises HandlerImportError; then no process takes jobs until one can be started.
        """
        old = self.processes
        try:
            process = await self._start_process()
        finally:
            for replaced in old:
                self._retire(replaced)
        self._is_async = process.is_async
        self._offer(process)

    async def close(self) -> None:
        """End all processes."""
        self._closed = True
        for task in self._starts:
            task.cancel()
        await asyncio.gather(*(process.close() for process in self.processes), *self._closing)

    async def _run(self, job: Job, kwargs: dict[str, Any]) -> Any:
        if self._suspects and job.id in self._suspects:
            process = await self._start_or_wait()
            self._suspects.pop(job.id, None)  # if it is the cause, it is charged now
        else:
            process = await self._take()
            while process.retired or not process.alive:  # since it was given to this job, which waited
                process = await self._take()
        try:
            return await process.run(job, kwargs)
        finally:
            if process.unattributed:
                self._add_suspects(process)
            if process.alive:
                self._return(process)

    async def _take(self) -> HandlerProcess:
        """Return a process for one more job: an idle one, one that becomes idle, or a new one."""
        while self._idle:
            process = self._idle[-1]
            if not process.alive:
                self._idle.pop()
                continue
            if not self._is_async:
                self._idle.pop()
            return process
        waiting: asyncio.Future[HandlerProcess] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        self._start_more()
        try:
            return await waiting
        except asyncio.CancelledError:
            if not waiting.cancelled() and waiting.exception() is None:
                self._offer(waiting.result())
            raise

    def _start_more(self) -> None:
        needed = min(len(self._waiting), 1 if self._is_async else _MAX_STARTS)
        while len(self._starts) < needed:
            task = asyncio.create_task(self._start_for_waiting())
            self._starts.add(task)
            task.add_done_callback(self._starts.discard)

    async def _start_for_waiting(self) -> None:
        try:
            process = await self._start_or_wait()
        except HandlerInterruptedError as error:
            while self._waiting:
                waiting = self._waiting.popleft()
                if not waiting.done():
                    waiting.set_exception(error)
            return
        finally:
            self._starts.discard(asyncio.current_task())  # a job that asks from now on needs another start
        if process.retired:  # its code has changed since it began to start
            self._retire(process)
            self._start_more()
            return
        self._is_async = process.is_async
        self._offer(process)

    def _offer(self, process: HandlerProcess) -> None:
        """Give the process to the job that waits the longest; to all of them if it takes many."""
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(process)
                if not self._is_async:
                    self._start_more()
                    return
        if process not in self._idle:
            for other in self._idle[:] if self._is_async else ():  # one is enough
                self._retire(other)
            self._idle.append(process)

    def _return(self, process: HandlerProcess) -> None:
        """Take it back: a job has ended in it."""
        if process.retired or self._recycle.is_due(process.pid, process.done):
            self._retire(process)
        elif not self._is_async:
            self._offer(process)
        elif process not in self._idle:  # it ran a suspect alone
            self._retire(process)

    def _retire(self, process: HandlerProcess) -> None:
        """Give it no more jobs, and end it once it runs none."""
        process.retired = True
        with suppress(ValueError):
            self._idle.remove(process)
        if process.alive and not process.running:
            task = asyncio.create_task(process.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _start_or_wait(self) -> HandlerProcess:
        """Return a new process.  If it cannot be started, wait, and raise HandlerInterruptedError."""
        known_problem = self.problem
        try:
            process = await self._start_process()
        except HandlerImportError as error:
            if self.problem != known_problem:  # else every job that waits would log it
                queue, problem = self.source.queue, str(error)
                log.error("a handler process cannot be started", queue=queue, error=problem)  # noqa: TRY400
            await asyncio.sleep(self._backoff.next())
            raise HandlerInterruptedError(f"its process cannot be started: {error}") from None
        self._backoff.reset()
        return process

    async def _start_process(self) -> HandlerProcess:
        process = HandlerProcess(self.source, self._ask, self._on_end)
        self._processes.append(process)
        try:
            await process.start()
        except HandlerImportError as error:
            self._files_to_fix = process.files
            self._set_problem(str(error))
            raise
        except asyncio.CancelledError:  # the job for which it starts has ended
            process.kill()
            raise
        self._files.update(process.files)
        self._files_to_fix = {}
        self._set_problem(None)
        return process

    def _set_problem(self, problem: str | None) -> None:
        if problem != self.problem:
            self.problem = problem
            self.on_problem()

    def _on_end(self, process: HandlerProcess) -> None:
        with suppress(ValueError):
            self._processes.remove(process)
        with suppress(ValueError):
            self._idle.remove(process)
        self._add_suspects(process)
        if not self._closed and process.done and not process.retired:
            log.warning("a handler process ended", queue=self.source.queue, handler_pid=process.pid)

    def _add_suspects(self, process: HandlerProcess) -> None:
        """Have the jobs run alone of which one may have ended the others."""
        self._suspects.update(dict.fromkeys(process.unattributed))
        process.unattributed = []
        while len(self._suspects) > _MAX_SUSPECTS:
            self._suspects.popitem(last=False)

    async def _ask(self, job: Job, verb: str, fields: dict[str, Any]) -> Any:
        if verb == "update":
            if "meta" in fields:  # ours is not the handler's to change
                our_part = {META: job.meta[META]} if META in job.meta else {}
                fields["meta"] = {**dict(fields["meta"]), **our_part}
            await job.update(**{name: fields[name] for name in ("meta", "progress") if name in fields})
            return None
        return await self._enqueue(
            str(fields["function"]),
            dict(fields["kwargs"]),
            fields.get("key"),
            float(fields.get("scheduled") or 0),
        )
