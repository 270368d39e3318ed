"""How a Redis is set up, and how it stands."""

from __future__ import annotations

import math
import re
import time
from dataclasses import replace
from typing import Any

from redis.exceptions import ResponseError

from app.doctor.checks.redis_server import RedisServer
from app.doctor.results import Finding, ok, unknown, warning, wrong
from app.servers.redis_eviction import eviction_policy
from storage.redis.client import execute
from storage.redis.refusals import CLUSTER_MODE
from tui.text.format import byte_size
from workers.engine.policy import ECONOMICAL
from workers.monitoring.thresholds import REDIS_MEMORY, evicts_jobs

_OLDEST = (6, 2)
_FULL = 0.8
_OFF, _FAR_OFF = 1.0, 30.0  # s
_UPSTASH_PAGE = "see docs/upstash.md"


async def version(server: RedisServer) -> Finding:
    """BLMOVE came with 6.2; Valkey is Redis 7.2 and more."""
    about = server.about
    valkey = about.get("valkey_version")
    text = str(about.get("redis_version") or "")
    found = re.match(r"(\d+)\.(\d+)", text)
    if valkey or found is None:
        return ok(f"Valkey {valkey}") if valkey else unknown("the server does not tell its version")
    if (int(found[1]), int(found[2])) >= _OLDEST:
        return ok(f"Redis {text}")
    return wrong(
        f"Redis {text}",
        "workers cannot wait for jobs: BLMOVE came with 6.2",
        "use Redis 6.2 or newer, or Valkey",
    )


async def role(server: RedisServer) -> Finding:
    """A primary that stands alone, as all keys of one script must be on one server."""
    mode = str(server.about.get("redis_mode") or server.about.get("server_mode") or "standalone")
    if mode != "standalone":
        if mode == "cluster":
            return wrong(f"the server {CLUSTER_MODE.problem}", "no process starts", CLUSTER_MODE.fix)
        return wrong(
            f"the server runs in {mode} mode",
            "it holds no keys",
            f"name a single primary in {server.variable}",
        )
    if server.role in ("slave", "replica"):
        return wrong(
            "a replica",
            "no job can be enqueued, taken or settled",
            f"name the primary in {server.variable}",
        )
    return ok("primary") if server.role else unknown("the server does not tell its role")


async def eviction(server: RedisServer) -> Finding:
    """Jobs have no TTL: whatever evicts keys without one loses jobs."""
    policy = await eviction_policy(server.client)
    if policy is None:
        mend = _UPSTASH_PAGE if server.is_upstash else "see its console: it must not evict keys without a TTL"
        return unknown("the policy cannot be read here", mend)
    found = eviction_of_queues(policy, cache_beside=server.cache_beside)
    if server.is_upstash and found.mend:  # which knows no CONFIG SET
        return replace(found, mend=f"give the cache a CACHE_REDIS_URL, eviction off here: {_UPSTASH_PAGE}")
    return found


def eviction_of_queues(policy: str, *, cache_beside: bool) -> Finding:
    """What ``policy`` means to the jobs."""
    if policy == "optimistic-volatile":  # Upstash's own
        return wrong(
            policy, "when it is full, any key may go: jobs are lost", f"switch it off: {_UPSTASH_PAGE}"
        )
    if evicts_jobs(policy):
        consequence = "when memory is full, queued jobs are evicted, and so lost"
        if cache_beside:
            return wrong(
                policy,
                consequence,
                "CONFIG SET maxmemory-policy volatile-lru, or give the cache a CACHE_REDIS_URL",
            )
        return warning(policy, consequence, "CONFIG SET maxmemory-policy noeviction")
    if policy == "noeviction" and cache_beside:
        return warning(
            "noeviction, with the cache beside the queues",
            "a cache that fills the memory keeps jobs from being enqueued",
            "CONFIG SET maxmemory-policy volatile-lru, or set CACHE_REDIS_URL",
        )
    return ok(policy)


