"""Logs JSON lines, or text on a terminal; the logs of libraries go the same way."""

from __future__ import annotations

import json
import logging
import os
import queue
import select
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from logging.handlers import QueueHandler, QueueListener
from pathlib import Path
from typing import Any, TextIO

import orjson
import structlog

from storage.files import open_private
from workers.engine.attempt_log import MemoryHandler, add_attempt_fields
from workers.notifications import THREAD_NAME

_BUFFER_CHARS = 1_048_576
"""Most text that waits to be written; further lines are dropped."""
_FLUSH_SECONDS = 1.0
"""Longest wait for that text at the end of the process."""

log = structlog.get_logger(__name__)


_SHARED_PROCESSORS: list[Any] = [
    add_attempt_fields,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]
_process_fields: dict[str, str] = {}
"""Fields of each JSON line of this process."""
_NOISY_LIBRARIES = ("httpx", "httpcore", "asyncio", "alembic", "saq", "sqlalchemy", "aiosqlite")
"""Libraries whose warnings only are logged; httpx would log URLs with their keys."""


def configure(level: str, *, stream: TextIO | None = None) -> None:
    """Log to ``stream`` (stderr by default): text on a terminal, else JSON lines.

    A thread writes, so a reader that has stopped reading delays nothing: see `dropped_lines`.
    """
    target = stream or sys.stderr
    formatter = _formatter(is_terminal=target.isatty())
    handler: logging.Handler = (
        _LineHandler(target, formatter) if _has_descriptor(target) else logging.StreamHandler(target)
    )
    handler.setFormatter(formatter)
    handler.addFilter(lambda record: record.threadName != THREAD_NAME)  # libraries there log URLs with tokens
    root = logging.getLogger()
    replaced, root.handlers[:] = root.handlers[:], [MemoryHandler(), handler]
    for old_handler in replaced:
        if isinstance(old_handler, _LineHandler):
            old_handler.stop()
    root.setLevel(level.upper())
    for library in _NOISY_LIBRARIES:
        logging.getLogger(library).setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED_PROCESSORS,  # with the traceback: it is gone when another thread writes the line
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def _formatter(*, is_terminal: bool) -> logging.Formatter:
    if is_terminal:
        renderers: list[Any] = [
            structlog.dev.ConsoleRenderer(
                colors="NO_COLOR" not in os.environ,
                exception_formatter=structlog.dev.plain_traceback,  # no variables: they may hold secrets
            )
        ]
    else:
        renderers = [
            _add_release,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_to_json),
        ]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_SHARED_PROCESSORS,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
    )


def _to_json(line: Any, **_: Any) -> str:
    try:
        return orjson.dumps(line, default=str).decode()
    except orjson.JSONEncodeError:  # lone surrogates in the text of an error, among others
        return json.dumps(line, default=str)


def set_release(release: str) -> None:
    """Name the release in each JSON line from now on."""
    _process_fields["release"] = release


def _add_release(_logger: Any, _name: str, event: Any) -> Any:
    return event | _process_fields


@contextmanager
def to_file(level: str, path: Path) -> Iterator[None]:
    """Log to a file, readable by its owner only, while the dashboard uses the screen."""
    with open(path, "a", buffering=1, opener=open_private) as stream:
        configure(level, stream=stream)
        try:
            yield
        finally:
            configure(level)


def _has_descriptor(stream: TextIO) -> bool:
    try:
        return stream.fileno() >= 0
    except OSError:  # one in memory
        return False


def dropped_lines() -> int:
    """Return how many lines this process has dropped because they could not be written."""
    return _drops.total


def log_stray_output() -> None:
    """Log warnings and uncaught exceptions, which Python would write to stderr, even if that blocks."""
    logging.captureWarnings(capture=True)
    threading.excepthook = lambda stray: _log_stray(
        "a thread ended by an error", stray.exc_value, stray.thread
    )
    sys.unraisablehook = lambda stray: _log_stray("an error was ignored", stray.exc_value, stray.object)


def _log_stray(event: str, error: BaseException | None, where: object) -> None:
    log.error(event, where=getattr(where, "name", type(where).__name__), exc_info=error)


