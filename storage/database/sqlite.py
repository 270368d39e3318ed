"""How each connection to SQLite begins and ends, and each transaction."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import suppress
from typing import Any

import aiosqlite
from sqlalchemy import Connection
from sqlalchemy.util.concurrency import await_, in_greenlet


async def connect(*args: Any, **options: Any) -> aiosqlite.Connection:
    """Connect.  If that fails, wait for the end of the connection's thread.

    It still answers the event loop, and would find it closed if that was the last thing that the loop did.
    """
    connection = aiosqlite.connect(*args, **options)
    connection._thread.daemon = True  # as SQLAlchemy has it
    try:
        return await connection
    except sqlite3.Error:
        await asyncio.to_thread(connection._thread.join, 1.0)
        raise


def prepare_connection(busy_seconds: float, connection: Any, record: object) -> None:
    """WAL, so that readers do not wait; FULL, so that a recorded dead letter survives a power cut."""
    connection.isolation_level = None  # the driver would begin transactions by itself, and too late
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={round(busy_seconds * 1000)}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def begin_transaction(connection: Connection) -> None:
    """A transaction that writes takes the write lock at once: waiting for it is possible only there."""
    mode = connection.get_execution_options().get("begin", "DEFERRED")
    connection.exec_driver_sql(f"BEGIN {mode}")


def terminate_connection(connection: Any) -> None:
    """Close a connection whose statement was cancelled, however often it is cancelled.

    SQLAlchemy ends the connection's thread if the close is cancelled too.  The close, which it shields, then
    waits for that thread for ever, and so does the end of the event loop.
    """

    async def close() -> None:
        with suppress(ValueError):  # it is closed
            await connection.driver_connection.interrupt()
        await connection._terminate_graceful_close()

    if in_greenlet():
        await_(asyncio.shield(close()))
    else:  # the garbage collector's
        connection._terminate_force_close()
