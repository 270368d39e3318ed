"""Output and log of handlers: lines, each with the job that it belongs to."""

from __future__ import annotations

import collections
import contextvars
import io
import logging
import os
import sys
from _thread import allocate_lock, start_new_thread
from collections.abc import Callable
from queue import SimpleQueue
from time import sleep, time
from typing import Any, TextIO

from couturecast_handlers.wire import Writer

_SEND_SECONDS = 0.1
"""Between two messages with lines of one job."""
_MAX_LINES = 20
"""Lines of a job in one message: the newest."""
_MAX_LINE_CHARS = 500

current_job: contextvars.ContextVar[int] = contextvars.ContextVar("job", default=0)
"""The number of the job whose code runs; 0: of none."""


class Output:
    """Takes the place of the streams and of the root logger's handler.

    It does so before the team's modules are imported: what they set up then, such as a handler of their log,
    keeps its streams.  Until `begin`, and in a process that a handler forks, these are the process' own.
    """

    def __init__(self, writer: Writer) -> None:
        out, err = sys.stdout, sys.stderr
        self._lines = _Lines(writer, err)
        # Logging libraries keep the stream of errors whatever the level of a line is.
        kept = _Stream(self._lines, "info", 1, out), _Stream(self._lines, "info", 2, err)
        self._streams = *kept, _Stream(self._lines, "error", 2, err)
        sys.stdout, sys.stderr = kept
        os.register_at_fork(after_in_child=self._lines.close)

    def begin(self, job_number: Callable[[], int]) -> None:
        """Take the lines from now on, as those of the job that ``job_number`` returns; 0: of none."""
        self._lines.begin(job_number)
        sys.stdout, _, sys.stderr = self._streams
        root = logging.getLogger()
        if not root.handlers:
            root.addHandler(_LogHandler(self._lines))
            root.setLevel(logging.INFO)

    def finish(self, number: int) -> None:
        """Send what is left of a job, before its end is sent."""
        for stream in self._streams:
            if stream.partial:
                stream.finish(number)
        self._lines.flush(number)


class _Lines:
    """The newest lines of each job, sent a few times a second: a flood costs the appliance nothing."""

    def __init__(self, writer: Writer, raw: TextIO) -> None:
        self.is_open = False
        self.job_number: Callable[[], int] = current_job.get
        self._writer = writer
        self._raw = raw
        self._lock = allocate_lock()
        self._waiting: dict[int, collections.deque[Any]] = {}
        self._dropped: dict[int, int] = {}
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._is_awake = False

    def begin(self, job_number: Callable[[], int]) -> None:
        self.job_number, self.is_open = job_number, True
        start_new_thread(self._run, ())

    def close(self) -> None:
        """Leave the streams to themselves: in a forked process nobody sends lines, or frees the lock."""
        self.is_open = False

    def add(self, level: str, text: str, number: int) -> None:
        if not self.is_open:
            self._raw.write(f"{text}\n")
            return
        with self._lock:
            lines = self._waiting.setdefault(number, collections.deque())
            lines.append([time(), level, text[:_MAX_LINE_CHARS]])
            if len(lines) > _MAX_LINES:
                lines.popleft()
                self._dropped[number] = self._dropped.get(number, 0) + 1
            if not self._is_awake:
                self._is_awake = True
                self._wake.put(None)

    def flush(self, number: int) -> None:
        if self.is_open and number in self._waiting:
            with self._lock:
                lines, dropped = self._waiting.pop(number, None), self._dropped.pop(number, 0)
            if lines:
                self._writer.send({"lines": [number, list(lines), dropped]})

    def _run(self) -> None:
        while True:
            self._wake.get()
            sleep(_SEND_SECONDS)
            self._is_awake = False
            for number in list(self._waiting):
                self.flush(number)


class _Stream(io.TextIOBase):
    """Standard output or error."""

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, lines: _Lines, level: str, descriptor: int, raw: TextIO) -> None:
        self.partial: dict[int, str] = {}
        """The text that each job printed without the end of a line."""
        self.buffer = _Buffer(self)
        self._lines = lines
        self._level = level
        self._descriptor = descriptor
        self._raw = raw

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return self._descriptor

    def reconfigure(self, **_: Any) -> None:
        """Ignore the call: nothing of it can be changed."""

    def close(self) -> None:
        """Stay open: the stream is the process', not the handler's."""

    def write(self, text: str) -> int:
        if not self._lines.is_open:
            return self._raw.write(text)
        number = self._lines.job_number()
        *whole, rest = (self.partial.pop(number, "") + str(text)).split("\n")
        for line in whole[-_MAX_LINES:]:
            self._lines.add(self._level, line, number)
        if rest:
            self.partial[number] = rest[-_MAX_LINE_CHARS:]
        return len(text)

    def finish(self, number: int) -> None:
        """Write what is left as a line: the job has ended."""
        rest = self.partial.pop(number, "")
        if rest:
            self._lines.add(self._level, rest, number)


class _Buffer(io.BufferedIOBase):
    """``sys.stdout.buffer``: the same stream for bytes."""

    def __init__(self, stream: _Stream) -> None:
        self._stream = stream

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._stream.fileno()

    def close(self) -> None:
        """Stay open, too."""

    def write(self, data: Any) -> int:
        raw = bytes(data)
        self._stream.write(raw.decode(errors="backslashreplace"))
        return len(raw)


class _LogHandler(logging.Handler):
    def __init__(self, lines: _Lines) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
            if record.exc_info and record.exc_info[1] is not None:
                text += f": {type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
        except Exception:  # of what a handler logs
            text = f"a line of {record.name} that cannot be formatted"
        self._lines.add(record.levelname.lower(), text, self._lines.job_number())