class _Drops:
    """Counts the dropped lines of all threads."""

    def __init__(self) -> None:
        self.total = 0
        self._lock = threading.Lock()

    def add(self) -> None:
        with self._lock:
            self.total += 1


_drops = _Drops()


class _Buffer(queue.Queue[str | None]):
    """A queue whose size is the length of its lines."""

    _length = 0

    def _qsize(self) -> int:
        return self._length

    def _put(self, item: str | None) -> None:
        super()._put(item)
        self._length += len(item or "-")

    def _get(self) -> str | None:
        item: str | None = super()._get()
        self._length -= len(item or "-")
        return item

    @property
    def relaxed(self) -> bool:
        """Whether it is less than half full: the reader reads again."""
        return self._length < self.maxsize // 2


class _LineHandler(QueueHandler):
    """Passes lines to a thread that writes them, and never waits for it; in a forked child, writes itself."""

    def __init__(self, stream: TextIO, formatter: logging.Formatter) -> None:
        self._buffer = _Buffer(_BUFFER_CHARS)
        super().__init__(self._buffer)
        self._pid = os.getpid()
        self._writer = _LineWriter(self._buffer, os.dup(stream.fileno()), formatter)
        self._writer.start()

    def prepare(self, record: logging.LogRecord) -> str:
        """Format the record now: the objects that it refers to may change."""
        return f"{self.format(record)}\n"

    def enqueue(self, record: Any) -> None:
        """Pass a line on, or drop it."""
        if os.getpid() != self._pid:  # the child has no such thread, and may never get its locks
            self._writer.write(record)
            return
        try:
            self._buffer.put_nowait(record)
        except queue.Full:
            _drops.add()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Log that a record cannot be formatted; logging itself would write to stderr, which may block."""
        text = f"a line of {record.name} cannot be formatted: {type(sys.exc_info()[1]).__name__}"
        self.enqueue(_line(self._writer.formatter, text))

    def flush(self) -> None:
        """Wait up to `_FLUSH_SECONDS` until all is written."""
        if os.getpid() == self._pid:
            condition = self._buffer.all_tasks_done
            with condition:
                condition.wait_for(lambda: not self._buffer.unfinished_tasks, _FLUSH_SECONDS)

    def stop(self) -> None:
        """Write what is left and end the thread; a thread that cannot write stays."""
        self.flush()
        self._writer.enqueue_sentinel()


class _LineWriter(QueueListener):
    """Writes lines to a descriptor of its own; reports how many were dropped once it can write again."""

    def __init__(self, buffer: _Buffer, descriptor: int, formatter: logging.Formatter) -> None:
        super().__init__(buffer)
        self.formatter = formatter
        self._buffer = buffer
        self._descriptor = descriptor
        self._reported = _drops.total

    def handle(self, record: Any) -> None:
        """Write a line."""
        if not self.write(record):
            _drops.add()
        elif _drops.total > self._reported and self._buffer.relaxed:
            total = _drops.total
            text = f"{total - self._reported} lines of the log were dropped: the reader was too slow"
            if self.write(_line(self.formatter, text)):
                self._reported = total

    def write(self, line: str) -> bool:
        """Write the line, however long that takes; return whether it was possible."""
        rest = memoryview(line.encode(errors="backslashreplace"))
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:  # another program has made it non-blocking
                poll = select.poll()
                poll.register(self._descriptor, select.POLLOUT)
                poll.poll()
            except OSError:
                return False
        return True

    def enqueue_sentinel(self) -> None:
        """End the thread after the waiting lines; if the buffer is full, the thread is blocked and stays."""
        with suppress(queue.Full):
            self._buffer.put_nowait(None)

    def _monitor(self) -> None:
        super()._monitor()  # type: ignore[misc]
        os.close(self._descriptor)


def _line(formatter: logging.Formatter, text: str) -> str:
    record = {"name": __name__, "levelname": "WARNING", "levelno": logging.WARNING, "msg": text}
    return f"{formatter.format(logging.makeLogRecord(record))}\n"
