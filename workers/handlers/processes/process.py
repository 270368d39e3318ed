"""One handler process: starts it, runs jobs in it, and finds the job to charge when it dies."""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import struct
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import structlog
from saq import Job

import couturecast_handlers
from workers.engine.attempts import META
from workers.engine.remote_error import RemoteError
from workers.errors import HandlerImportError, HandlerInterruptedError, HandlerProcessDiedError
from workers.handlers.processes.connection import Connection
from workers.handlers.processes.launch import HandlerSource, Launched, launch

log = structlog.get_logger(__name__)

_START_SECONDS = 60.0
"""In which a module has to be imported."""
_OBEY_SECONDS = 0.7
"""For a cancelled job to end; the runner gives up a job after one second."""
_END_SECONDS = 1.0
_LOST_SECONDS = 0.1
_ANSWER_SECONDS = 1.0
_CULPRIT = struct.Struct("=q")
_MAX_OUTPUT_LINES = 20
"""In one reading of what the process itself, or a program that it started, prints."""
_MAX_OUTPUT_LINE_CHARS = 500
_MAX_LAST_LINES, _MAX_LAST_CHARS = 20, 500
_OUR_FOLDER = os.path.dirname(os.path.abspath(couturecast_handlers.__file__)) + os.sep
_LAST_OUTPUT_WAIT_SECONDS = 0.05
_LAST_OUTPUT_SECONDS = 1.0
"""Before its end, in which what it prints may be about that."""
_LEVELS = {"critical": "error", "error": "error", "warning": "warning"}

Ask = Callable[[Job, str, dict[str, Any]], Awaitable[Any]]
"""Answers a handler's requests about its job: ``update`` it, ``enqueue`` another."""


@dataclass(eq=False, slots=True)
class _Call:
    job: Job
    ended: asyncio.Future[Any]
    beside_others: bool
    """Whether other jobs ran when it began."""
    is_cancelled: bool = False
    """Whether it was asked to end."""
    context: contextvars.Context = field(default_factory=contextvars.copy_context)
    """The attempt's, so that its lines are logged as its own."""


class ProcessStack(NamedTuple):
    """The stack of a running job.  A frame is its file, line, function and whether it is the team's code."""

    pid: int | None
    frames: Sequence[Any] = ()
    """The outermost first; none if the process is silent, or has not begun the job."""
    blocked_by: str | None = None
    """The key of another job whose code runs, if it has no frames."""
    blocked_at: Sequence[Any] = ()
    """The frames of that job; none if the process is silent."""


