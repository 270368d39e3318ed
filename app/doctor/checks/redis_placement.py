"""Checks which queues a Redis holds, if there are several: as a start does, but without a write."""

from __future__ import annotations

from collections.abc import Sequence

from app.doctor.checks.redis_server import RedisServer
from app.doctor.results import Finding, ok, warning, wrong
from app.queue_settings import redis_variable
from app.servers.redis_eviction import is_same_server
from app.servers.redis_placement import left_jobs_fix
from storage.redis.info import parse_whole_number
from workers.engine.keys import QueueKeys


def compare(servers: Sequence[RedisServer]) -> None:
    """Note of each server, of which the main one is the first, what it shares with one before it."""
    for number, server in enumerate(servers):
        for other in servers[:number]:
            if is_same_server((server.info.run_id, server.url), (other.info.run_id, other.url)):
                is_same = _database(server) == _database(other)
                server.same_as, server.same_server_as = (
                    (other.variable, "") if is_same else ("", other.variable)
                )


async def placement(server: RedisServer) -> Finding:
    """Report the queues that it holds; find a second name of it, and jobs of queues that it does not hold."""
    if server.same_as:
        return wrong(
            f"the same Redis as {server.same_as}, under another name",
            "no process starts: it would count as two there",
            f"write the URL of {server.same_as} in {server.variable}, letter by letter, or remove it",
        )
    left_jobs = await _left_jobs(server)
    if left_jobs:
        count = ", ".join(f"{jobs:,} of {name}" for name, jobs in left_jobs.items())
        return warning(
            f"jobs of queues whose Redis is another one: {count}",
            f"no process with these settings takes them: see {', '.join(map(redis_variable, left_jobs))}",
            "; ".join(map(left_jobs_fix, left_jobs)),
        )
    holds = ", ".join(server.queues) or "no queue, but the locks of the cluster"
    if server.same_server_as:
        return warning(
            f"holds {holds}; another database of the server in {server.same_server_as}",
            "both share one processor and one memory: nothing is gained",
            f"name another server in {server.variable}, or remove it",
        )
    return ok(f"holds {holds}")


async def _left_jobs(server: RedisServer) -> dict[str, int]:
    pipeline = server.client.pipeline(transaction=False)
    for name in server.foreign:
        pipeline.zcard(QueueKeys.of(name).incomplete)
    counts = map(parse_whole_number, await pipeline.execute(raise_on_error=False)) if server.foreign else ()
    return {name: jobs for name, jobs in zip(server.foreign, counts, strict=False) if jobs}


def _database(server: RedisServer) -> int:
    return int(server.client.connection_pool.connection_kwargs.get("db") or 0)
