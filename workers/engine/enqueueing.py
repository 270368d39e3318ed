"""The arguments and the results of enqueue.lua."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum

from redis.asyncio import Redis
from redis.exceptions import RedisError

from storage.redis.batches import batch_by_size
from storage.redis.scripts import Argument, Script, ScriptCall
from workers.engine.keys import CRON, TOKENS, WAKE_CHANNEL, QueueKeys
from workers.errors import RedisFullError

ENQUEUE_SCRIPT = Script.load(__name__, "enqueue")

_MAX_BATCH = 500
"""Jobs in one call of the script: a few milliseconds of the server's time at the most."""
_TOKEN_SECONDS = 7 * 86_400

EnqueueArgs = tuple[str, str, float, bytes, str]
"""One job: id, SAQ's abort key, the Unix second at which it becomes ready, body, token; see the script."""


class EnqueueResult(IntEnum):
    """The result of enqueueing one job."""

    DUPLICATE = 0
    """A job with its key is incomplete, in flight, or being aborted."""
    ENQUEUED = 1
    ALREADY_USED = 2
    """Its token was used before: the job was enqueued then."""


def new_job_key() -> str:
    """Return the key of a job whose producer gives it none: 32 random hexadecimal digits.

    SAQ's default, a UUID of version 1, takes eight times as long, and has the machine's address in it.
    """
    return secrets.token_hex(16)


def enqueue_batches(jobs: Iterable[EnqueueArgs]) -> Iterator[list[EnqueueArgs]]:
    """Split the jobs, in order, by what one request may hold."""
    return batch_by_size(jobs, _size, _MAX_BATCH)


def enqueue_call(
    keys: QueueKeys,
    queue: str,
    batch: Sequence[EnqueueArgs],
    *,
    schedule: str = "",
    occurrence: int = 0,
    more: bool = False,
) -> ScriptCall:
    """Return the call that enqueues ``batch``, maybe as an occurrence, of which ``more`` may follow."""
    tokens = f"{CRON}:{schedule}" if schedule else TOKENS
    args: list[Argument] = [WAKE_CHANNEL, queue, schedule, occurrence, _TOKEN_SECONDS, int(more)]
    for job in batch:
        args += job
    return ENQUEUE_SCRIPT.call([keys.queued, keys.incomplete, CRON, tokens, keys.leases], args)


async def redis_full_error(redis: Redis, enqueued: int, jobs: int | None) -> RedisFullError:
    """Return the error for a producer of whose ``jobs`` only the first ``enqueued`` fitted into Redis.

    ``jobs`` is None if they were not counted.
    """
    of_all = "" if jobs is None else f" of {jobs}"
    outcome = f"{enqueued}{of_all} jobs were enqueued" if enqueued else "nothing was enqueued"
    fix = "wait until the workers have freed memory, or raise its maxmemory"
    return RedisFullError(f"Redis is full{await _memory_used(redis)}: {outcome}; {fix}")


async def _memory_used(redis: Redis) -> str:
    """Return how much of its memory Redis uses, in parentheses; empty if it does not report that."""
    try:
        info = await redis.info("memory")
        used, limit = (int(info[name]) / 2**20 for name in ("used_memory", "maxmemory"))
    except (RedisError, OSError, LookupError, ValueError):
        return ""
    return f" ({used:.1f} of {limit:.1f} MB used)" if limit else ""


def _size(job: EnqueueArgs) -> int:
    return len(job[0]) + len(job[1]) + len(job[3])