async def memory(server: RedisServer) -> Finding:
    """Used memory against its limit."""
    used, limit = _whole(server, "used_memory"), _whole(server, "maxmemory")
    if used is None:
        return unknown("the server does not tell its memory", _UPSTASH_PAGE if server.is_upstash else "")
    if not limit:
        return ok(f"{byte_size(used)} used, no limit is set")
    share = f"{byte_size(used)} of {byte_size(limit)} used ({used / limit:.0%})"
    if used / limit <= REDIS_MEMORY:
        return ok(share)
    return warning(
        share,
        "once it is full, keys are evicted or writes refused",
        "raise maxmemory, or see what grows: status, and redis-cli --bigkeys",
    )


async def persistence(server: RedisServer) -> Finding:
    """What a restart of the server leaves."""
    about = server.about
    append_only = about.get("aof_enabled")
    if str(about.get("aof_last_write_status", "ok")) != "ok":
        return wrong(
            "the append-only file cannot be written",
            "writes are refused",
            "free its disk, see the server's log",
        )
    if append_only == 1:
        return ok("append-only file")
    saves = None if append_only is None or server.is_upstash else await _config(server, "save")
    if saves is None:
        return unknown("the server does not tell, as managed ones do not", "see its console")
    if saves:
        return warning(
            f"snapshots only (save {saves})",
            "a crash of the server loses the jobs since the last one",
            "CONFIG SET appendonly yes, and in redis.conf",
        )
    return warning(
        "none: no append-only file, no snapshots",
        "a restart of the server loses all jobs",
        "CONFIG SET appendonly yes, and in redis.conf",
    )


async def clock(server: RedisServer) -> Finding:
    """Ours against the server's."""
    async with server.client.client() as held:
        await execute(held, "PING")  # it is connected then, which would count
        sent = time.time()
        seconds, micro = await execute(held, "TIME")
        received = time.time()
    return clock_difference((sent + received) / 2 - (int(seconds) + int(micro) / 1e6), "the Redis server's")


def clock_difference(ahead: float, whose: str) -> Finding:
    """``ahead``: seconds that this machine's clock is ahead of the server's.

    Leases, retries, rates and concurrency go by the server's clock alone and are right in any case.
    Producers write by their own when a job was enqueued and when it is due, and workers when it died.
    """
    if abs(ahead) <= _OFF:
        return ok(f"{abs(ahead) * 1000:.0f} ms from {whose}")
    text = f"{abs(ahead):,.1f} s {'ahead of' if ahead > 0 else 'behind'} {whose}"
    mend = "set the clocks by NTP"
    if abs(ahead) <= _FAR_OFF:
        return warning(text, "delays and wait times are off by as much", mend)
    return wrong(text, "jobs start that early or late, and waits, ages and times of death mislead", mend)


async def connections(server: RedisServer) -> Finding:
    """Clients against the limit."""
    used, limit = _whole(server, "connected_clients"), _whole(server, "maxclients")
    if limit is None:
        limit = _number(await _config(server, "maxclients"))
    if used is None or limit is None:
        return unknown("the server does not tell its connections")
    text = f"{used} of {limit:,} in use"
    if used < _FULL * limit:
        return ok(text)
    return warning(text, "new processes are refused once all are", "raise maxclients, or close idle clients")


async def idle_cost(server: RedisServer) -> Finding:
    """What an idle process sends."""
    if server.pace == ECONOMICAL:
        return ok("economical mode is on: 10 commands a minute")
    if not server.is_upstash:
        return ok("economical mode is off: 86 commands a minute")
    return warning(
        "economical mode is off: 86 commands a minute and process",
        "each idle process is billed for 3,700,000 commands a month",
        "drop COUTURECAST_ECONOMICAL: on Upstash it is on by itself",
    )


async def _config(server: RedisServer, name: str) -> str | None:
    """A setting of the server; None where it may not be read."""
    try:
        found: dict[str, Any] = await server.client.config_get(name)
    except ResponseError:
        return None
    value = found.get(name)
    return None if value is None else str(value)


def _whole(server: RedisServer, name: str) -> int | None:
    return _number(server.about.get(name))


def _number(value: Any) -> int | None:
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return int(found) if math.isfinite(found) else None
