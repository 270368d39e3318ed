"""Processes that are frozen, or cut off from Redis, while others take their jobs."""

from __future__ import annotations

import signal
import time

import pytest

from tests.chaos.conftest import MakeLedger
from tests.chaos.ledger import Ledger
from tests.chaos.proxy import Proxy
from tests.support.processes import Journal, Spawner
from tests.support.servers import ValkeyServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

_FROZEN_SECONDS = 30.0  # in the long form
MAX_RECOVERY_SECONDS = 15.0  # what is promised for the jobs of a killed process


async def test_e10_a_process_that_was_frozen_or_cut_off_is_fenced_off(
    make_ledger: MakeLedger, valkey: ValkeyServer, spawn: Spawner, journal: Journal, factor: float
) -> None:
    ledger = await make_ledger(journal, retry_delays=(0.1,))
    proxy = Proxy(valkey.port)
    await proxy.start()
    cut_off = await spawn(redis=proxy.url, retry_delays=[0.1])
    await ledger.send(
        seconds=40 if factor <= 1 else 90
    )  # more than the test has time for: its end would come from a cancellation
    await eventually(lambda: len(journal.events("start")) == 1)
    proxy.hold()
    frozen = await spawn(retry_delays=[0.1])
    await ledger.send(2, seconds=1)
    await ledger.send(2, seconds=1, fail=True)
    await eventually(lambda: len(journal.events("start")) == 5)
    frozen.send_signal(signal.SIGSTOP)
    thaw_at = time.monotonic() + (0 if factor <= 1 else _FROZEN_SECONDS)
    ledger.died(frozen.pid)
    async with ledger.watched():
        held = set(ledger.acknowledged)
        other = await spawn(retry_delays=[0.1])
        await eventually(lambda: _ran_by(journal, other.pid) == held, within=MAX_RECOVERY_SECONDS + 15)
        await eventually(lambda: time.monotonic() >= thaw_at, within=_FROZEN_SECONDS + 1)
        frozen.send_signal(signal.SIGCONT)
        proxy.release()
        await eventually(lambda: _ran_by(journal, cut_off.pid, "cancelled") == {"job-1"}, within=20)
        # Both take jobs again, and what they had in hand neither ends twice nor dies twice.
        await eventually(lambda: _all_but_one_ended(ledger, 2))
        other.send_signal(signal.SIGSTOP)
        await ledger.send(30, seconds=0.2)
        await eventually(lambda: _all_but_one_ended(ledger, 32), within=20)
    again = _ran_by(journal, frozen.pid) | _ran_by(journal, cut_off.pid)
    assert again >= ledger.acknowledged - held
    assert sorted(letter.job_id for letter in (await ledger.letters.page()).items) == ["job-4", "job-5"]
    await proxy.stop()


def _ran_by(journal: Journal, pid: int, event: str = "start") -> set[str]:
    return {line["key"] for line in journal.events(event) if line["pid"] == pid}


async def _all_but_one_ended(ledger: Ledger, completed: int) -> bool:
    return (
        await ledger.queue.count("incomplete") == 1
        and await ledger.letters.count() == 2
        and await ledger.redis.hget(ledger.queue.keys.totals, "completed") == b"%d" % completed
    )
