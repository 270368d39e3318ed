"""A process that is cut off from Redis while it lives, and one that did not see a job arrive."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from storage.dead_letters import DeadLetters
from tests.chaos.conftest import MakeLedger
from tests.chaos.proxy import Proxy
from tests.integration.engine.conftest import eventually
from tests.processes import Journal, Spawner
from tests.servers import ValkeyServer
from workers.policy import Pace
from workers.process import WorkerProcess

AGAIN_WITHIN = 15.0  # s: what is promised for the jobs of a killed process
SELDOM = Pace(look=3600, doorbell=3600, announce=3600, abort=1)
"""Finds nothing out by itself, but when it is told."""


async def test_e10_a_process_that_was_cut_off_ends_what_was_given_to_another(
    make_ledger: MakeLedger, server: ValkeyServer, spawn: Spawner, journal: Journal
) -> None:
    ledger = await make_ledger(journal)
    proxy = Proxy(server.port)
    await proxy.start()
    cut_off = await spawn(redis=proxy.url)
    await ledger.send(seconds=40)
    await eventually(lambda: journal.events("start"))
    other = await spawn()
    proxy.hold()
    await eventually(lambda: len(journal.events("start")) == 2, within=AGAIN_WITHIN + 5)
    assert journal.events("start")[1]["pid"] == other.pid
    proxy.release()
    await eventually(lambda: journal.events("cancelled"), within=15)
    assert journal.events("cancelled")[0]["pid"] == cut_off.pid
    await ledger.send(5)
    await eventually(lambda: len(journal.events("end")) == 5)
    await proxy.stop()


async def test_e10_a_process_that_did_not_see_a_job_arrive_sees_its_holder_die(
    make_ledger: MakeLedger, server: ValkeyServer, spawn: Spawner, journal: Journal, letters: DeadLetters
) -> None:
    ledger = await make_ledger(journal)
    again = asyncio.Event()

    async def work(ctx: dict[str, Any], seconds: float) -> None:
        again.set()

    policy = ledger.queue.policy
    idle = WorkerProcess(
        server.url, policies=[policy], functions={policy.name: work}, letters=letters, pace=SELDOM
    )
    await idle.start()
    await eventually(lambda: idle.dispatchers[policy.name].state == "empty")
    victim = await spawn()
    # A foreign producer's scheduled job: whoever looks at its time takes it, and no list ever shows it ready.
    await ledger.send(seconds=60, scheduled=int(time.time()) + 1)
    await eventually(lambda: journal.events("start"), within=15)
    assert not again.is_set()
    victim.kill()
    killed = time.monotonic()
    await asyncio.wait_for(again.wait(), AGAIN_WITHIN + 5)
    assert time.monotonic() - killed <= AGAIN_WITHIN
    idle.begin_drain()
    assert await idle.drained() == 0
    await idle.close()
