"""Listens on Postgres for changes that other programs make, which triggers announce by NOTIFY.

One process of the cluster listens, over a connection of its own, and holds an advisory lock while it does.
The others poll that lock over their pool.  Changes made while none listens are missed, so a new listener
first requests a full resync.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from sqlalchemy import text

from storage.asyncio_tools import cancel_and_wait
from storage.backoff import Backoff
from storage.cache.change_queue import ChangeQueue
from storage.cache.tags import ALL_TAG
from storage.database.engine import Database
from storage.errors import DatabaseUnavailableError, one_line

log = structlog.get_logger(__name__)

CHANNEL = "couturecast_cache"
"""Channel of the migrations' triggers; the payload is ``user:<id>``, ``location:<id>`` or `ALL_TAG`."""
_TAG_PREFIXES = ("user:", "location:")

_LOCK = 0x636F757463616368
"""Any number that no other program uses: the key of Postgres' advisory lock."""
_STANDBY_SECONDS = 5.0
"""Interval at which a process that does not listen polls the lock."""
_PING_SECONDS = 15.0
"""Interval at which the listener checks its connection."""
_REPLY_SECONDS = 5.0
"""Timeout of a statement on the listener's connection."""
_SILENT_SECONDS = 45.0
"""A holder of the lock whose connection was idle for longer is frozen, since it pings every 15 s."""
_RECHECK_SECONDS = 60.0
"""Seconds until it is checked again whether notifications arrive."""
_CLOSE_SECONDS = 1.0
_FIRST_RETRY_SECONDS, _MAX_RETRY_SECONDS = 0.25, 10.0

_LOCK_HOLDER_SQL = text(
    "SELECT pid, extract(epoch FROM clock_timestamp() - state_change) AS silent "
    "FROM pg_locks LEFT JOIN pg_stat_activity USING (pid) "
    "WHERE locktype = 'advisory' AND granted AND objsubid = 1 "
    "AND classid = CAST(:high AS bigint) AND objid = CAST(:low AS bigint) "
    "AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
).bindparams(high=_LOCK >> 32, low=_LOCK & 0xFFFFFFFF)
_KEEPALIVE_SQL = (
    "SELECT set_config(name, value, false) FROM pg_settings JOIN (VALUES ('idle_session_timeout', '0'), "
    "('tcp_keepalives_idle', '15'), ('tcp_keepalives_interval', '5'), ('tcp_keepalives_count', '3')"
    ") AS ours (name, value) USING (name)"
)
"""Keeps the server from closing the connection for being idle.  If this host is gone, the server closes it
within 30 s, so that another process can listen."""


async def notifications_arrive(database: Database, *, seconds: float = _REPLY_SECONDS) -> bool:
    """Return whether a notification arrives within ``seconds``.  Changes nothing.

    False also if the database has no `Database.dedicated_connection`.  Raises DatabaseUnavailableError.
    """
    if database.no_session_reason is not None:
        return False
    connection = await database.dedicated_connection()
    from storage.database.postgres_connect import DRIVER_ERRORS

    try:
        return await _is_heard(connection, database, seconds)
    except (*DRIVER_ERRORS, OSError) as error:
        problem = f"{database.safe_url}: notifications cannot be received: {one_line(error)}"
        raise DatabaseUnavailableError(problem) from error
    finally:
        await _close(connection)


class _ConnectionLostError(Exception):
    """The connection that listened was lost."""


