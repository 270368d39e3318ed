"""The cache's own Redis, without which all works, if slower: what is amiss there is a warning."""

from __future__ import annotations

from dataclasses import replace

from app.doctor.checks import redis_state
from app.doctor.checks.redis_server import RedisServer
from app.doctor.results import Finding, Item, ok, unknown, warning
from app.servers.redis_eviction import eviction_policy
from storage.cache.entries import PREFIX

PREFIXES = (PREFIX,)
VARIABLE = "CACHE_REDIS_URL"


def as_warning(item: Item) -> Item:
    """``item`` of a check that was made for the queues, as it is of a cache."""
    found = item.found
    if found.state != "wrong":
        return item
    consequence = "nothing is cached: every read goes to the database"
    return replace(item, found=warning(found.finding, consequence, found.mend))


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


async def memory(server: RedisServer) -> Finding:
    """A cache that evicts may be full."""
    found = await redis_state.memory(server)
    evicts = server.about.get("maxmemory_policy", "noeviction") != "noeviction"
    return ok(found.finding) if evicts and found.mend and not server.cache_beside else found
