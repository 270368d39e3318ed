"""Output and log of handlers: lines, each with the job that it belongs to."""

from __future__ import annotations

import collections
import contextvars
import io
import logging
import sys
import threading
import time
from typing import Any

from couturecast_handlers.wire import Writer

_SEND_SECONDS = 0.1
"""Between two messages with lines of one job."""
_MAX_LINES = 20
"""Lines of a job in one message: the newest."""
_MAX_LINE_CHARS = 500

current_job: contextvars.ContextVar[int] = contextvars.ContextVar("job", default=0)
"""The number of the job whose code runs; 0: of none."""


class Output:
    """Takes the place of the streams and of the root logger's handler."""

    def __init__(self, writer: Writer) -> None:
        self._lines = _Lines(writer)
        self._streams = _Stream(self._lines, "info", 1), _Stream(self._lines, "error", 2)
        sys.stdout, sys.stderr = self._streams
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

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._lock = threading.Lock()
        self._waiting: dict[int, collections.deque[Any]] = {}
        self._dropped: dict[int, int] = {}
        self._wake = threading.Event()
        threading.Thread(target=self._run, name="couturecast-lines", daemon=True).start()

    def add(self, level: str, text: str) -> None:
        number = current_job.get()
        with self._lock:
            lines = self._waiting.setdefault(number, collections.deque())
            lines.append([time.time(), level, text[:_MAX_LINE_CHARS]])
            if len(lines) > _MAX_LINES:
                lines.popleft()
                self._dropped[number] = self._dropped.get(number, 0) + 1
        self._wake.set()

    def flush(self, number: int) -> None:
        if number in self._waiting:
            with self._lock:
                lines, dropped = self._waiting.pop(number, None), self._dropped.pop(number, 0)
            if lines:
                self._writer.send({"lines": [number, list(lines), dropped]})

    def _run(self) -> None:
        while True:
            self._wake.wait()
            time.sleep(_SEND_SECONDS)
            self._wake.clear()
            for number in list(self._waiting):
                self.flush(number)


class _Stream(io.TextIOBase):
    """Standard output or error."""

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, lines: _Lines, level: str, descriptor: int) -> None:
        self.partial: dict[int, str] = {}
        """The text that each job printed without the end of a line."""
        self.buffer = _Buffer(self)
        self._lines = lines
        self._level = level
        self._descriptor = descriptor

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
        number = current_job.get()
        *whole, rest = (self.partial.pop(number, "") + str(text)).split("\n")
        for line in whole[-_MAX_LINES:]:
            self._lines.add(self._level, line)
        if rest:
            self.partial[number] = rest[-_MAX_LINE_CHARS:]
        return len(text)

    def finish(self, number: int) -> None:
        """Write what is left as a line: the job has ended."""
        rest = self.partial.pop(number, "")
        if rest:
            self._lines.add(self._level, rest)


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
        self._lines.add(record.levelname.lower(), text)
