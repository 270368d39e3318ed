"""Counts every job: what was acknowledged must have ended once, and have been on one list until then."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError
from saq.queue.redis import RedisQueue

from storage.asyncio_tools import cancel_and_wait
from storage.dead_letters.repository import DeadLetterRepository
from storage.redis.client import execute
from tests.support.processes import Journal
from tests.support.waiting import eventually
from workers.engine.keys import LETTERS
from workers.engine.policy import MAX_PROCESSES, QueuePolicy
from workers.engine.queue import JobQueue

_ACKNOWLEDGED = "test:acknowledged"
_WATCH = Path(__file__).with_name("watch.lua").read_text()
_WATCH_SECONDS = 0.1


class Ledger:
    """Sends the jobs of one queue, watches their lists, and counts how each has ended.

    ``journal`` is what handlers in other processes wrote down; None where the handlers are the test's own.
    """

    def __init__(
        self,
        redis: Redis,
        stock: RedisQueue,
        policy: QueuePolicy,
        letters: DeadLetterRepository,
        journal: Journal | None = None,
    ) -> None:
        self.redis = redis
        self.queue = JobQueue(redis, policy)
        self.letters = letters
        self.journal = journal
        self.acknowledged: set[str] = set()
        self.in_doubt: set[str] = set()
        """Enqueues that broke: the job may exist, or not."""
        self.gone: dict[int, float] = {}
        """By pid, the time at which a process was killed or frozen."""
        self.requeues = False
        """Whether jobs may run again without being charged, because another one's process was killed."""
        self._stock = stock
        self._sent = 0
        self._known: set[str] = set()
        """Those of the acknowledged that the watch knows of."""

    async def send(self, count: int = 1, **arguments: Any) -> None:
        """Enqueue ``count`` jobs by a stock SAQ producer."""
        for _ in range(count):
            self._sent += 1
            key = f"job-{self._sent}"
            try:
                # None: it was there already, since the client repeats what has no reply.
                await self._stock.enqueue(self.queue.policy.function, key=key, **arguments)
            except (RedisError, OSError):
                self.in_doubt.add(key)
            else:
                self.acknowledged.add(key)

    def died(self, pid: int) -> None:
        """A process runs nothing from now on."""
        self.gone[pid] = time.monotonic()

    async def problems(self) -> list[str]:
        """Return the problems of the queue at this moment."""
        keys = self.queue.keys
        new = list(self.acknowledged - self._known)
        names = [keys.queued, keys.active, keys.incomplete, keys.leases]
        names += [keys.completed, keys.failed, _ACKNOWLEDGED]
        limits = (self.queue.policy.concurrency, MAX_PROCESSES)
        ids = [self.queue.job_id(key) for key in new]
        found = await execute(self.redis, "EVAL", _WATCH, len(names), *names, *limits, *ids)
        self._known.update(new)
        return [line.decode() for line in found]

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Look at the lists all the while; fails at the end of the block if anything was wrong."""
        seen: list[str] = []
        rounds = 0

        async def watch() -> None:
            nonlocal rounds
            while True:
                try:
                    seen.extend(await self.problems())
                    rounds += 1
                except (RedisError, OSError):
                    pass  # the server is away: nothing moves
                await asyncio.sleep(_WATCH_SECONDS)

        watcher = asyncio.create_task(watch())
        try:
            yield
        finally:
            await cancel_and_wait([watcher])
        assert rounds
        assert not seen, "\n".join(seen)

    async def balance(self, *, within: float = 30.0) -> Counter[str]:
        """Wait until everything has ended, then check each job; the dead letters by job key."""
        await eventually(self.all_ended, within=within, what="every job ends")
        assert await self.problems() == []
        rows = Counter(letter.job_id for letter in await self._rows())
        assert not [key for key, count in rows.items() if count > 1], "buried twice"
        known = set(self.acknowledged)
        if self.journal is not None:
            known |= {line["key"] for line in self.journal.lines()}
            self._check_journal(rows)
        assert known >= set(rows), "a letter of an unknown job"
        completed = int(await self.redis.hget(self.queue.keys.totals, "completed") or 0)
        if self.journal is not None or not self.in_doubt:
            assert completed + len(rows) == len(known)
        return rows

    def _check_journal(self, rows: Counter[str]) -> None:
        assert self.journal is not None
        ended = {line["key"] for line in self.journal.events("end")}
        assert not self.acknowledged - ended - set(rows), "neither completed nor dead"
        starts = Counter(line["key"] for line in self.journal.events("start"))
        most = self.queue.policy.max_attempts
        too_many = {key: count for key, count in starts.items() if count > most}
        assert self.requeues or not too_many, "more attempts than are allowed"
        assert self.most_at_once() <= self.queue.policy.concurrency

    def most_at_once(self) -> int:
        """The largest number of attempts that ran at one moment, in all live processes together."""
        assert self.journal is not None
        changes: list[tuple[float, int]] = []
        running: dict[tuple[int, str, int], float] = {}
        for line in self.journal.lines():
            attempt = (line["pid"], line["key"], line["attempt"])
            if line["event"] == "start":
                running[attempt] = line["at"]
                changes.append((line["at"], 1))
            elif running.pop(attempt, None) is not None:
                # A frozen process may write its last line long after its jobs were given to others.
                changes.append((min(line["at"], self.gone.get(line["pid"], line["at"])), -1))
        changes += [(self.gone[pid], -1) for pid, _, _ in running if pid in self.gone]
        most = now = 0
        for _, change in sorted(changes):
            now += change
            most = max(most, now)
        return most

    async def _rows(self) -> list[Any]:
        page = await self.letters.page(limit=1000)
        rows = list(page.items)
        while page.next is not None:
            page = await self.letters.page(limit=1000, cursor=page.next)
            rows += page.items
        return [row for row in rows if row.queue_name == self.queue.name]

    async def all_ended(self) -> bool:
        """Whether nothing is queued, in flight, or waits for a time or for the database."""
        keys = self.queue.keys
        pipeline = self.redis.pipeline(transaction=True)
        pipeline.zcard(keys.incomplete)
        pipeline.llen(keys.queued)
        pipeline.llen(keys.active)
        pipeline.hlen(keys.leases)
        pipeline.zcard(LETTERS)
        try:
            return not any(await pipeline.execute())
        except (RedisError, OSError):
            return False
