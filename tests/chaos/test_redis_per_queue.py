"""Four queues on four Redises, of which one is always down, and processes that are killed meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from saq.queue.redis import RedisQueue

from storage.database.engine import Database
from storage.dead_letters.repository import DeadLetterRepository
from storage.redis.client import make_client
from tests.chaos.conftest import FAST_RETRIES
from tests.chaos.ledger import Ledger
from tests.support.databases import open_database
from tests.support.operations import BuiltOperations, build_operations
from tests.support.processes import Journal, Spawner
from tests.support.servers import ValkeyServer
from tests.support.waiting import eventually
from workers.engine.policy import DEFAULT_POLICIES, QueuePolicy

pytestmark = pytest.mark.slow

_CONCURRENCY = 5
_SEND_SECONDS = 0.02
"""Between two jobs of a queue."""


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[dict[str, ValkeyServer]]:
    """A Redis for each queue, which loses nothing that it has acknowledged."""
    made = {
        name: ValkeyServer(tmp_path / name, "--appendonly", "yes", "--appendfsync", "always")
        for name in DEFAULT_POLICIES
    }
    for server in made.values():
        server.start()
    yield made
    for server in made.values():
        server.kill()


@pytest.fixture
def policies(servers: dict[str, ValkeyServer]) -> list[QueuePolicy]:
    """The first queue is on the main Redis, each of the others on one of its own."""
    _, *own = servers
    return [
        replace(
            policy,
            concurrency=_CONCURRENCY,
            rate_limit=None,
            retry_delays=FAST_RETRIES,
            redis_url=servers[name].url if name in own else "",
        )
        for name, policy in DEFAULT_POLICIES.items()
    ]


@pytest.fixture
async def database(sqlite_url: str) -> AsyncIterator[Database]:
    async with open_database(sqlite_url) as database:
        yield database


@pytest.fixture
async def ledgers(
    servers: dict[str, ValkeyServer], policies: list[QueuePolicy], database: Database, journal: Journal
) -> AsyncIterator[dict[str, Ledger]]:
    async with AsyncExitStack() as stack:
        made = {}
        for policy in policies:
            client = make_client(servers[policy.name].url)
            stack.push_async_callback(client.aclose)
            stock = RedisQueue.from_url(servers[policy.name].url, name=policy.name)
            stack.push_async_callback(stock.redis.aclose)
            own = Journal(Path(f"{journal.path}-{policy.name}"))
            made[policy.name] = Ledger(client, stock, policy, DeadLetterRepository(database), own)
        yield made


@pytest.fixture
async def operations(
    servers: dict[str, ValkeyServer], policies: list[QueuePolicy], database: Database
) -> AsyncIterator[BuiltOperations]:
    """Yield operations as an operator has them."""
    main = next(iter(servers.values()))
    letters = DeadLetterRepository(database)
    made = build_operations(main.url, policies=policies, schemas={}, database=database, letters=letters)
    yield made
    await made.close()


@pytest.fixture
async def spawn_all(
    servers: dict[str, ValkeyServer], policies: list[QueuePolicy], sqlite_url: str, journal: Journal
) -> AsyncIterator[Spawner]:
    """Starts processes that serve all four queues."""
    queues = [
        {
            "name": policy.name,
            "function": policy.function,
            "concurrency": policy.concurrency,
            "timeout": policy.timeout,
            "retry_delays": list(policy.retry_delays),
            "redis_url": policy.redis_url,
        }
        for policy in policies
    ]
    main = next(iter(servers.values()))
    spawner = Spawner(redis=main.url, database=sqlite_url, journal=str(journal.path), queues=queues)
    yield spawner
    await spawner.end()


@pytest.mark.timeout(1200)
async def test_e2_e8_e12_each_redis_and_many_processes_are_killed_and_nothing_is_lost(
    servers: dict[str, ValkeyServer],
    ledgers: dict[str, Ledger],
    operations: BuiltOperations,
    spawn_all: Spawner,
    factor: float,
) -> None:
    processes = list(await asyncio.gather(*(spawn_all() for _ in range(3))))
    over = asyncio.Event()

    async def send(ledger: Ledger) -> None:
        while not over.is_set():
            await ledger.send(seconds=0.05, fail=len(ledger.acknowledged) % 20 == 0)
            await asyncio.sleep(_SEND_SECONDS)

    async def kill_process() -> None:
        victim = processes.pop(0)
        victim.kill()
        await victim.wait()
        for ledger in ledgers.values():
            ledger.died(victim.pid)
        processes.append(await spawn_all())

    async with AsyncExitStack() as stack:
        for ledger in ledgers.values():
            await stack.enter_async_context(ledger.watched())
        senders = [asyncio.create_task(send(ledger)) for ledger in ledgers.values()]
        for _ in range(max(1, round(factor / 2))):
            for name, server in servers.items():
                await _all_progress(ledgers, without="")
                await asyncio.to_thread(server.kill)
                await _is_reported(operations, name, ledgers)
                await kill_process()  # the one that replaces it starts while the server is down
                await _all_progress(ledgers, without=name)
                await asyncio.to_thread(server.start)
                await kill_process()
        over.set()
        await asyncio.gather(*senders)
        rows = [await ledger.balance(within=120) for ledger in ledgers.values()]
        await eventually(lambda: _is_well(operations), within=60)
    assert all(rows), "each queue has dead letters"
    assert all(process.returncode is None for process in processes)


async def _all_progress(ledgers: dict[str, Ledger], *, without: str) -> None:
    """Wait until jobs of each queue, but one, have ended from now on."""
    journals = {name: ledger.journal for name, ledger in ledgers.items() if name != without}
    before = {name: len(journal.events("end")) for name, journal in journals.items() if journal is not None}
    for name, journal in journals.items():
        await eventually(
            lambda journal=journal, name=name: len(journal.events("end")) >= before[name] + 10,
            within=60,
            what=f"{name} goes on while {without or 'nothing'} is down",
        )


async def _is_reported(operations: BuiltOperations, name: str, ledgers: dict[str, Ledger]) -> None:
    """Readiness and status name the queue whose Redis is down, and no other."""
    assert list(await operations.check_writes()) == [(name,)]
    snapshot = await operations.snapshot()
    assert [redis.queues for redis in snapshot.redises if redis.error is not None] == [(name,)]
    (alert,) = [alert for alert in snapshot.alerts if alert.name == "redis"]
    assert alert.message.startswith(f"Redis of {name} does not answer")
    assert {queue.name for queue in snapshot.queues if queue.redis_error is None} == set(ledgers) - {name}


async def _is_well(operations: BuiltOperations) -> bool:
    snapshot = await operations.snapshot()
    return not await operations.check_writes() and not [
        alert for alert in snapshot.alerts if alert.name in ("redis", "no_worker", "held_by_dead")
    ]
