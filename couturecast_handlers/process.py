"""The common parts of both kinds of handler process.

A team's module may replace threads, locks, time and sockets when it is imported, as gevent does.  So this
package takes what it needs of them before: `_thread` has threads of the system, whatever `threading` has.
"""

from __future__ import annotations

import logging
import os
import socket
from _thread import allocate_lock, start_new_thread
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from couturecast_handlers.importing import team_files
from couturecast_handlers.output import Output
from couturecast_handlers.wire import Reader, Writer, check_size, encode


@dataclass
class Start:
    """The arguments with which a process is started."""

    queue: str
    jobs: socket.socket
    control: socket.socket
    culprit: memoryview[int]
    """One number that the appliance reads, too: that of the job whose code runs; 0: of none."""
    foreground: bool = False
    """Whether it has the terminal: its streams stay as they are, and ctrl-C is for its handler."""
    output: Output | None = None
    """Takes the place of its streams; None: it is in the foreground."""


class Process:
    """Runs the jobs of one function."""

    def __init__(self, start: Start, writer: Writer, function: Callable[..., Any]) -> None:
        self.queue = start.queue
        self.function = function
        self.foreground = start.foreground
        self.reader, self.writer = Reader(start.jobs), writer
        self.output = start.output
        if self.output is not None:
            self.output.begin(self.job_number)
        else:
            logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
        self._control = Reader(start.control)
        self.culprit = start.culprit
        """For the appliance to read if this process dies."""
        self._asked: dict[int, Callable[[dict[str, Any]], None]] = {}
        self._asks = 0
        self._lock = allocate_lock()

    def serve(self) -> None:
        """Run jobs until the appliance ends this process."""
        start_new_thread(self._obey, ())
        self.run()

    def ask(
        self, number: int, verb: str, fields: dict[str, Any], on_answer: Callable[[dict[str, Any]], None]
    ) -> None:
        """Ask the appliance for something; ``on_answer`` gets its answer, in another thread."""
        with self._lock:
            self._asks += 1
            ask_id = self._asks
            self._asked[ask_id] = on_answer
        try:
            self.writer.send({"ask": [ask_id, number, verb, fields]})
        except (TypeError, ValueError):
            del self._asked[ask_id]
            raise

    def _obey(self) -> None:
        """Obey the appliance whatever the handlers do, and end with it."""
        try:
            for message in self._control.messages():
                if "cancel" in message:
                    self.cancel(message["cancel"])
                elif "answer" in message:
                    ask_id, answer = message["answer"]
                    on_answer = self._asked.pop(ask_id, None)
                    if on_answer is not None:
                        on_answer(answer)
                elif "stack" in message:
                    self.writer.send({"stack": [message["stack"], self._stack_or_none(message["stack"])]})
                elif "files" in message:
                    self.writer.send({"files": team_files()})
        finally:
            os._exit(0)

    def _stack_or_none(self, number: int) -> list[Any]:
        try:
            return self.stack(number)
        except Exception:  # of an object that the team's code waits for
            return []

    def run(self) -> None:
        """Run jobs, in the main thread."""
        raise NotImplementedError

    def job_number(self) -> int:
        """Return the job whose code calls this; 0: it is of none."""
        raise NotImplementedError

    def cancel(self, number: int) -> None:
        """Have a job end, whichever runs now."""
        raise NotImplementedError

    def stack(self, number: int) -> list[Any]:
        """Return where a job stands."""
        raise NotImplementedError


def result_of(answer: dict[str, Any]) -> Any:
    """Return what the appliance answered.  Raises RuntimeError if it refused."""
    if "error" in answer:
        raise RuntimeError(answer["error"])
    return answer.get("result")


def outcome_line(number: int, outcome: str, value: Any) -> str:
    """Return how a job ended, as JSON.  Raises TypeError, which says why the value cannot be sent."""
    if value is None:  # most results: spare them the encoder
        return f'[{number},"{outcome}",null]'
    try:
        return f'[{number},"{outcome}",{check_size(encode(value))}]'
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"the result cannot be written as JSON: {error}") from None