class ChangeListener:
    """Calls ``on_change(tag)`` for each change on Postgres, and ``on_resync()`` when it starts to listen.

    The tags are those of `CHANNEL`.  They are delivered one at a time, in order; a tag that is queued already
    is not added again.  A call that raises is logged and retried until it succeeds, and delays no other.
    """

    def __init__(
        self,
        database: Database,
        *,
        on_change: Callable[[str], Awaitable[None]],
        on_resync: Callable[[], Awaitable[None]],
    ) -> None:
        self._database = database
        self._queue = ChangeQueue(on_change, on_resync)
        self._pid: int | None = None
        """The server's process that held the lock for this process last."""
        self._warned = False

    async def run(self) -> None:
        """Listen until cancelled.  Logs why and returns if the database cannot be listened to."""
        reason = self._database.no_session_reason
        if reason is not None:
            level = log.info if self._database.dialect == "sqlite" else log.warning
            level("changes by other programs are not noticed until entries are stale", reason=reason)
            return
        tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._queue.run())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancel_and_wait(tasks, retry_seconds=2 * _CLOSE_SECONDS)
        for task in tasks:
            if not task.cancelled():
                task.result()

    async def _listen(self) -> None:
        backoff = Backoff(_FIRST_RETRY_SECONDS, _MAX_RETRY_SECONDS)
        while True:
            try:
                pause = await self._listen_or_stand_by()
            except Exception as error:
                if isinstance(error, _ConnectionLostError):
                    backoff.reset()
                pause = backoff.next()
                self._warn_once("changes by other programs are not received now", error)
            else:
                backoff.reset()
            await asyncio.sleep(pause)

    async def _listen_or_stand_by(self) -> float:
        """Listen until the connection is lost, which raises; or return the seconds until the next try."""
        holder, silent_seconds = await self._lock_holder()
        if holder is not None and holder != self._pid and silent_seconds < _SILENT_SECONDS:
            self._warned = False
            return _STANDBY_SECONDS
        connection = await self._database.dedicated_connection()
        try:
            if not await _is_heard(connection, self._database, _REPLY_SECONDS):
                self._warn_once("notifications do not arrive", _not_heard(self._database))
                return _RECHECK_SECONDS
            await connection.execute(_KEEPALIVE_SQL)
            if holder is not None:  # a frozen process, or our lost connection, for which the server waits
                await connection.execute("SELECT pg_terminate_backend($1)", holder)
            if await self._acquire_lock(connection):
                await self._listen_until_lost(connection)
        finally:
            await _close(connection)
        return _FIRST_RETRY_SECONDS  # another process was faster

    async def _lock_holder(self) -> tuple[int | None, float]:
        """Return the server's process that holds the lock, and the seconds for which it has been idle."""
        async with self._database.connect() as connection:
            holder = (await connection.execute(_LOCK_HOLDER_SQL)).one_or_none()
        return (None, 0.0) if holder is None else (holder.pid, float(holder.silent or 0.0))

    async def _acquire_lock(self, connection: Any) -> bool:
        acquired = "SELECT pg_try_advisory_lock($1)"
        if not await connection.fetchval(acquired, _LOCK, timeout=_REPLY_SECONDS):
            return False
        self._pid = await connection.fetchval("SELECT pg_backend_pid()", timeout=_REPLY_SECONDS)
        return True

    async def _listen_until_lost(self, connection: Any) -> None:
        """Listen; raises _ConnectionLostError in the end."""
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _: lost.set())
        await connection.add_listener(CHANNEL, self._receive)
        self._queue.add_resync()
        self._warned = False
        log.info("listening to changes by other programs")
        try:
            while not await _wait_for(lost, _PING_SECONDS):
                await connection.fetchval("SELECT 1", timeout=_REPLY_SECONDS)
        except Exception as error:
            raise _ConnectionLostError(f"the connection that listens did not answer: {error}") from error
        raise _ConnectionLostError("the connection that listens was lost")

    def _receive(self, connection: object, pid: int, channel: str, payload: str) -> None:
        if payload == ALL_TAG or payload.startswith(_TAG_PREFIXES):
            self._queue.add(payload)
        else:
            log.debug("a notification of another program is not understood", payload=payload)

    def _warn_once(self, problem: str, cause: object) -> None:
        """Log a warning, and no other until this process listens or stands by."""
        if not self._warned:
            log.warning(problem, cause=one_line(cause))
            self._warned = True


def _not_heard(database: Database) -> str:
    return (
        f"{database.safe_url}: notifications sent over it are not received: give as DIRECT_URL the URL of "
        "the same database past any transaction pooler"
    )


async def _is_heard(connection: Any, database: Database, seconds: float) -> bool:
    """Return whether a notification sent over the pool arrives at ``connection``, on a channel of its own."""
    channel = f"couturecast_test_{secrets.token_hex(8)}"
    arrived = asyncio.Event()

    def receive(*_: object) -> None:
        arrived.set()

    await connection.add_listener(channel, receive)
    async with database.begin() as sender:
        await sender.execute(text("SELECT pg_notify(:channel, '')"), {"channel": channel})
    if not await _wait_for(arrived, seconds):
        return False
    await connection.remove_listener(channel, receive)
    return True


async def _wait_for(event: asyncio.Event, seconds: float) -> bool:
    """Return whether the event is set within ``seconds``."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True


async def _close(connection: Any) -> None:
    """Close a connection; without its server if that does not answer."""
    try:
        await asyncio.wait_for(connection.close(), _CLOSE_SECONDS)
    except Exception:  # asyncpg raises errors of many classes for a lost connection
        connection.terminate()
