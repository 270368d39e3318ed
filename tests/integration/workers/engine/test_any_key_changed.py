"""Other programs change any key of a queue to anything while workers run: its good jobs end once each."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import redis as redis_client
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from redis.asyncio import Redis
from saq import Job, Status
from saq.queue.redis import RedisQueue

from storage.database.engine import Database
from storage.dead_letters.repository import DeadLetterRepository
from storage.redis.client import execute, make_client
from tests.support.engine import QUICK, stop
from tests.support.waiting import eventually
from workers.engine.keys import BEATS, CRON, LETTER, LETTERS, OUTCOMES, TOKENS, WORKERS, QueueKeys
from workers.engine.policy import QueuePolicy, RateLimit
from workers.engine.queue import JobQueue
from workers.process.worker_process import WorkerProcess

POLICY = QueuePolicy(
    "color-extraction",
    "extract_colors",
    concurrency=4,
    timeout=60,
    rate_limit=RateLimit(10_000, 60),
    retry_delays=(0.02,) * 40,
)
IN_CI = settings.get_current_profile_name() == "ci"
EXAMPLES = round((20 if IN_CI else 6) * float(os.environ.get("COUTURECAST_TEST_CHAOS", "1")))
KEYS = QueueKeys.of(POLICY.name)
TYPES = {
    KEYS.queued: "list",
    KEYS.active: "list",
    KEYS.incomplete: "zset",
    KEYS.leases: "hash",
    KEYS.starts: "zset",
    KEYS.looks: "hash",
    KEYS.token: "string",
    KEYS.completed: "zset",
    KEYS.failed: "zset",
    KEYS.totals: "hash",
    BEATS: "zset",
    WORKERS: "hash",
    LETTERS: "zset",
    LETTER: "hash",
    OUTCOMES: "zset",
    CRON: "hash",
    TOKENS: "zset",
}
OUTSIDE: dict[str, tuple[Any, ...]] = {
    "precious": ("SET", "precious", "gold"),
    "cached": ("SET", "cached", "copper", "PX", 3_600_000),
    "plain": ("RPUSH", "plain", "a", "b"),
    "couturecast:alert-fanout:totals": ("HSET", "couturecast:alert-fanout:totals", "completed", 7),
    "saq:job:alert-fanout:waits": ("SET", "saq:job:alert-fanout:waits", '{"function":"fan_out_alert"}'),
    "saq:alert-fanout:queued": ("RPUSH", "saq:alert-fanout:queued", "saq:job:alert-fanout:waits"),
    "saq:alert-fanout:incomplete": ("ZADD", "saq:alert-fanout:incomplete", 0, "saq:job:alert-fanout:waits"),
}

keys = st.sampled_from(sorted(TYPES))
junk = st.one_of(
    st.sampled_from(
        [b"", *(name.encode() for name in OUTSIDE), BEATS.encode(), b"saq:job:color-extraction:"]
    ),
    st.binary(max_size=12),
    st.binary(max_size=6).map(lambda tail: b"saq:job:color-extraction:junk-" + tail),
)
scores = st.sampled_from([0, 5, -5, "-inf", "+inf", 1e300, 4_102_444_800])
texts = st.one_of(
    st.binary(max_size=20), st.sampled_from([b"ghost:1:1", b":", b"9223372036854775807", b"-1", b"nan"])
)


class AnyKeyMachine(RuleBasedStateMachine):
    """Rules are what producers and foreign programs do; two processes work in between."""

    url = ""
    letters: DeadLetterRepository
    loop: asyncio.AbstractEventLoop
    changes: ClassVar[Counter[str]] = Counter()
    repairs: ClassVar[Counter[str]] = Counter()
    numbers = itertools.count()

    def run(self, awaitable: Awaitable[Any]) -> Any:
        return self.loop.run_until_complete(awaitable)

    @initialize()
    def begin(self) -> None:
        with redis_client.Redis.from_url(self.url) as client:
            client.flushall()
        self.redis: Redis = make_client(self.url)
        self.queue = JobQueue(self.redis, POLICY)
        self.stock = RedisQueue.from_url(self.url, name=POLICY.name)
        self.good: set[str] = set()
        self.runs: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.processes: list[WorkerProcess] = []
        self.run(self._begin())
        self.enqueue(6, 1, 0.01)
        self.enqueue(6, 0, 0.1)

    async def _begin(self) -> None:
        for words in OUTSIDE.values():
            await execute(self.redis, *words)
        self.outside = await self._outside()
        for _ in range(2):
            process = WorkerProcess(
                self.url,
                policies=[POLICY],
                functions={POLICY.name: self._work},
                letters=self.letters,
                timings=QUICK,
            )
            self.processes.append(process)
            await process.start()

    async def _work(self, ctx: dict[str, Any], fails: int, seconds: float) -> None:
        key = ctx["job"].key
        self.runs[key] += 1
        await asyncio.sleep(seconds)
        if self.failures[key] < fails:
            self.failures[key] += 1
            raise RuntimeError("told to fail")

    async def _outside(self) -> dict[str, tuple[Any, Any]]:
        return {
            name: (await execute(self.redis, "DUMP", name), await execute(self.redis, "PEXPIRETIME", name))
            for name in OUTSIDE
        }

    @rule(count=st.integers(1, 8), fails=st.integers(0, 2), seconds=st.sampled_from([0.0, 0.01, 0.3]))
    def enqueue(self, count: int, fails: int, seconds: float) -> None:
        jobs = [
            Job(
                POLICY.function, key=f"good-{next(self.numbers)}", kwargs={"fails": fails, "seconds": seconds}
            )
            for _ in range(count)
        ]
        self.run(self.queue.enqueue_many(jobs))
        self.good.update(job.key for job in jobs)

    @rule(seconds=st.sampled_from([0.0, 0.01, 0.1]))
    def let_workers_run(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))

    @rule(key=keys)
    def delete(self, key: str) -> None:
        self._change("delete", "DEL", key)

    @rule(key=keys, milliseconds=st.sampled_from([1, 100]))
    def give_a_ttl(self, key: str, milliseconds: int) -> None:
        self._change("ttl", "PEXPIRE", key, milliseconds)

    @rule(key=keys, text=texts)
    def replace_by_text(self, key: str, text: bytes) -> None:
        self._change("text", "SET", key, text)

    @rule(key=keys, kind=st.sampled_from(["RPUSH", "SADD", "HSET", "ZADD", "XADD"]), member=junk)
    def replace_by_another_type(self, key: str, kind: str, member: bytes) -> None:
        words = {"HSET": (member, b"x"), "ZADD": (1, member), "XADD": ("*", member, b"x")}.get(
            kind, (member,)
        )
        self.run(execute(self.redis, "DEL", key))
        self._change("type", kind, key, *words)

    @rule(
        key=st.sampled_from([KEYS.queued, KEYS.active]), member=junk, end=st.sampled_from(["LPUSH", "RPUSH"])
    )
    def list_junk(self, key: str, member: bytes, end: str) -> None:
        self._change("listed junk", end, key, member)

    @rule(
        data=st.data(),
        key=st.sampled_from([KEYS.queued, KEYS.active]),
        end=st.sampled_from(["LPUSH", "RPUSH"]),
    )
    def list_a_good_job_again(self, data: st.DataObject, key: str, end: str) -> None:
        if self.good:
            name = data.draw(st.sampled_from(sorted(self.good)))
            self._change("listed twice", end, key, self.queue.job_id(name))

    @rule(data=st.data(), key=st.sampled_from([KEYS.queued, KEYS.active]))
    def take_a_good_job_off_a_list(self, data: st.DataObject, key: str) -> None:
        if self.good:
            name = data.draw(st.sampled_from(sorted(self.good)))
            self._change("unlisted", "LREM", key, 0, self.queue.job_id(name))

    @rule(
        key=st.sampled_from([key for key, kind in TYPES.items() if kind == "zset"]), member=junk, score=scores
    )
    def add_a_scored_member(self, key: str, member: bytes, score: Any) -> None:
        self._change("scored junk", "ZADD", key, score, member)

    @rule(data=st.data(), score=st.sampled_from([0, 5, -5, "-inf", "+inf"]))
    def give_a_good_job_another_time(self, data: st.DataObject, score: Any) -> None:
        if self.good:
            name = data.draw(st.sampled_from(sorted(self.good)))
            self._change("another time", "ZADD", KEYS.incomplete, "XX", score, self.queue.job_id(name))

    @rule(key=st.sampled_from([key for key, kind in TYPES.items() if kind == "hash"]), field=junk, text=texts)
    def set_a_field(self, key: str, field: bytes, text: bytes) -> None:
        self._change("field", "HSET", key, field, text)

    @rule(key=st.sampled_from([KEYS.looks, KEYS.totals]), text=texts, data=st.data())
    def change_a_known_field(self, key: str, text: bytes, data: st.DataObject) -> None:
        field = data.draw(st.sampled_from(["since", "last", "told", "standby", "reconciled", "completed"]))
        self._change("known field", "HSET", key, field, text)

    @rule(data=st.data(), lease=texts)
    def change_a_lease(self, data: st.DataObject, lease: bytes) -> None:
        if self.good:
            name = data.draw(st.sampled_from(sorted(self.good)))
            owner = data.draw(st.sampled_from([None, *self.processes]))
            value = lease if owner is None else f"{owner.id}:1:1".encode()
            self._change("lease", "HSET", KEYS.leases, self.queue.job_id(name), value)

    def _change(self, kind: str, *words: Any) -> None:
        """Change a key as a foreign program does; what its type refuses changes nothing."""
        try:
            self.run(execute(self.redis, *words))
        except redis_client.ResponseError:
            return
        type(self).changes[kind] += 1

    def teardown(self) -> None:
        if not hasattr(self, "redis"):
            return
        try:
            self.run(self._check())
        finally:
            self.run(self._close())

    async def _check(self) -> None:
        for _ in range(2):
            found = await self.queue.reconciler.reconcile(now=True, everything=True)
            type(self).repairs += found or Counter()
            await asyncio.sleep(0.02)
        for key, kind in TYPES.items():
            assert await execute(self.redis, "TYPE", key) in (b"none", kind.encode()), key
        await eventually(self._is_idle, within=30, what="every id is explained")
        await eventually(lambda: self._completed() >= len(self.good), what="processes have read the replies")
        assert not set(await self._buried()) & self.good
        jobs = [await self.stock.job(name) for name in self.good]
        odd = {job.key: job.to_dict() for job in jobs if job is not None and job.status != Status.COMPLETE}
        assert not odd
        assert self._completed() == len(self.good)
        assert await self._outside() == self.outside
        assert not any(process.draining for process in self.processes)

    def _completed(self) -> int:
        return sum(process.dispatchers[POLICY.name].settled["complete"] for process in self.processes)

    async def _is_idle(self) -> bool:
        """Whether nothing waits but what is scheduled; the reconciler helps, as it does each minute."""
        await self.queue.reconciler.reconcile(now=True, everything=True)
        redis = self.redis
        held = await redis.llen(KEYS.queued) + await redis.llen(KEYS.active) + await redis.hlen(KEYS.leases)
        due = await redis.zcount(KEYS.incomplete, "-inf", 2_000_000_000)
        due += await redis.zcount(KEYS.incomplete, 253_402_300_799, "+inf")
        await asyncio.sleep(0.05)
        return held == due == 0

    async def _buried(self) -> Iterator[str]:
        for process in self.processes:
            while await process.links[0].recorder.record_batch():
                pass
        return iter([letter.job_id for letter in (await self.letters.page(limit=1000)).items])

    async def _close(self) -> None:
        for process in self.processes:
            await stop(process)
        await self.stock.disconnect()
        await self.redis.aclose()


@pytest.mark.timeout(900)
def test_e14_any_key_may_be_changed_to_anything(
    redis_url: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    loop = asyncio.new_event_loop()
    database = Database(f"sqlite:///{tmp_path}/letters.db")
    loop.run_until_complete(database.start())
    AnyKeyMachine.url, AnyKeyMachine.loop = redis_url, loop
    AnyKeyMachine.letters = DeadLetterRepository(database)
    try:
        run_state_machine_as_test(
            AnyKeyMachine,
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=25,
                deadline=None,
                print_blob=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        loop.run_until_complete(database.close())
        loop.close()
    record_property("changes", dict(AnyKeyMachine.changes))
    record_property("repairs", dict(AnyKeyMachine.repairs))
