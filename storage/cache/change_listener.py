"""Hears what other programs change on Postgres, by the notifications of its triggers.

One process of the cluster listens, over one connection of its own, and holds an advisory lock meanwhile; the
others look every few seconds, over their pool, whether that lock is free.  What is written while nobody
listens is not heard: whoever begins to listen says so.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # has no stubs
import structlog
from sqlalchemy import text

from storage.asyncio_tools import cancel_and_wait
from storage.cache.tags import ALL_TAG
from storage.database.engine import Database
from storage.errors import DatabaseUnavailableError

log = structlog.get_logger(__name__)

CHANNEL = "couturecast_cache"
"""Where the triggers of the migrations send; the payload is ``user:<id>``, ``location:<id>`` or `ALL_TAG`."""
_KINDS = ("user:", "location:")

_LOCK = 0x636F757463616368  # any number of ours: the key of Postgres' advisory lock
_MOST_WAITING = 10_000
"""Subjects that wait to be handed on; of more, `ALL_TAG` is what is left."""
_STANDBY_SECONDS = 5.0
_BEAT_SECONDS = 15.0
_ANSWER_SECONDS = 5.0
_SILENT_SECONDS = 45.0
"""After which whoever holds the lock and has said nothing is frozen: it says something every 15."""
_DEAF_SECONDS = 60.0
"""Before it is tried again whether notifications arrive."""
_CLOSE_SECONDS = 1.0
_FIRST_DELAY, _LONGEST_DELAY = 0.25, 10.0
"""Seconds before what failed is tried again."""
_OUTAGE = 3
"""Failures in a row, after which what else waits is not tried at once."""

_HOLDER = text(
    "SELECT pid, extract(epoch FROM clock_timestamp() - state_change) AS silent "
    "FROM pg_locks LEFT JOIN pg_stat_activity USING (pid) "
    "WHERE locktype = 'advisory' AND granted AND objsubid = 1 "
    "AND classid = CAST(:high AS bigint) AND objid = CAST(:low AS bigint) "
    "AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
).bindparams(high=_LOCK >> 32, low=_LOCK & 0xFFFFFFFF)
_LONG_LIFE = (
    "SELECT set_config(name, wanted, false) FROM pg_settings JOIN (VALUES ('idle_session_timeout', '0'), "
    "('tcp_keepalives_idle', '15'), ('tcp_keepalives_interval', '5'), ('tcp_keepalives_count', '3')"
    ") AS ours (name, wanted) USING (name)"
)
"""Not ended for being idle; and ended by the server within 30 s where this host is no longer there, so that
another process can listen."""


async def notifications_arrive(database: Database, *, seconds: float = _ANSWER_SECONDS) -> bool:
    """Whether notifications arrive.  Changes nothing.

    False where none arrived within ``seconds``, and where there is nothing to hear them with.
    Raises DatabaseUnavailableError.
    """
    if database.no_session_reason is not None:
        return False
    connection = await database.dedicated_connection()
    try:
        return await _hears(connection, database, seconds)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        cause = " ".join(str(error).split()) or type(error).__name__
        raise DatabaseUnavailableError(
            f"{database.safe_url}: notifications cannot be heard: {cause}"
        ) from error
    finally:
        await _close(connection)


class _LostError(Exception):
    """The connection that listened is gone."""


class ChangeListener:
    """Calls ``on_change(tag)`` for each change on Postgres, and ``on_resync()`` when it starts to listen.

    The tags are those of `CHANNEL`.  They are handed on one at a time, in order; one that waits already
    is not added again.  What raises is logged and tried again until it passes, and holds up no other.
    """

    def __init__(
        self,
        database: Database,
        *,
        on_change: Callable[[str], Awaitable[None]],
        on_resync: Callable[[], Awaitable[None]],
    ) -> None:
        self._database = database
        self._desk = _Desk(on_change, on_resync)
        self._pid: int | None = None
        """Of the server's process that held the lock for us last."""
        self._told = False

    async def run(self) -> None:
        """Listen until cancelled.  Returns where the database has nothing to listen to, and logs why."""
        reason = self._database.no_session_reason
        if reason is not None:
            level = log.info if self._database.dialect == "sqlite" else log.warning
            level("changes by other programs are seen when entries have grown old", reason=reason)
            return
        tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._desk.run())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancel_and_wait(tasks, retry_seconds=2 * _CLOSE_SECONDS)
        for task in tasks:
            if not task.cancelled():
                task.result()

    async def _listen(self) -> None:
        failures = 0
        while True:
            try:
                pause = await self._turn()
            except Exception as error:
                failures = 1 if isinstance(error, _LostError) else failures + 1
                pause = _delay(failures)
                self._warn("changes of other programs are not heard now", error)
            else:
                failures = 0
            await asyncio.sleep(pause)

    async def _turn(self) -> float:
        """Listen until the connection is lost, which raises; or seconds to stand by."""
        holder, silent = await self._holder()
        if holder is not None and holder != self._pid and silent < _SILENT_SECONDS:
            self._told = False
            return _STANDBY_SECONDS
        connection = await self._database.dedicated_connection()
        try:
            if not await _hears(connection, self._database, _ANSWER_SECONDS):
                self._warn("notifications do not arrive", _no_arrival(self._database))
                return _DEAF_SECONDS
            await connection.execute(_LONG_LIFE)
            if holder is not None:  # a frozen process', or one of ours that was lost: the server keeps both
                await connection.execute("SELECT pg_terminate_backend($1)", holder)
            if await self._lock(connection):
                await self._hear(connection)
        finally:
            await _close(connection)
        return _FIRST_DELAY  # somebody else was faster

    async def _holder(self) -> tuple[int | None, float]:
        """The server's process that has the lock, and for how many seconds it has had nothing to do."""
        async with self._database.connect() as connection:
            found = (await connection.execute(_HOLDER)).one_or_none()
        return (None, 0.0) if found is None else (found.pid, float(found.silent or 0.0))

    async def _lock(self, connection: Any) -> bool:
        if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK, timeout=_ANSWER_SECONDS):
            return False
        self._pid = await connection.fetchval("SELECT pg_backend_pid()", timeout=_ANSWER_SECONDS)
        return True

    async def _hear(self, connection: Any) -> None:
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _: lost.set())
        await connection.add_listener(CHANNEL, self._receive)
        self._desk.add_gap()
        self._told = False
        log.info("listening to changes by other programs")
        try:
            while not await _happens(lost, _BEAT_SECONDS):
                await connection.fetchval("SELECT 1", timeout=_ANSWER_SECONDS)
        except Exception as error:
            raise _LostError(f"the connection that listens gave no answer: {error}") from error
        raise _LostError("the connection that listens was lost")

    def _receive(self, connection: object, pid: int, channel: str, payload: str) -> None:
        if payload == ALL_TAG or payload.startswith(_KINDS):
            self._desk.add(payload)
        else:
            log.debug("a notification of somebody else's is not understood", payload=payload)

    def _warn(self, what: str, cause: object) -> None:
        """Once, until it listens again."""
        if not self._told:
            log.warning(what, cause=" ".join(str(cause).split()) or type(cause).__name__)
            self._told = True


