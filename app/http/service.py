"""HTTP as a part of the running program: its modules are imported only if it is served."""

from __future__ import annotations

import asyncio
import importlib
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from app.address import listen
from app.admin_token import load_or_create
from app.errors import UsageError, explain_shortage
from app.settings import Settings
from app.version import VERSION
from storage.asyncio_tools import cancel_and_wait
from workers.operations.operations import Operations
from workers.process.worker_process import WorkerProcess

if TYPE_CHECKING:
    from app.http.state import HttpState

log = structlog.get_logger(__name__)

_RETRY_SECONDS = 1.0
_MAX_DELAY_SECONDS = 2.0
"""For the first frame of a dashboard, which would be 0.2 s later if HTTP's modules were loaded with it."""


def open_listener(settings: Settings) -> tuple[socket.socket | None, str]:
    """Return the socket for HTTP, or None and the reason if the default address cannot be used.

    Raises UsageError if an address was named and cannot be used.
    """
    if settings.http is None:
        return None, ""
    try:
        return listen(settings.http), ""
    except OSError as error:
        if (shortage := explain_shortage(error)) is not None:
            raise UsageError(shortage.problem, field=str(settings.http), fix=shortage.fix) from None
        problem = f"{settings.http} cannot be used ({error.strerror})"
        if settings.http_was_set:
            fix = "name another address with --http HOST:PORT, or use --no-http"
            raise UsageError(problem, field=settings.http_source, fix=fix) from None
        return None, problem


def admin_token(settings: Settings, data_dir: Path) -> str:
    """Return the token of the settings, else that of the data directory.  Raises UsageError."""
    token = settings.admin_token
    return token.get_secret_value() if token is not None else load_or_create(data_dir)


@asynccontextmanager
async def serve_in_background(
    server_socket: socket.socket | None,
    operations: Operations,
    process: WorkerProcess | None,
    token: str,
    drained: asyncio.Future[int] | None,
    release: str,
    unready: Callable[[], list[str]],
    *,
    after: Callable[[], Coroutine[Any, Any, None]] | None = None,
) -> AsyncIterator[None]:
    """Serve HTTP on ``server_socket`` while the block runs, without waiting for the start of HTTP.

    ``unready`` returns why the workers do not take jobs.  HTTP starts when ``after`` has returned, or at most
    two seconds later.
    """
    if server_socket is None:
        yield
        return
    closing = asyncio.Event()
    state_of = partial(_state, operations, process, drained, release, unready, closing)
    task = asyncio.create_task(_serve(server_socket, state_of, token, closing, after))
    try:
        yield
    finally:
        closing.set()
        await asyncio.wait({task})


def _state(
    operations: Operations,
    process: WorkerProcess | None,
    drained: asyncio.Future[int] | None,
    release: str,
    unready: Callable[[], list[str]],
    closing: asyncio.Event,
) -> HttpState:
    from app.http.state import HttpState

    return HttpState(operations, process, drained, VERSION, release, unready, closing)


async def _serve(
    server_socket: socket.socket,
    make_state: Callable[[], HttpState],
    token: str,
    closing: asyncio.Event,
    after: Callable[[], Coroutine[Any, Any, None]] | None,
) -> None:
    """Serve, again after errors of the system; the workers go on if a defect ends HTTP."""
    if after is not None:
        waits: list[asyncio.Future[Any]] = [asyncio.create_task(after()), asyncio.create_task(closing.wait())]
        await asyncio.wait(waits, timeout=_MAX_DELAY_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        await cancel_and_wait(waits)
    while not closing.is_set():
        try:
            # In a thread, for the jobs' sake: it takes a quarter of a second, and nothing waits for it.
            await asyncio.to_thread(importlib.import_module, "app.http.server")
            from app.http.server import serve

            await serve(server_socket, make_state(), token, closing)
        except OSError as error:  # for instance no free descriptor: the next time may succeed
            log.warning("http does not start", error=explain_shortage(error) or str(error))
            with suppress(TimeoutError):
                await asyncio.wait_for(closing.wait(), _RETRY_SECONDS)
        except Exception:
            log.exception("http ended")
            return
        else:
            return
