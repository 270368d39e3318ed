"""Opens a Redis for the checks: connects, measures the round trip, reads what it reports about itself."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
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

from app.doctor.groups import OPENING_SECONDS, run_with_timeout
from app.doctor.results import Finding, describe_cause, ok, warning, wrong
from app.redis_url import at_upstash
from app.servers.redis_tls import diagnose_tls
from storage.redis.client import MAX_CONNECTIONS, execute, make_client, redact_url
from storage.redis.info import ServerInfo, reply_or_empty
from workers.engine.policy import NORMAL, PollIntervals, QueuePolicy
from workers.monitoring.alert_rules import DEFAULTS, Thresholds

_PINGS = 5
_SLOW_SECONDS = 0.05
_DIAGNOSIS_SECONDS = 1.5
"""Timeout of the diagnosis after a failed opening; `OPENING_SECONDS` are over by then."""
_CLOSE_SECONDS = 0.3
_NO_DATABASE = re.compile(r"DB index|\bdatabase\b|SELECT", re.IGNORECASE)
QUEUES = ("saq:", "couturecast:")
"""Prefixes of the keys of SAQ and of ours."""


@dataclass
class RedisServer:
    """A server that answered."""

    url: str
    variable: str
    """Name of the setting that holds the URL."""
    client: Redis
    info: ServerInfo
    round_trip: float
    """Seconds, the median of some PINGs."""
    embedded: bool = False
    cache_is_shared: bool = True
    """Whether the cache is on this server, too."""
    pace: PollIntervals = NORMAL
    thresholds: Thresholds = DEFAULTS
    """The limits of alerts."""
    policies: Mapping[str, QueuePolicy] = field(default_factory=dict)
    """Names of the queues, by the settings of this command."""
    prefixes: tuple[str, ...] = QUEUES
    """Prefixes of the keys that the product has there."""
    queues: tuple[str, ...] = ()
    """The queues that it holds, and the others; empty if all queues share it."""
    foreign: tuple[str, ...] = ()
    same_as: str = ""
    """The setting that names the same database of the same server, too."""
    same_server_as: str = ""
    """The setting that names another database of the same server."""

    @property
    def host(self) -> str:
        """Host of the URL; empty for a Unix socket."""
        return urlsplit(self.url).hostname or ""

    @property
    def is_upstash(self) -> bool:
        """Whether Upstash runs it."""
        return at_upstash(self.url)

    async def close(self) -> None:
        """Close all connections."""
        await self.client.aclose()


async def open_redis(url: str, variable: str, *, embedded: Path | None = None) -> RedisServer | Finding:
    """Return the server, or why it does not answer, soon after `OPENING_SECONDS`.

    ``embedded`` is the folder of the embedded server, if it is one.
    """
    client = make_client(url)
    client.connection_pool.max_connections = MAX_CONNECTIONS  # whatever the URL sets
    try:
        server = await run_with_timeout(OPENING_SECONDS, _connect(client, url, variable))
    except Exception as error:  # of redis-py, of the system, or of an unusual answer
        with suppress(Exception):
            await run_with_timeout(_CLOSE_SECONDS, client.aclose())
        if embedded is not None and not isinstance(error, BusyLoadingError):
            return _embedded_hangs(embedded)
        return await _unreachable(error, url, variable)
    server.embedded = embedded is not None
    return server


async def _connect(client: Redis, url: str, variable: str) -> RedisServer:
    times = []
    for _ in range(_PINGS):
        started = time.perf_counter()
        await execute(client, "PING")
        times.append(time.perf_counter() - started)
    info = await _server_info(client)
    return RedisServer(url, variable, client, info, statistics.median(times))


async def _server_info(client: Redis) -> ServerInfo:
    return ServerInfo.parse(await reply_or_empty(client.info()) or await reply_or_empty(_hello(client)))


async def _hello(client: Redis) -> dict[str, Any]:
    """Return the reply to HELLO, under the names that INFO has for the same facts."""
    reply = await execute(client, "HELLO")
    flat = [part for pair in reply.items() for part in pair] if isinstance(reply, dict) else reply
    texts = [part.decode(errors="replace") if isinstance(part, bytes) else part for part in flat]
    facts = dict(zip(texts[::2], texts[1::2], strict=False))
    version = "valkey_version" if facts.get("server") == "valkey" else "redis_version"
    return {"role": facts.get("role"), "redis_mode": facts.get("mode"), version: facts.get("version")}


def _embedded_hangs(folder: Path) -> Finding:
    return wrong(
        f"the embedded server in {folder} runs and does not answer",
        "no command that names this data directory starts",
        f"see {folder}/valkey.log; end the process whose id is in {folder}/pid, and start again",
    )


async def _unreachable(error: Exception, url: str, variable: str) -> Finding:
    server = redact_url(url)
    consequence = "no process starts"
    if isinstance(error, AuthenticationError | AuthorizationError):
        return wrong(
            f"{server} refuses user or password: {describe_cause(error)}",
            consequence,
            f"set them in {variable}: redis://USER:PASSWORD@HOST:PORT/0",
        )
    if isinstance(error, BusyLoadingError):
        return wrong(f"{server} loads its data", "processes wait for it at start", "wait until it has")
    if isinstance(error, ResponseError):
        return _refusal_finding(error, server, variable)
    with suppress(Exception):  # the server may hang there, too
        problem = await run_with_timeout(_DIAGNOSIS_SECONDS, diagnose_tls(url, error))
        if problem is not None:
            fix = f"{problem.fix}; the URL is in {variable}"
            return wrong(f"{server}: {problem.problem}", consequence, fix)
    timed_out = isinstance(error, TimeoutError) and not str(error)
    cause = f"nothing within {OPENING_SECONDS:g} s" if timed_out else describe_cause(error)
    return Finding(
        "wrong",
        f"{server} does not answer: {cause}",
        consequence,
        f"see that the server runs, that a firewall lets us through, and that {variable} names it",
        is_silent=True,
    )


def _refusal_finding(error: ResponseError, server: str, variable: str) -> Finding:
    """Return the finding about a server that answers the first command with an error."""
    cause = describe_cause(error)
    if _NO_DATABASE.search(cause):
        return wrong(
            f"{server}: there is no such database: {cause}",
            "no process starts",
            f"name a lower number in {variable}, for instance /0",
        )
    return wrong(
        f"{server} refuses: {cause}", "no process starts", "see the server's documents for this error"
    )


async def answers(server: RedisServer) -> Finding:
    """Report the server that was opened."""
    return ok(redact_url(server.url) + (" (embedded)" if server.embedded else ""))


async def round_trip(server: RedisServer) -> Finding:
    """Check the time that a command takes."""
    text = f"{server.round_trip * 1000:.1f} ms, the median of {_PINGS}"
    if server.round_trip <= _SLOW_SECONDS:
        return ok(text)
    return warning(
        text,
        f"throughput falls: a queue settles and takes at most {1 / server.round_trip:.0f} times a second",
        "run the workers in the server's region",
    )
