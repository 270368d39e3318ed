"""Runs ``async def`` handlers, many at once, in one event loop."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import os
import socket
import traceback
from collections.abc import Coroutine
from typing import Any

from couturecast_handlers import Job, Queue
from couturecast_handlers.event_loop import new_event_loop
from couturecast_handlers.frames import coroutine_frames, describe, main_thread_frames
from couturecast_handlers.output import current_job
from couturecast_handlers.process import Process, outcome_line, result_of

_MAX_ENDED = 16
"""In one message: the appliance records them while other jobs of the same turn run."""
_LARGE_CHARS = 1 << 20
"""The end of a job, in characters, above which it is sent at once."""
_Task = asyncio.Task
"""Not made by the loop, in which a handler may have replaced how tasks are made."""


class AsyncProcess(Process):
    """One event loop for all jobs."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._tasks: dict[int, asyncio.Task[Any]] = {}
        self._ended: list[str] = []
        self._is_sending = False
        self.loop = new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.loop.set_task_factory(self._make_task)

    def run(self) -> None:
        """Run the loop, again if a handler has stopped it."""
        self.loop.add_reader(self.reader.fileno(), self._receive)
        while True:
            try:
                self.loop.run_forever()
            except OSError:  # a handler has closed what the loop needs
                os._exit(1)
            except KeyboardInterrupt:
                if self.foreground:
                    for task in self._tasks.values():
                        task.cancel()
            except BaseException:
                traceback.print_exc()
            if self.loop.is_closed():
                os._exit(1)

    def job_number(self) -> int:
        """Return the job of this context."""
        return current_job.get()

    def cancel(self, number: int) -> None:
        """Cancel the job's task."""
        self.loop.call_soon_threadsafe(self._cancel, number)

    def stack(self, number: int) -> list[Any]:
        """Return the frames of the thread if the job runs now, else those of its task."""
        if self.culprit[0] == number:
            return main_thread_frames()
        task = self._tasks.get(number)
        return [] if task is None else coroutine_frames(task)

    def _receive(self) -> None:
        try:
            messages = self.reader.receive(socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        if messages is None:
            os._exit(0)
        for message in messages:
            for facts in message["run"]:
                self._start(facts)
        self._send_soon()  # after the first steps of these tasks, which may be their last

    def _start(self, facts: list[Any]) -> None:
        number = facts[0]
        context = contextvars.copy_context()
        context.run(current_job.set, number)
        coroutine = _MarkedCoroutine(self._attempt(facts), number, self.culprit)
        self._tasks[number] = context.run(_Task, coroutine, loop=self.loop)

    def _cancel(self, number: int) -> None:
        task = self._tasks.get(number)
        if task is not None:
            task.cancel()

    async def _attempt(self, facts: list[Any]) -> None:
        number, key, function, kwargs, attempts, meta = facts

        def ask(verb: str, fields: dict[str, Any]) -> Any:
            return self._ask(number, verb, fields)

        try:
            job = Job(key, function, kwargs, attempts, meta, self.queue, ask)
            context = {"job": job, "queue": Queue(self.queue, ask)}
            end = outcome_line(number, "done", await self.function(context, **kwargs))
        except asyncio.CancelledError as error:
            outcome = "failed" if self.foreground else "cancelled"  # by ctrl-C: where it stood is of interest
            end = outcome_line(number, outcome, describe(error))
        except BaseException as error:
            end = outcome_line(number, "failed", describe(error))
        del self._tasks[number]
        if self.output is not None:
            self.output.finish(number)
        self._ended.append(end)
        if len(self._ended) >= _MAX_ENDED or len(end) > _LARGE_CHARS:
            self._send_ended()
        else:
            self._send_soon()

    def _send_soon(self) -> None:
        """Send, in few messages, how all jobs ended that end in this turn of the loop."""
        if not self._is_sending:
            self._is_sending = True
            self.loop.call_soon(self._send_rest)

    def _send_rest(self) -> None:
        self._is_sending = False
        self._send_ended()

    def _send_ended(self) -> None:
        if self._ended:
            text, self._ended = ",".join(self._ended), []
            self.writer.send_json(f'{{"ended":[{text}]}}')

    async def _ask(self, number: int, verb: str, fields: dict[str, Any]) -> Any:
        answered = self.loop.create_future()

        def deliver(answer: dict[str, Any]) -> None:
            self.loop.call_soon_threadsafe(_resolve, answered, answer)

        self.ask(number, verb, fields, deliver)
        return result_of(await answered)

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any
    ) -> asyncio.Task[Any]:
        """Make a task that marks its job while its code runs, wherever the task is made."""
        number = current_job.get()
        if number and inspect.iscoroutine(coroutine):
            coroutine = _MarkedCoroutine(coroutine, number, self.culprit)
        return asyncio.Task(coroutine, loop=loop, **options)


class _MarkedCoroutine(Coroutine[Any, Any, Any]):
    """A coroutine of a job: at each of its steps it notes that the job's code runs."""

    __slots__ = ("_culprit", "_number", "coroutine")

    def __init__(self, coroutine: Any, number: int, culprit: memoryview[int]) -> None:
        self.coroutine = coroutine
        self._number = number
        self._culprit = culprit

    def send(self, value: Any) -> Any:
        self._culprit[0] = self._number
        try:
            return self.coroutine.send(value)
        finally:
            self._culprit[0] = 0

    def throw(self, *error: Any) -> Any:
        self._culprit[0] = self._number
        try:
            return self.coroutine.throw(*error)
        finally:
            self._culprit[0] = 0

    def close(self) -> None:
        self.coroutine.close()

    def __await__(self) -> Any:
        return self.coroutine.__await__()

    def __getattr__(self, name: str) -> Any:
        """Return what debuggers read of a coroutine: ``cr_frame``, ``cr_await``, ``__qualname__``."""
        return getattr(self.coroutine, name)


def _resolve(future: asyncio.Future[Any], answer: dict[str, Any]) -> None:
    if not future.done():
        future.set_result(answer)
