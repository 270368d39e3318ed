"""Opens and closes connections to SQLite, and begins their transactions."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import suppress
from typing import Any

import aiosqlite
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError
from sqlalchemy.util.concurrency import await_, in_greenlet

from storage.backoff import Backoff
from storage.database.errors import is_busy

_INTERRUPT_SECONDS = 0.02
"""Between two interrupts of a connection that is being closed."""


async def connect(*args: Any, **options: Any) -> aiosqlite.Connection:
    """Connect.  If that fails, wait for the end of the connection's thread.

    The thread still calls the event loop, and would raise if the loop was closed by then.
    """
    connection = aiosqlite.connect(*args, **options)
    connection._thread.daemon = True  # as SQLAlchemy has it
    try:
        return await connection
    except sqlite3.Error:
        await asyncio.to_thread(connection._thread.join, 1.0)
        raise


def prepare_connection(connection: Any, record: object) -> None:
    """Choose WAL, so that readers do not wait, and FULL, so that a recorded letter survives a power cut."""
    connection.isolation_level = None  # else the driver begins transactions itself, and too late
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def begin_transaction(busy_seconds: float, connection: Connection) -> None:
    """Begin a transaction; one that writes takes the write lock at once, since only BEGIN can wait for it.

    It waits ``busy_seconds`` for another writer.  The wait is in the event loop, between tries: one of SQLite
    itself, in the connection's thread, could not be cancelled.
    """
    mode = connection.get_execution_options().get("begin", "DEFERRED")
    _let_sqlite_wait(connection, 0.0 if mode == "IMMEDIATE" else busy_seconds)
    deadline, backoff = time.monotonic() + busy_seconds, Backoff(0.002, 0.1, jitter=0.5)
    while True:
        try:
            connection.exec_driver_sql(f"BEGIN {mode}")
        except OperationalError as error:
            if mode != "IMMEDIATE" or not is_busy(error) or time.monotonic() >= deadline:
                raise
            await_(asyncio.sleep(backoff.next()))
        else:
            return


def _let_sqlite_wait(connection: Connection, seconds: float) -> None:
    """Have each statement wait ``seconds`` for the locks of others."""
    if connection.info.get("busy_seconds") != seconds:
        connection.exec_driver_sql(f"PRAGMA busy_timeout={round(seconds * 1000)}")
        connection.info["busy_seconds"] = seconds


def terminate_connection(connection: Any) -> None:
    """Close a connection whose statement was cancelled, however often it is cancelled.

    SQLAlchemy ends the connection's thread if the close is cancelled too.  The shielded close then waits for
    that thread forever, and so does the end of the event loop.
    """

    async def close() -> None:
        closing = asyncio.create_task(_roll_back_and_close(connection))
        while not (await asyncio.wait({closing}, timeout=_INTERRUPT_SECONDS))[0]:
            # A statement that the thread begins after an interrupt runs to its end.
            with suppress(ValueError, sqlite3.ProgrammingError):  # it is closed
                await connection.driver_connection.interrupt()
        await closing

    if in_greenlet():
        await_(asyncio.shield(close()))
    else:  # the garbage collector's
        connection._terminate_force_close()


async def _roll_back_and_close(connection: Any) -> None:
    """A closed connection keeps its locks until the garbage collector finds the cancelled statement."""
    with suppress(ValueError, sqlite3.Error):  # it is closed, or interrupted, which rolls back, too
        await connection.driver_connection.rollback()
    await connection._terminate_graceful_close()