class HandlerProcess:
    """Jobs run in it until it is closed or dies; ``on_end`` is called then."""

    def __init__(self, source: HandlerSource, ask: Ask, on_end: Callable[[HandlerProcess], None]) -> None:
        self.source = source
        self.is_async = False
        self.about: Mapping[str, Any] = {}
        """Facts that it sent at its start: ``python``, ``executable``, ``signature``, ``place``, ``pid``."""
        self.files: dict[str, list[int]] = {}
        """Files of the team's modules that it has imported by now, each with its time and size."""
        self.retired = False
        """Whether it takes no more jobs, and ends when those that it runs have ended."""
        self.done = 0
        """Jobs that have ended in it."""
        self.unattributed: list[str] = []
        """The ids of jobs that another one may have ended, if it is not known which: alone, that shows."""
        self._ask = ask
        self._on_end = on_end
        self._calls: dict[int, _Call] = {}
        self._numbers = 0
        self._asking: set[asyncio.Task[None]] = set()
        self._answers: dict[str, asyncio.Future[Any]] = {}
        self._started: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        self._launched: Launched | None = None
        self._watching: asyncio.Task[None] | None = None
        self._jobs = Connection(self._on_message, self._on_lost)
        self._control = Connection(self._on_message, self._on_lost)
        self._is_lost = False
        """Whether a socket to it is closed, or it was killed."""
        self._blamed: int | None = None
        """The job for which we killed it."""
        self._output: deque[tuple[float, str]] = deque(maxlen=_MAX_LAST_LINES)

    @property
    def running(self) -> int:
        """Jobs that run in it."""
        return len(self._calls)

    @property
    def alive(self) -> bool:
        """Whether it takes jobs."""
        launched = self._launched
        return launched is not None and launched.runs and self._started.done() and not self._is_lost

    @property
    def pid(self) -> int | None:
        """Its process id."""
        return None if self._launched is None else self._launched.pid

    @property
    def _import_command(self) -> str:
        """A command that shows a person how the import fails."""
        return f"{self.source.python} -c 'import {self.source.name.partition(':')[0]}'"

    async def start(self) -> None:
        """Start it and wait until the function is imported.  Raises HandlerImportError."""
        try:
            launched = self._launched = await launch(self.source)
        except BaseException:
            self._on_end(self)
            raise
        launched.protocol.on_output = self._on_output
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: self._jobs, sock=launched.jobs)
            await loop.create_connection(lambda: self._control, sock=launched.control)
        finally:
            self._watching = loop.create_task(self._watch(launched))
        try:
            async with asyncio.timeout(_START_SECONDS):
                self.about = await asyncio.shield(self._started)
        except TimeoutError:
            self.kill()
            raise HandlerImportError(
                f"{self.source.name!r} was not imported within {_START_SECONDS:g} s",
                fix=f"see where it waits when it is imported: {self._import_command}",
            ) from None
        self.is_async = bool(self.about.get("async"))

    async def run(self, job: Job, kwargs: dict[str, Any]) -> Any:
        """Run a job; its result.

        Raises RemoteError for what the handler raised, HandlerProcessDiedError if it ended its process, and
        HandlerInterruptedError if another job did.
        """
        self._numbers += 1
        number = self._numbers
        ended: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        call = self._calls[number] = _Call(job, ended, bool(self._calls))
        self._jobs.run([number, job.key, job.function, kwargs, job.attempts, _meta(job)])
        try:
            return await call.ended
        except asyncio.CancelledError:
            if not call.ended.cancelled():  # the job has ended by itself, perhaps so
                return call.ended.result()
            return await self._cancel(number, call)
        finally:
            self._calls.pop(number, None)
            self.done += 1

    async def _cancel(self, number: int, call: _Call) -> Any:
        """Have the job end; if it does not obey, kill its process."""
        call.ended, call.is_cancelled = asyncio.get_running_loop().create_future(), True
        self._control.send({"cancel": number})
        await asyncio.wait({call.ended}, timeout=_OBEY_SECONDS)
        if call.ended.done() and self._blamed != number:
            return call.ended.result()
        running = self._running_number() if self._blamed is None else self._blamed
        culprit = number if running is None else running
        self.kill(culprit)
        if culprit != number:
            raise HandlerInterruptedError(f"another job of {self.source.queue} blocked its process")
        raise asyncio.CancelledError

    def runs(self, job: Job) -> bool:
        """Return whether this job runs in it."""
        return any(call.job is job for call in self._calls.values())

    async def stack(self, job: Job) -> ProcessStack:
        """Return where a job of this process stands, or which other one blocks the process."""
        number = next((number for number, call in self._calls.items() if call.job is job), None)
        frames = None if number is None else await self._request("stack", number)
        running = self._running_number()
        if frames or number is None or running in (None, number):
            return ProcessStack(self.pid, frames or ())
        blocker = self._calls[running].job.key
        # A silent process is not asked again: the answer would come too late.
        blocked_at = None if frames is None else await self._request("stack", running)
        return ProcessStack(self.pid, (), blocker, blocked_at or ())

    async def read_files(self) -> dict[str, list[int]]:
        """Return the files, as they are now."""
        self.files = await self._request("files", 0) or self.files
        return self.files

    async def _request(self, about: str, number: int) -> Any:
        """Return what the process answers to a request; None if it does not."""
        key = f"{about} {number}"
        if key not in self._answers:
            self._answers[key] = asyncio.get_running_loop().create_future()
            self._control.send({about: number})
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await asyncio.shield(self._answers[key])
        except TimeoutError:
            return None
        finally:
            self._answers.pop(key, None)

    def kill(self, blamed: int | None = None) -> None:
        """Kill it, and what it has started; it takes no more jobs while it ends."""
        self._is_lost = True
        if self._blamed is None:
            self._blamed = blamed
        if self._launched is not None and self._launched.runs and self._launched.pid:
            with suppress(ProcessLookupError):
                os.kill(self._launched.pid, signal.SIGKILL)
            self._kill_group(self._launched.pid)

    def _kill_group(self, pid: int) -> None:
        if self.source.streams is None and pid:  # in the foreground it is in our own group
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)

    async def close(self) -> None:
        """End it: it has a second for that."""
        self._jobs.close()
        self._control.close()
        if self._watching is not None:
            await asyncio.wait({self._watching}, timeout=_END_SECONDS)
            self.kill()
            await asyncio.wait({self._watching})

    async def _watch(self, launched: Launched) -> None:
        """Notice its end."""
        code = await launched.protocol.exited
        await asyncio.sleep(_LAST_OUTPUT_WAIT_SECONDS)  # its last words and ends of jobs may be on their way
        self._end(code, launched)

    def _on_output(self, output: list[bytes]) -> None:
        """Log what it prints past Python's streams."""
        lines = b"\n".join(output).decode(errors="backslashreplace").splitlines()
        for line in [line[:_MAX_OUTPUT_LINE_CHARS] for line in lines if line][-_MAX_OUTPUT_LINES:]:
            self._output.append((time.monotonic(), line))
            log.info(line, queue=self.source.queue, handler_pid=self.pid)

    def _end(self, code: int, launched: Launched) -> None:
        """End what the process has started, and its jobs, each as it deserves: the process has gone."""
        self._kill_group(launched.pid)
        launched.protocol.finish_output()
        cause = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        ending = f"its process ended with {cause}"
        if (unreadable := self._jobs.problem or self._control.problem) is not None:
            ending = f"its process was ended, since what it sent cannot be read: {unreadable}"
        if not self._started.done():
            problem = f"{self.source.name!r}: {ending} while it was imported"
            other = "name a Python, 3.9 or newer, with COUTURECAST_HANDLERS_PYTHON"
            fix = f"try {self._import_command}, or {other}"
            self._refuse(HandlerImportError(problem + self._last_output(_START_SECONDS), fix=fix))
        culprit = self._blamed if self._blamed is not None else self._running_number()
        if culprit is None and len(self._calls) == 1:
            culprit = next(iter(self._calls))
        if culprit is None:
            self.unattributed += [call.job.id for call in self._calls.values()]
        for number, call in self._calls.items():
            if call.ended.done():
                continue
            if number == culprit:
                reason = "it blocked its process, which was killed" if number == self._blamed else ending
                last = self._last_output(_LAST_OUTPUT_SECONDS)
                call.ended.set_exception(HandlerProcessDiedError(f"{reason}{last}"))
            else:
                call.ended.set_exception(HandlerInterruptedError(ending))
            call.ended.exception()  # the runner may have given it up
        self._jobs.close()
        self._control.close()
        launched.close()
        self._on_end(self)

    def _last_output(self, seconds: float) -> str:
        """Return what it printed past Python's streams in its last seconds, for instance why it crashed.

        Our own frames come last in a stack that faulthandler prints, and help nobody: they are left out.
        """
        since = time.monotonic() - seconds
        lines = [line for at, line in self._output if at > since and _OUR_FOLDER not in line]
        text = " ".join(" ".join(lines).split())
        return f": {text[-_MAX_LAST_CHARS:]}" if text else ""

    def _refuse(self, error: HandlerImportError) -> None:
        self._started.set_exception(error)
        self._started.exception()  # a start that was cancelled asks no more

    def _running_number(self) -> int | None:
        """Return the job whose code runs, as the process itself notes it."""
        if self._launched is None:
            return None
        number: int = _CULPRIT.unpack_from(self._launched.culprit, 0)[0]
        return number if number in self._calls else None

    def _on_lost(self) -> None:
        """Handle a closed socket: by us, by its end, or by a handler that closes descriptors.

        The process ends by itself then, unless a handler blocks it.  If it were killed at once, it might be
        in the code of any other job.  So it gets no more of them.
        """
        self._is_lost = True
        asyncio.get_running_loop().call_later(_LOST_SECONDS, self.kill)

    def _on_message(self, message: dict[str, Any]) -> None:
        match message:
            case {"ended": ended}:
                for number, outcome, value in ended:
                    self._on_ended(number, outcome, value)
            case {"lines": [number, lines, dropped]}:
                self._on_lines(number, lines, dropped)
            case {"ask": [int(asked), int(number), str(verb), dict(fields)]}:
                task = asyncio.create_task(self._answer(asked, number, verb, fields))
                self._asking.add(task)
                task.add_done_callback(self._asking.discard)
            case {"stack": [number, frames]}:
                self._on_answer(f"stack {number}", frames)
            case {"ready": about, "files": files} if not self._started.done():
                self.files = files
                self._started.set_result(about)
            case {"refused": problem, "fix": fix, "files": files} if not self._started.done():
                self.files = files
                error = HandlerImportError(problem, fix=fix)
                error.__cause__ = ImportError(problem)  # what it quotes is the team's
                self._refuse(error)
            case {"files": files}:
                self._on_answer("files 0", files)

    def _on_answer(self, key: str, value: Any) -> None:
        waiting = self._answers.get(key)
        if waiting is not None and not waiting.done():
            waiting.set_result(value)

    def _on_ended(self, number: int, outcome: str, value: Any) -> None:
        call = self._calls.get(number)
        if call is None or call.ended.done():
            return
        if outcome == "done":
            call.ended.set_result(value)
        elif (
            outcome == "cancelled"
            and not call.is_cancelled
            and (call.beside_others or number < self._numbers)
        ):
            self.unattributed.append(call.job.id)
            call.ended.set_exception(HandlerInterruptedError("it was cancelled, perhaps by another job"))
        elif outcome == "cancelled":
            call.ended.set_exception(asyncio.CancelledError())
        else:
            call.ended.set_exception(RemoteError.from_record(value))

    def _on_lines(self, number: int, lines: list[Any], dropped: int) -> None:
        call = self._calls.get(number)
        for _at, level, text in lines:
            write = getattr(log, _LEVELS.get(level, "info"))
            if call is None:
                write(text, queue=self.source.queue, handler_pid=self.pid)
            else:
                call.context.run(write, text)
        if dropped and call is not None:
            call.context.run(log.info, "lines were dropped", lines=dropped)

    async def _answer(self, ask_id: int, number: int, verb: str, fields: dict[str, Any]) -> None:
        call = self._calls.get(number)
        answer: dict[str, Any] = {"error": "its job has ended"}
        if call is not None:
            try:
                answer = {"result": await self._ask(call.job, verb, fields)}
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
        self._control.send({"answer": [ask_id, answer]})


def _meta(job: Job) -> dict[str, Any]:
    """Return the part of the job's meta that the handler gets; other programs may have written it."""
    if not job.meta or not isinstance(job.meta, dict):
        return {}  # not None: `wire.dump` searches what has a null for NaN
    return {name: value for name, value in job.meta.items() if name != META}
