"""Opens the Redises of a process: the main one, and those that hold queues of their own.

While one of them is unavailable the queues of the others are served: a start waits for the first that
answers, and not for all.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.errors import AppError, UnavailableError, UsageError
from app.queue_settings import redis_variable
from app.servers.redis_startup import REDIS_VARIABLE, RedisUse, open_redis, wait_for_redis
from app.settings import Settings
from storage.asyncio_tools import cancel_and_wait
from storage.redis.client import execute, make_client, redact_url
from workers.engine.keys import QueueKeys
from workers.engine.placement import group_by_url
from workers.engine.policy import QueuePolicy
from workers.words import plural

log = structlog.get_logger(__name__)

_OTHERS_SECONDS = 1.0
"""After the first Redis answered, how long a start waits for the others."""
_PROBE_MS = 5_000
_ASK_SECONDS = 5.0
"""Timeout of the questions that a start asks of a Redis that answered."""


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """A Redis of the settings, the queues that it holds, and the variable that names it."""

    url: str = field(repr=False)
    queues: tuple[str, ...]
    variable: str
    answers: bool = True
    """Whether it answered at the start, or was not asked."""

    @property
    def safe_url(self) -> str:
        """The URL without its password."""
        return redact_url(self.url)


def redis_addresses(main_url: str, policies: Mapping[str, QueuePolicy]) -> list[RedisAddress]:
    """Return the distinct Redises, the main one first."""
    addresses = []
    for url, group in group_by_url(policies.values(), main_url).items():
        variable = REDIS_VARIABLE if url == main_url else redis_variable(group[0].name)
        addresses.append(RedisAddress(url, tuple(policy.name for policy in group), variable))
    return addresses


async def open_redises(
    settings: Settings,
    policies: Mapping[str, QueuePolicy],
    data_dir: Path,
    stack: AsyncExitStack,
    use: RedisUse,
) -> list[RedisAddress]:
    """Return all Redises of the settings, the main one first; one of them answers, unless it is optional.

    Raises AppError.
    """
    own = {policy.redis_url for policy in policies.values() if policy.redis_url}
    if settings.redis_url is None or own <= {settings.redis_url.get_secret_value()}:
        main_url = await open_redis(settings, data_dir, stack, use)
    else:
        main_url = settings.redis_url.get_secret_value()
    addresses = redis_addresses(main_url, policies)
    if len(addresses) == 1 or use == "optional":
        return addresses
    answering = await _wait_for_first(addresses, settings.start_timeout, works=use == "works")
    if use == "works":
        await _check_placement(answering, policies)
        if settings.redis_url is None:
            log.warning(
                "the locks of the cluster are in the embedded Redis of this machine",
                fix="set REDIS_URL if workers run on several machines",
            )
    return [replace(address, answers=address in answering) for address in addresses]


async def _wait_for_first(
    addresses: Sequence[RedisAddress], timeout: float, *, works: bool
) -> list[RedisAddress]:
    """Wait until a Redis answers, and a moment for the others; those that answer."""
    waits = {
        asyncio.create_task(
            wait_for_redis(address.url, timeout, works=works, variable=address.variable)
        ): address
        for address in addresses
    }
    try:
        pending, answering = set(waits), list[RedisAddress]()
        while pending and not answering:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            answering += _answering_addresses(done, waits)
        if pending:
            done, pending = await asyncio.wait(pending, timeout=_OTHERS_SECONDS)
            answering += _answering_addresses(done, waits)
    finally:
        await cancel_and_wait([wait for wait in waits if not wait.done()])
    if not answering:
        await next(iter(waits))  # raises why the main one does not answer
    for address in addresses:
        if address not in answering and works:
            log.warning(
                "a Redis does not answer: its queues wait, the others are served",
                url=address.safe_url,
                queues=list(address.queues),
            )
    return [address for address in addresses if address in answering]


def _answering_addresses(
    done: set[asyncio.Task[None]], addresses: Mapping[asyncio.Task[None], RedisAddress]
) -> list[RedisAddress]:
    """Return the addresses that answered.  Raises errors that waiting would not change."""
    answering = []
    for wait in done:
        error = wait.exception()
        if error is None:
            answering.append(addresses[wait])
        elif not isinstance(error, UnavailableError):
            raise error
    return answering


async def _check_placement(addresses: Sequence[RedisAddress], policies: Mapping[str, QueuePolicy]) -> None:
    """Refuse two names of one Redis, and warn if jobs were left behind.  Raises UsageError."""
    clients = {address: make_client(address.url) for address in addresses}
    try:
        async with asyncio.timeout(_ASK_SECONDS):
            if same := await find_same(clients):
                raise same_redis_error(*same)
            for address, queue, jobs in await find_left_jobs(clients, policies):
                log.warning(left_jobs_text(address, queue, jobs), fix=left_jobs_fix(queue))
    except (RedisError, OSError) as error:
        log.info("the Redises were not compared", error=repr(error))
    finally:
        await asyncio.gather(*(client.aclose() for client in clients.values()))


async def find_same(clients: Mapping[RedisAddress, Redis]) -> tuple[RedisAddress, RedisAddress] | None:
    """Return two addresses of the same database of one server; None if all differ.  Raises RedisError.

    It writes a key to each, which expires after five seconds: a server may not report who it is.
    """
    key = f"couturecast:probe:{secrets.token_hex(8)}:"
    keys = {address: f"{key}{number}" for number, address in enumerate(clients)}
    await _on_all(clients, lambda address, client: client.set(keys[address], 1, px=_PROBE_MS))
    values = dict(
        zip(
            clients,
            await _on_all(clients, lambda _, client: execute(client, "MGET", *keys.values())),
            strict=True,
        )
    )
    names = list(clients)
    for one, other in combinations(names, 2):
        if values[one][names.index(other)] is not None:
            return one, other
    return None


def same_redis_error(one: RedisAddress, other: RedisAddress) -> AppError:
    """Return the error for two names of one Redis: a process would count as two there."""
    return UsageError(
        f"{other.safe_url} is the same Redis as {one.safe_url} of {one.variable}",
        field=other.variable,
        fix=f"write the URL of {one.variable} there, letter by letter, or remove it",
    )


def left_jobs_fix(queue: str) -> str:
    """Return how to have these jobs run."""
    return (
        f"until they have ended, run one more process with --queues {queue} and the old URL in"
        f" {redis_variable(queue)}"
    )


def left_jobs_text(address: RedisAddress, queue: str, jobs: int) -> str:
    """Return what is wrong if jobs of a queue wait on a Redis that does not hold the queue any more."""
    waiting = f"{plural(jobs, 'job')} of {queue} at {address.safe_url}"
    return f"{waiting}: its Redis is that of {redis_variable(queue)} now"


async def find_left_jobs(
    clients: Mapping[RedisAddress, Redis], policies: Mapping[str, QueuePolicy]
) -> list[tuple[RedisAddress, str, int]]:
    """Return the queues of other Redises that have jobs, and how many.  Raises RedisError."""
    foreign = {address: [name for name in policies if name not in address.queues] for address in clients}

    async def count(address: RedisAddress, client: Redis) -> list[int]:
        pipeline = client.pipeline(transaction=False)
        for name in foreign[address]:
            pipeline.zcard(QueueKeys.of(name).incomplete)
        return [int(reply) for reply in await pipeline.execute()]

    counts = zip(clients, await _on_all(clients, count), strict=True)
    return [
        (address, name, jobs)
        for address, of_address in counts
        for name, jobs in zip(foreign[address], of_address, strict=True)
        if jobs
    ]


async def _on_all(
    clients: Mapping[RedisAddress, Redis], call: Callable[[RedisAddress, Redis], Awaitable[Any]]
) -> list[Any]:
    return list(await asyncio.gather(*(call(address, client) for address, client in clients.items())))
