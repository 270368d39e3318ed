"""Replaces the handler processes of a queue when the code of the team changes, for who writes it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping

import structlog

from storage.asyncio_tools import cancel_and_wait
from workers.errors import HandlerImportError
from workers.handlers.processes.pool import HandlerPool

log = structlog.get_logger(__name__)

_POLL_SECONDS = 0.5


class FileWatch:
    """Notices which of some files have changed, were removed, or are there again."""

    def __init__(self) -> None:
        self._stamps: dict[str, list[int] | None] = {}

    def changed_files(self, files: Mapping[str, list[int]]) -> list[str]:
        """Return the files that differ from the last call.

        ``files`` has the time, in nanoseconds, and the size of each when it was imported.  A file that is new
        to this watch is compared with these.
        """
        now = {file: _stamp(file) for file in files}
        before = {**files, **self._stamps}
        self._stamps = now
        return sorted(file for file, stamp in now.items() if before[file] != stamp)


def _stamp(file: str) -> list[int] | None:
    try:
        status = os.stat(file)
    except OSError:
        return None
    return [status.st_mtime_ns, status.st_size]


async def replace_on_change(pool: HandlerPool) -> None:
    """Watch the files of the team's modules that the processes have imported, without end."""
    watch = FileWatch()
    replacing: list[asyncio.Task[None]] = []
    try:
        while True:
            changed = await asyncio.to_thread(watch.changed_files, await pool.read_files())
            if changed:  # what is still being imported has changed, too
                await cancel_and_wait(replacing)
                replacing = [asyncio.create_task(_replace(pool, changed[0]))]
            await asyncio.sleep(_POLL_SECONDS)
            if replacing and replacing[0].done():
                replacing.pop().result()
    finally:
        await cancel_and_wait(replacing)


async def _replace(pool: HandlerPool, file: str) -> None:
    try:
        await pool.replace()
    except HandlerImportError as error:
        log_broken(pool, error, file=file)
    else:
        log.info("the handler was replaced: its code has changed", queue=pool.source.queue, file=file)


def log_broken(pool: HandlerPool, error: HandlerImportError, **about: str) -> None:
    """Log that the code has to be corrected first."""
    problem = "nothing of the queue runs until its handler can be imported"
    log.error(problem, queue=pool.source.queue, error=str(error), **about)