class _Desk:
    """Subjects in order, each once, and who is to be told of them."""

    def __init__(
        self, on_change: Callable[[str], Awaitable[None]], on_resync: Callable[[], Awaitable[None]]
    ) -> None:
        self._on_change = on_change
        self._on_gap = on_resync
        self._waiting: dict[str | None, None] = {}  # None: the gap
        self._failed: dict[str | None, None] = {}
        self._news = asyncio.Event()
        self._troubled = False

    def add_gap(self) -> None:
        """Something may have changed that was not heard."""
        self._put(None)

    def add(self, subject: str) -> None:
        """This has changed."""
        self._put(subject)

    def _put(self, subject: str | None) -> None:
        self._failed.pop(subject, None)
        self._waiting[subject] = None
        if len(self._waiting) + len(self._failed) > _MOST_WAITING:
            gap = None in self._waiting or None in self._failed
            self._waiting = dict.fromkeys([None, ALL_TAG] if gap else [ALL_TAG])
            self._failed = {}
        self._news.set()

    async def run(self) -> None:
        """Hand on what comes, until cancelled; what failed again, after a delay that grows."""
        failures = 0
        while True:
            await self._some(_delay(failures))
            failures = 0 if await self._hand_on(next(iter(self._waiting))) else failures + 1
            if failures >= _OUTAGE and self._waiting:
                await asyncio.sleep(_delay(failures))

    async def _some(self, delay: float) -> None:
        """Return when something waits: what is new at once, what failed after ``delay`` seconds."""
        while not self._waiting:
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), delay if self._failed else None)
            except TimeoutError:
                self._waiting, self._failed = self._failed, {}

    async def _hand_on(self, subject: str | None) -> bool:
        del self._waiting[subject]
        try:
            await (self._on_gap() if subject is None else self._on_change(subject))
        except Exception as error:
            if not self._troubled:
                cause = " ".join(str(error).split()) or type(error).__name__
                log.warning("a change is not taken, and tried again", subject=subject or "gap", cause=cause)
            self._troubled = True
            if subject not in self._waiting:
                self._failed[subject] = None
            return False
        if self._troubled and not self._waiting and not self._failed:
            self._troubled = False
            log.info("all changes are taken again")
        return True


def _delay(failures: int) -> float:
    """Seconds before what failed so often in a row is tried again."""
    return float(min(_FIRST_DELAY * 2 ** min(max(failures - 1, 0), 10), _LONGEST_DELAY))


def _no_arrival(database: Database) -> str:
    return (
        f"{database.safe_url}: what is sent over it is not heard: give as DIRECT_URL the URL of the same "
        "database past any transaction pooler"
    )


async def _hears(connection: Any, database: Database, seconds: float) -> bool:
    """Whether what is sent over the pool arrives at ``connection``, on a channel that nobody else uses."""
    channel = f"couturecast_test_{secrets.token_hex(8)}"
    arrived = asyncio.Event()

    def hear(*_: object) -> None:
        arrived.set()

    await connection.add_listener(channel, hear)
    async with database.begin() as sender:
        await sender.execute(text("SELECT pg_notify(:channel, '')"), {"channel": channel})
    if not await _happens(arrived, seconds):
        return False
    await connection.remove_listener(channel, hear)
    return True


async def _happens(event: asyncio.Event, seconds: float) -> bool:
    """Whether it does within ``seconds``."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True


async def _close(connection: Any) -> None:
    """In order where the server answers, else at once."""
    try:
        await asyncio.wait_for(connection.close(), _CLOSE_SECONDS)
    except Exception:  # whatever a lost connection raises
        connection.terminate()
