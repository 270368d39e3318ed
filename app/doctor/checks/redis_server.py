"""A Redis that answers: its first answers, and where it is."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from app.doctor.groups import OPENING_SECONDS, within
from app.doctor.results import Finding, cause_of, ok, warning, wrong
from app.servers.redis_tls import encryption_problem
from app.settings import at_upstash
from storage.redis.client import MAX_CONNECTIONS, execute, make_client, redact_url
from workers.engine.policy import NORMAL, PollIntervals

_PINGS = 5
_SLOW = 0.05  # s
_ENCRYPTION_SECONDS = 1.5  # beside what the opening has
_CLOSE_SECONDS = 0.3
_NO_DATABASE = re.compile(r"DB index|\bdatabase\b|SELECT", re.IGNORECASE)
QUEUES = ("saq:", "couturecast:")
"""How the keys begin, of SAQ's and of ours."""


@dataclass
class RedisServer:
    """A server that answered."""

    url: str
    variable: str
    """Which setting names it."""
    client: Redis
    about: dict[str, Any]
    """What INFO says, or HELLO where INFO is denied; empty where both are."""
    round_trip: float
    """Seconds, the median of some PINGs."""
    embedded: bool = False
    cache_beside: bool = True
    """Whether the cache lives on this server too."""
    pace: PollIntervals = NORMAL
    prefixes: tuple[str, ...] = QUEUES
    """Of the keys that the product has there."""

    @property
    def host(self) -> str:
        """As the URL names it; empty for a Unix socket."""
        return urlsplit(self.url).hostname or ""

    @property
    def is_upstash(self) -> bool:
        """Whether Upstash runs it."""
        return at_upstash(self.url)

    @property
    def role(self) -> str:
        """``master``, ``slave`` or ``replica``; empty where it does not say."""
        return str(self.about.get("role") or "")

    async def close(self) -> None:
        """Close all connections."""
        await self.client.aclose()


async def open_redis(url: str, variable: str, *, embedded: Path | None = None) -> RedisServer | Finding:
    """The server, or why there is none, soon after `OPENING_SECONDS`; ``embedded``: the folder of ours."""
    client = make_client(url)
    client.connection_pool.max_connections = MAX_CONNECTIONS  # whatever the URL asks for
    try:
        server = await within(OPENING_SECONDS, _asked(client, url, variable))
    except Exception as error:  # of redis-py, of the system, or of an answer that nobody has seen yet
        with suppress(Exception):
            await within(_CLOSE_SECONDS, client.aclose())
        if embedded is not None and not isinstance(error, BusyLoadingError):
            return _hung(embedded)
        return await _unreachable(error, url, variable)
    server.embedded = embedded is not None
    return server


async def _asked(client: Redis, url: str, variable: str) -> RedisServer:
    times = []
    for _ in range(_PINGS):
        started = time.perf_counter()
        await execute(client, "PING")
        times.append(time.perf_counter() - started)
    return RedisServer(url, variable, client, await _about(client), statistics.median(times))


async def _about(client: Redis) -> dict[str, Any]:
    return await _told(client.info()) or await _told(_greeting(client))


async def _told(asking: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    """What the server says; nothing where it denies that, or says what nobody else does."""
    try:
        return await asking
    except (RedisConnectionError, RedisTimeoutError):
        raise
    except Exception:
        return {}


async def _greeting(client: Redis) -> dict[str, Any]:
    """What HELLO says, under the names that INFO has for it."""
    reply = await execute(client, "HELLO")
    flat = [each for pair in reply.items() for each in pair] if isinstance(reply, dict) else reply
    text = [each.decode(errors="replace") if isinstance(each, bytes) else each for each in flat]
    said = dict(zip(text[::2], text[1::2], strict=False))
    version = "valkey_version" if said.get("server") == "valkey" else "redis_version"
    return {"role": said.get("role"), "redis_mode": said.get("mode"), version: said.get("version")}


def _hung(folder: Path) -> Finding:
    return wrong(
        f"the embedded server in {folder} runs and does not answer",
        "no command that names this data directory starts",
        f"see {folder}/valkey.log; end the process whose id is in {folder}/pid, and start again",
    )


async def _unreachable(error: Exception, url: str, variable: str) -> Finding:
    place = redact_url(url)
    consequence = "no process starts"
    if isinstance(error, AuthenticationError | AuthorizationError):
        return wrong(
            f"{place} refuses user or password: {cause_of(error)}",
            consequence,
            f"set them in {variable}: redis://USER:PASSWORD@HOST:PORT/0",
        )
    if isinstance(error, BusyLoadingError):
        return wrong(f"{place} loads its data", "processes wait for it at start", "wait until it has")
    if isinstance(error, ResponseError):
        return _refused(error, place, variable)
    with suppress(Exception):  # the server may hang there too
        problem = await within(_ENCRYPTION_SECONDS, encryption_problem(url, error))
        if problem is not None:
            finding, _, mend = problem.rpartition(": ")
            return wrong(f"{place}: {finding}", consequence, f"{mend}; the URL is in {variable}")
    silent = isinstance(error, TimeoutError) and not str(error)
    cause = f"nothing within {OPENING_SECONDS:g} s" if silent else cause_of(error)
    return wrong(
        f"{place} does not answer: {cause}",
        consequence,
        f"see that the server runs, that a firewall lets us through, and that {variable} names it",
    )


def _refused(error: ResponseError, place: str, variable: str) -> Finding:
    """It answers, and lets us not even begin."""
    cause = cause_of(error)
    if _NO_DATABASE.search(cause):
        return wrong(
            f"{place}: there is no such database: {cause}",
            "no process starts",
            f"name a lower number in {variable}, for instance /0",
        )
    return wrong(
        f"{place} refuses: {cause}", "no process starts", "see the server's documents for this error"
    )


async def answers(server: RedisServer) -> Finding:
    """That it does, we know."""
    return ok(redact_url(server.url) + (" (embedded)" if server.embedded else ""))


async def round_trip(server: RedisServer) -> Finding:
    """How long a command takes."""
    took = f"{server.round_trip * 1000:.1f} ms"
    if server.round_trip <= _SLOW:
        return ok(f"{took}, the median of {_PINGS}")
    starts = 1 / server.round_trip
    return warning(
        f"{took}, the median of {_PINGS}",
        f"throughput falls: a queue settles and takes some {starts:.0f} times a second at the most",
        "run the workers in the server's region",
    )
