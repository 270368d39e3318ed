"""How each connection to SQLite begins, and each transaction."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection


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
