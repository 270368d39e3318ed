"""HTTP as a part of the running program; what it needs is imported only where it is served."""

from __future__ import annotations

import asyncio
import importlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import structlog

from app.address import listen
from app.admin_token import kept_token
from app.errors import UsageError, exhausted
from app.settings import Settings
from app.version import VERSION
from workers.operations.operations import Operations
from workers.process.worker_process import WorkerProcess

log = structlog.get_logger(__name__)

_RETRY_SECONDS = 1.0


def listener(settings: Settings) -> tuple[socket.socket | None, str]:
    """The socket that HTTP is to be served on, or why there is none although nobody said so.

    Raises UsageError where the address was named and cannot be used.
    """
    if settings.http is None:
        return None, ""
    try:
        return listen(settings.http), ""
    except OSError as error:
        if (problem := exhausted(error)) is not None:
            raise UsageError(f"{settings.http}: {problem}") from None
        cause = f"{settings.http} cannot be used ({error.strerror})"
        if settings.http_named:
            raise UsageError(
                f"{settings.http_name}: {cause}: name another address with --http HOST:PORT, or use --no-http"
            ) from None
        return None, cause


@asynccontextmanager
async def serving(
    door: socket.socket | None,
    operations: Operations,
    process: WorkerProcess | None,
    token: str,
    drained: asyncio.Future[int] | None,
) -> AsyncIterator[None]:
    """HTTP on ``door`` for the length of a block, which does not wait for its start."""
    if door is None:
        yield
        return
    ending = asyncio.Event()
    running = asyncio.create_task(_serve(door, operations, process, token, drained, ending))
    try:
        yield
    finally:
        ending.set()
        await asyncio.wait({running})


def admin_token(settings: Settings, data_dir: Path) -> str:
    """The token that the settings name, or the one that is kept in the data directory.  Raises UsageError."""
    given = settings.admin_token
    return given.get_secret_value() if given is not None else kept_token(data_dir)


async def _serve(
    door: socket.socket,
    operations: Operations,
    process: WorkerProcess | None,
    token: str,
    drained: asyncio.Future[int] | None,
    ending: asyncio.Event,
) -> None:
    """A defect of HTTP is reported, and the workers go on; it starts again after an error of the system."""
    while not ending.is_set():
        try:
            # In a thread, for the jobs' sake: it takes a tenth of a second, and nobody waits for it.
            await asyncio.to_thread(importlib.import_module, "app.http.server")
            from app.http.server import serve
            from app.http.state import HttpState

            await serve(door, HttpState(operations, process, drained, VERSION), token, ending)
        except OSError as error:  # as where no descriptor is free: the next time may do
            log.warning("http does not start", error=exhausted(error) or str(error))
            with suppress(TimeoutError):
                await asyncio.wait_for(ending.wait(), _RETRY_SECONDS)
        except Exception:
            log.exception("http ended")
            return
        else:
            return
