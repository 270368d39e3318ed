"""Checks the cache's own Redis.  The product works without it, only slower: its problems are warnings."""

from __future__ import annotations

from dataclasses import replace

from app.doctor.checks import redis_state
from app.doctor.checks.redis_server import RedisServer
from app.doctor.results import CheckResult, Finding, ok, unknown, warning
from app.servers.redis_eviction import eviction_policy
from storage.cache.entries import PREFIX

PREFIXES = (PREFIX,)
VARIABLE = "CACHE_REDIS_URL"


def as_warning(result: CheckResult) -> CheckResult:
    """Turn the result of a check for the queues' Redis into that for a cache."""
    finding = result.finding
    if finding.state != "wrong":
        return result
    consequence = "nothing is cached: every read goes to the database"
    return replace(result, finding=warning(finding.text, consequence, finding.fix))


async def own_server(server: RedisServer) -> Finding:
    """Check that the queues have another server."""
    if not server.cache_is_shared:
        return ok("another server than that of the queues")
    return warning(
        "the server of the queues, perhaps another database of it",
        "memory and eviction are shared: the cache can keep jobs from being enqueued",
        "name another server in CACHE_REDIS_URL, or drop it",
    )


async def eviction(server: RedisServer) -> Finding:
    """Check that the cache evicts old entries."""
    policy = await eviction_policy(server.client)
    if policy is None:
        fix = "see docs/upstash.md" if server.is_upstash else "see its console: it should evict"
        return unknown("the policy cannot be read here", fix)
    if policy != "noeviction" or server.cache_is_shared:
        return ok(policy)
    return warning(
        policy,
        "once it is full, nothing new is cached and every read goes to the database",
        "CONFIG SET maxmemory-policy allkeys-lru there",
    )


async def memory(server: RedisServer) -> Finding:
    """Check the used memory; a cache that evicts may be full."""
    finding = await redis_state.memory(server)
    evicts = server.info.eviction_policy not in ("", "noeviction")
    return ok(finding.text) if evicts and finding.fix and not server.cache_is_shared else finding
