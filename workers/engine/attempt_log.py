"""The newest lines of the log: those of this process, and those of each attempt that runs.

A context variable names the attempt, so the lines of its tasks and threads count, too, by whichever library
they are logged.  A job that logs nothing costs one assignment.
"""

from __future__ import annotations

import logging
import sys
from collections import deque
from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

MAX_ATTEMPT_LINES = 20
"""Lines that are kept of an attempt."""
MAX_ATTEMPT_BYTES = 8_192
"""Bytes of these lines that a failed attempt's record keeps: the newest."""
_MAX_PROCESS_LINES = 500
_MAX_LINE_CHARS = 500
_OWN_FIELDS = frozenset(
    {"event", "level", "timestamp", "queue", "job", "attempt", "worker", "exc_info", "stack_info"}
)
"""Fields of a structlog line that do not belong into its text."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line; ``at`` in Unix seconds.  Outside of an attempt the last four are None."""

    at: float
    level: str
    text: str
    queue: str | None = None
    job: str | None = None
    attempt: int | None = None
    worker: str | None = None

    def to_fields(self) -> dict[str, Any]:
        """Return its fields for a document, with its time as a datetime."""
        return asdict(self) | {"at": datetime.fromtimestamp(self.at, UTC)}


class LoggedAttempt(Protocol):
    """The part of a running attempt that the log needs."""

    ended: bool
    lines: deque[LogLine] | None
    """Its newest lines; None as long as it has logged nothing."""

    def log_fields(self) -> dict[str, Any]:
        """Return queue, job, attempt and worker."""


current_attempt: ContextVar[LoggedAttempt | None] = ContextVar("current_attempt", default=None)

_newest: deque[LogLine] = deque(maxlen=_MAX_PROCESS_LINES)


def newest_lines() -> list[LogLine]:
    """Return the newest lines of this process, the oldest of them first."""
    return list(_newest)


def log_text(lines: Iterable[LogLine] | None) -> list[str]:
    """Return the lines of an attempt as its record keeps them: the newest that fit into the limit."""
    texts: list[str] = []
    bytes_left = MAX_ATTEMPT_BYTES
    for line in reversed(list(lines or ())):
        time = datetime.fromtimestamp(line.at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        text = f"{time} {line.level} {line.text}"
        bytes_left -= len(text.encode())
        if bytes_left < 0:
            break
        texts.append(text)
    return texts[::-1]


def add_attempt_fields(_logger: Any, _name: str, event: Any) -> Any:
    """Add queue, job, attempt and worker to a line of an attempt that runs; a processor of structlog."""
    attempt = current_attempt.get()
    if attempt is not None and not attempt.ended:
        for name, value in attempt.log_fields().items():
            event.setdefault(name, value)
    return event


class MemoryHandler(logging.Handler):
    """Keeps the newest lines in memory."""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line.  One that cannot be formatted is reported by the handler that writes it."""
        try:
            text = _text(record)
        except Exception:  # of an object that a handler logs
            text = f"a line of {record.name} that cannot be formatted"
        attempt = current_attempt.get()
        running = attempt is not None and not attempt.ended
        fields = attempt.log_fields() if attempt is not None and running else {}
        line = LogLine(record.created, record.levelname.lower(), _cut(text), **fields)
        _newest.append(line)
        if attempt is not None and running:
            if attempt.lines is None:
                attempt.lines = deque(maxlen=MAX_ATTEMPT_LINES)
            attempt.lines.append(line)


def _text(record: logging.LogRecord) -> str:
    """Return the line without its time, its level and the fields of an attempt."""
    if not isinstance(record.msg, dict):
        return f"{record.getMessage()}{_error(record.exc_info)}"
    event = record.msg
    fields = [f" {name}={_value(value)}" for name, value in event.items() if name not in _OWN_FIELDS]
    return f"{event.get('event', '')}{''.join(fields)}{_error(event.get('exc_info'))}"


def _value(value: object) -> str:
    return value if isinstance(value, str) else repr(value)


def _error(exc_info: Any) -> str:
    """Return the error of a line, in logging's and structlog's forms; its traceback is in the log itself."""
    if isinstance(exc_info, Sequence):
        exc_info = exc_info[1]
    elif exc_info is True:
        exc_info = sys.exc_info()[1]
    return f": {type(exc_info).__name__}: {exc_info}" if isinstance(exc_info, BaseException) else ""


def _cut(text: str) -> str:
    text = text[: _MAX_LINE_CHARS + 1].encode(errors="backslashreplace").decode()
    return text if len(text) <= _MAX_LINE_CHARS else f"{text[: _MAX_LINE_CHARS - 1]}…"
