"""The cache's own Redis."""

from __future__ import annotations

from app.doctor.findings import Finding, ok, unknown, warning
from app.doctor.redis import RedisServer
from app.eviction import address, eviction_policy


def same_server(one: RedisServer, other: RedisServer) -> bool:
    """By what the servers say of themselves, else by their addresses; another database is no other server."""
    ids = [server.about.get("run_id") for server in (one, other)]
    if all(ids):
        return bool(ids[0] == ids[1])
    return address(one.url) == address(other.url)


async def own_server(server: RedisServer) -> Finding:
    """Whether it is another than that of the queues."""
    if not server.cache_beside:
        return ok("another server than that of the queues")
    return warning(
        "the server of the queues, perhaps another database of it",
        "memory and eviction are shared: the cache can keep jobs from being enqueued",
        "name another server in CACHE_REDIS_URL, or drop it",
    )


async def eviction(server: RedisServer) -> Finding:
    """A cache is to throw old entries away."""
    policy = await eviction_policy(server.client)
    if policy is None:
        mend = "see docs/upstash.md" if server.is_upstash else "see its console: it should evict"
        return unknown("the policy cannot be read here", mend)
    if policy != "noeviction" or server.cache_beside:
        return ok(policy)
    return warning(
        policy,
        "once it is full, nothing new is cached and every read goes to the database",
        "CONFIG SET maxmemory-policy allkeys-lru there",
    )
