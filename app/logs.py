"""Logs: JSON lines, or text where people read them; what libraries log goes the same way."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import orjson
import structlog


def configure(level: str, *, stream: TextIO | None = None) -> None:
    """Log to ``stream`` (stderr by default): text on a terminal, JSON lines elsewhere."""
    target = stream or sys.stderr
    people = target.isatty()
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    render: Any = (
        structlog.dev.ConsoleRenderer(
            colors="NO_COLOR" not in os.environ,
            exception_formatter=structlog.dev.plain_traceback,  # no local variables: they may hold secrets
        )
        if people
        else structlog.processors.JSONRenderer(
            serializer=lambda value, **_: orjson.dumps(value, default=str).decode()
        )
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in ("httpx", "httpcore", "asyncio", "alembic", "saq", "sqlalchemy", "aiosqlite"):
        logging.getLogger(chatty).setLevel(logging.WARNING)  # httpx logs whole URLs, keys in them
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,  # with the traceback: it is gone when another thread writes the line
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


@contextmanager
def to_file(level: str, path: Path) -> Iterator[None]:
    """Log to a file, readable by its owner only, while the screen belongs to the dashboard."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "a", buffering=1) as stream:
        configure(level, stream=stream)
        try:
            yield
        finally:
            configure(level)
