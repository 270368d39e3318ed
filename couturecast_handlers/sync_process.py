"""Runs plain ``def`` handlers, one job at a time, in the main thread."""

from __future__ import annotations

import inspect
import os
import signal
from _thread import get_ident
from queue import Empty, SimpleQueue
from typing import Any

from couturecast_handlers import Job, JobCancelledError, Queue
from couturecast_handlers.frames import describe, main_thread_frames
from couturecast_handlers.process import Process, outcome_line, result_of

_CANCEL = signal.SIGUSR2
"""Interrupts what waits in the main thread, too: a sleep, a lock, a socket."""
_WAIT_SECONDS = 0.5


class SyncProcess(Process):
    """One job after the other."""

    def __init__(self, *arguments: Any) -> None:
        self._number = 0
        super().__init__(*arguments)
        self._cancelled = 0
        self._is_asking = False
        """Whether the main thread sends a request, half of which would break all that follow."""
        self._main = get_ident()
        signal.signal(_CANCEL, self._on_cancel)

    def run(self) -> None:
        """Run what comes until the socket is closed."""
        for message in self.reader.messages():
            for facts in message["run"]:
                self.writer.send_json(f'{{"ended":[{self._attempt(facts)}]}}')
        os._exit(0)

    def job_number(self) -> int:
        """Return the job that runs, whichever thread calls this."""
        return self._number

    def cancel(self, number: int) -> None:
        """Interrupt the job, if it still runs."""
        self._cancelled = number
        signal.pthread_kill(self._main, _CANCEL)

    def _on_cancel(self, *_: Any) -> None:
        if not self._is_asking:
            self._raise_if_cancelled()

    def _raise_if_cancelled(self) -> None:
        if self._number and self._number == self._cancelled:
            raise JobCancelledError

    def stack(self, number: int) -> list[Any]:
        """Return the frames of the thread, if it runs this job."""
        return main_thread_frames() if number == self._number else []

    def _attempt(self, facts: list[Any]) -> str:
        number, key, function, kwargs, attempts, meta = facts

        def ask(verb: str, fields: dict[str, Any]) -> Any:
            return self._ask(number, verb, fields)

        end = outcome_line(number, "cancelled", None)
        self.culprit[0] = number
        self._number = number
        try:
            try:
                job = Job(key, function, kwargs, attempts, meta, self.queue, ask)
                context = {"job": job, "queue": Queue(self.queue, ask)}
                end = outcome_line(number, "done", _checked_result(self.function(context, **kwargs)))
            except JobCancelledError as error:
                end = outcome_line(number, "cancelled", describe(error))
            except BaseException as error:
                end = outcome_line(number, "failed", describe(error))
            self._number = 0
        except JobCancelledError:  # at the very end
            self._number = 0
        signal.setitimer(signal.ITIMER_REAL, 0)  # an alarm that the job has left would end the next one
        self.culprit[0] = 0
        if self.output is not None:
            self.output.finish(number)
        return end

    def _ask(self, number: int, verb: str, fields: dict[str, Any]) -> Any:
        answers: SimpleQueue[dict[str, Any]] = SimpleQueue()
        if get_ident() == self._main:
            self._is_asking = True
            try:
                self.ask(number, verb, fields, answers.put)
            finally:
                self._is_asking = False
            self._raise_if_cancelled()
        else:
            self.ask(number, verb, fields, answers.put)
        while True:
            try:
                return result_of(answers.get(timeout=_WAIT_SECONDS))
            except Empty:  # a signal may come just before the wait
                continue


def _checked_result(result: Any) -> Any:
    """Return the result.  Raises TypeError if nobody has run it."""
    if inspect.iscoroutine(result):
        result.close()
        raise TypeError("it returned a coroutine: write it, and what decorates it, as async def")
    return result
