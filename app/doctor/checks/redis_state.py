"""Checks the version, the configuration and the load of a Redis."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from typing import Any

from redis.exceptions import ResponseError

from app.doctor.checks.redis_server import RedisServer
from app.doctor.results import Finding, ok, unknown, warning, wrong
from app.servers.redis_eviction import eviction_policy
from storage.redis.client import execute
from storage.redis.info import parse_whole_number
from storage.redis.refusals import CLUSTER_MODE
from tui.text.format import byte_size, percent
from workers.engine.policy import ECONOMICAL
from workers.monitoring.alert_evaluation import evicts_jobs
from workers.monitoring.alert_rules import REDIS_MEMORY

_MIN_VERSION = (6, 2)
_MAX_USED_CONNECTIONS = 0.8
"""Share of the limit."""
_CLOCK_WARNING_SECONDS, _CLOCK_WRONG_SECONDS = 1.0, 30.0
_UPSTASH_PAGE = "see docs/upstash.md"


async def version(server: RedisServer) -> Finding:
    """Check for 6.2, which brought BLMOVE; Valkey is as Redis 7.2 or newer."""
    valkey, text = server.info.valkey_version, server.info.redis_version
    match = re.match(r"(\d+)\.(\d+)", text)
    if valkey or match is None:
        return ok(f"Valkey {valkey}") if valkey else unknown("the server does not report its version")
    if (int(match[1]), int(match[2])) >= _MIN_VERSION:
        return ok(f"Redis {text}")
    return wrong(
        f"Redis {text}",
        "workers cannot wait for jobs: BLMOVE came with 6.2",
        "use Redis 6.2 or newer, or Valkey",
    )


async def role(server: RedisServer) -> Finding:
    """Check for a single primary: all keys of a script must be on one server."""
    mode = server.info.mode or "standalone"
    if mode != "standalone":
        if mode == "cluster":
            return wrong(f"the server {CLUSTER_MODE.problem}", "no process starts", CLUSTER_MODE.fix)
        return wrong(
            f"the server runs in {mode} mode",
            "it holds no keys",
            f"name a single primary in {server.variable}",
        )
    if server.info.role in ("slave", "replica"):
        return wrong(
            "a replica",
            "no job can be enqueued, taken or settled",
            f"name the primary in {server.variable}",
        )
    return ok("primary") if server.info.role else unknown("the server does not report its role")


async def eviction(server: RedisServer) -> Finding:
    """Check that no job may be evicted: jobs have no TTL, so the policy must keep keys without one."""
    policy = await eviction_policy(server.client)
    if policy is None:
        fix = _UPSTASH_PAGE if server.is_upstash else "see its console: it must not evict keys without a TTL"
        return unknown("the policy cannot be read here", fix)
    finding = assess_eviction(policy, cache_is_shared=server.cache_is_shared)
    if server.is_upstash and finding.fix:  # Upstash has no CONFIG SET
        return replace(finding, fix=f"give the cache a CACHE_REDIS_URL, eviction off here: {_UPSTASH_PAGE}")
    return finding


def assess_eviction(policy: str, *, cache_is_shared: bool) -> Finding:
    """Judge what ``policy`` means for the jobs."""
    if policy == "optimistic-volatile":  # Upstash's own
        return wrong(
            policy, "when it is full, any key may go: jobs are lost", f"switch it off: {_UPSTASH_PAGE}"
        )
    if evicts_jobs(policy):
        consequence = "when memory is full, queued jobs are evicted, and so lost"
        if cache_is_shared:
            return wrong(
                policy,
                consequence,
                "CONFIG SET maxmemory-policy volatile-lru, or give the cache a CACHE_REDIS_URL",
            )
        return warning(policy, consequence, "CONFIG SET maxmemory-policy noeviction")
    if policy == "noeviction" and cache_is_shared:
        return warning(
            "noeviction, and the cache shares this Redis",
            "a cache that fills the memory keeps jobs from being enqueued",
            "CONFIG SET maxmemory-policy volatile-lru, or set CACHE_REDIS_URL",
        )
    return ok(policy)


async def memory(server: RedisServer) -> Finding:
    """Compare the used memory with its limit."""
    used, limit = server.info.used_memory, server.info.max_memory
    if used is None:
        return unknown("the server does not report its memory", _UPSTASH_PAGE if server.is_upstash else "")
    if not limit:
        return ok(f"{byte_size(used)} used, no limit is set")
    share = f"{byte_size(used)} of {byte_size(limit)} used ({percent(used / limit, 0)})"
    if used / limit <= server.thresholds.limit(REDIS_MEMORY):
        return ok(share)
    return warning(
        share,
        "once it is full, keys are evicted or writes refused",
        "raise maxmemory, or see what grows: status, and redis-cli --bigkeys",
    )


async def persistence(server: RedisServer) -> Finding:
    """Check what survives a restart of the server."""
    append_only = server.info.append_only
    if not server.info.append_only_writable:
        return wrong(
            "the append-only file cannot be written",
            "writes are refused",
            "free its disk, see the server's log",
        )
    if append_only:
        return ok("append-only file")
    saves = None if append_only is None or server.is_upstash else await _config(server, "save")
    if saves is None:
        return unknown("the server does not report it; managed ones do not", "see its console")
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
    """Compare this machine's clock with the server's."""
    async with server.client.client() as connected:
        await execute(connected, "PING")  # the time to connect must not count
        sent_at = time.time()
        seconds, micro = await execute(connected, "TIME")
        received_at = time.time()
    return assess_clock((sent_at + received_at) / 2 - (int(seconds) + int(micro) / 1e6), "the Redis server's")


def assess_clock(ahead: float, whose: str) -> Finding:
    """Judge ``ahead``, the seconds that this machine's clock is ahead of the server's.

    Leases, retries, rates and concurrency use the server's clock alone and are never wrong.  Producers use
    their own clock for the time of enqueueing and the due time, workers for the time of death.
    """
    if abs(ahead) <= _CLOCK_WARNING_SECONDS:
        return ok(f"{abs(ahead) * 1000:.0f} ms from {whose}")
    text = f"{abs(ahead):,.1f} s {'ahead of' if ahead > 0 else 'behind'} {whose}"
    fix = "set the clocks by NTP"
    if abs(ahead) <= _CLOCK_WRONG_SECONDS:
        return warning(text, "delays and wait times are off by as much", fix)
    return wrong(text, "jobs start that early or late, and waits, ages and times of death mislead", fix)


async def connections(server: RedisServer) -> Finding:
    """Compare the connected clients with their limit."""
    used, limit = server.info.connected_clients, server.info.max_clients
    if limit is None:
        limit = parse_whole_number(await _config(server, "maxclients"))
    if used is None or limit is None:
        return unknown("the server does not report its connections")
    text = f"{used} of {limit:,} in use"
    if used < _MAX_USED_CONNECTIONS * limit:
        return ok(text)
    return warning(text, "new processes are refused once all are", "raise maxclients, or close idle clients")


async def idle_cost(server: RedisServer) -> Finding:
    """Check what an idle process costs if each command is billed."""
    if server.pace == ECONOMICAL:
        return ok("economical mode is on: 10 commands a minute")
    if not server.is_upstash:
        return ok("economical mode is off: 86 commands a minute")
    return warning(
        "economical mode is off: 86 commands a minute and process",
        "each idle process is billed for 3,700,000 commands a month",
        "remove COUTURECAST_ECONOMICAL: at Upstash the default is on",
    )


async def _config(server: RedisServer, name: str) -> str | None:
    """Return a setting of the server; None if the server denies it."""
    try:
        settings: dict[str, Any] = await server.client.config_get(name)
    except ResponseError:
        return None
    value = settings.get(name)
    return None if value is None else str(value)
