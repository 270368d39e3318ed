"""A Redis that answers: its first answers, and where it is."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    RedisError,
    ResponseError,
)

from app.doctor.examination import OPENING_SECONDS, within
from app.doctor.findings import Finding, cause_of, ok, warning, wrong
from workers.connection import command, connect, safe_url
from workers.policy import NORMAL, Pace

_PINGS = 5
_SLOW = 0.05  # s
UPSTASH = ".upstash.io"


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
    pace: Pace = NORMAL

    @property
    def host(self) -> str:
        """As the URL names it; empty for a Unix socket."""
        return urlsplit(self.url).hostname or ""

    @property
    def is_upstash(self) -> bool:
        """Whether Upstash runs it."""
        return self.host.endswith(UPSTASH)

    @property
    def role(self) -> str:
        """``master``, ``slave`` or ``replica``; empty where it does not say."""
        return str(self.about.get("role") or "")

    async def close(self) -> None:
        """Close all connections."""
        await self.client.aclose()


async def open_redis(url: str, variable: str, *, embedded: Path | None = None) -> RedisServer | Finding:
    """The server, or why there is none, within `OPENING_SECONDS`; ``embedded``: the folder of ours."""
    client = connect(url)
    try:
        server = await within(OPENING_SECONDS, _asked(client, url, variable))
    except (RedisError, OSError) as error:  # TimeoutError is an OSError
        await client.aclose()
        return _unreachable(error, url, variable) if embedded is None else _hung(embedded)
    server.embedded = embedded is not None
    return server


async def _asked(client: Redis, url: str, variable: str) -> RedisServer:
    times = []
    for _ in range(_PINGS):
        started = time.perf_counter()
        await command(client, "PING")
        times.append(time.perf_counter() - started)
    return RedisServer(url, variable, client, await _about(client), statistics.median(times))


async def _about(client: Redis) -> dict[str, Any]:
    try:
        return dict(await client.info())
    except ResponseError:
        pass
    try:
        flat = await command(client, "HELLO")
    except ResponseError:
        return {}
    text = [each.decode() if isinstance(each, bytes) else each for each in flat]
    said = dict(zip(text[::2], text[1::2], strict=False))
    version = "valkey_version" if said.get("server") == "valkey" else "redis_version"
    return {"role": said.get("role"), "redis_mode": said.get("mode"), version: said.get("version")}


def _hung(folder: Path) -> Finding:
    return wrong(
        f"the embedded server in {folder} runs and does not answer",
        "no command that names this data directory starts",
        f"see {folder}/valkey.log; end the process whose id is in {folder}/pid, and start again",
    )


def _unreachable(error: BaseException, url: str, variable: str) -> Finding:
    place = safe_url(url)
    consequence = "no process starts"
    if isinstance(error, AuthenticationError | AuthorizationError):
        return wrong(
            f"{place} refuses user or password: {cause_of(error)}",
            consequence,
            f"set them in {variable}: redis://USER:PASSWORD@HOST:PORT/0",
        )
    if isinstance(error, BusyLoadingError):
        return wrong(f"{place} loads its data", "processes wait for it at start", "wait until it has")
    if isinstance(error, TimeoutError) and not str(error):
        cause = f"nothing within {OPENING_SECONDS:g} s"
    else:
        cause = cause_of(error)
    if "CERTIFICATE_VERIFY_FAILED" in cause:
        why = cause.partition("CERTIFICATE_VERIFY_FAILED] ")[2].partition(" (_ssl")[0]
        return wrong(
            f"{place}: {why or cause}",
            consequence,
            f"renew the certificate, or name its CA in {variable}: ?ssl_ca_certs=/path/ca.pem",
        )
    return wrong(
        f"{place} does not answer: {cause}",
        consequence,
        f"see that the server runs, that a firewall lets us through, and that {variable} names it",
    )


async def answers(server: RedisServer) -> Finding:
    """That it does, we know."""
    return ok(safe_url(server.url) + (" (embedded)" if server.embedded else ""))


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
