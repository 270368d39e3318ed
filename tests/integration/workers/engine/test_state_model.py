"""One queue on a real server: every move in any order, compared with a model after each."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis as redis_client
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from saq import Job

from couturecast_handlers import PermanentError
from storage.redis.client import execute, make_client
from storage.redis.scripts import run_script
from workers.engine import outcome, wire
from workers.engine.job_changes import JobChanges
from workers.engine.job_reader import FoundJob, JobReader
from workers.engine.keys import BEATS, LETTER, LETTERS
from workers.engine.letter_encoding import decode_letter
from workers.engine.policy import QueuePolicy
from workers.engine.queue import JobQueue
from workers.engine.settlement import LeasedJob, Settlement
from workers.errors import WorkerLostError
from workers.process.heartbeat import BEAT_SCRIPT

WORKERS = ("ann", "bob", "cyd")
DEAD_AFTER_SECONDS, GAP_SECONDS = 8.0, 4.0
POLICY = QueuePolicy(
    "color-extraction", "extract_colors", concurrency=4, timeout=60, retry_delays=(3600, 3600, 3600)
)
EXAMPLES = round(settings().max_examples * float(os.environ.get("COUTURECAST_TEST_CHAOS", "1")))

worker = st.sampled_from(WORKERS)


@dataclass
class Held:
    """A job in a worker's hands, as that worker sees it."""

    taken: LeasedJob
    job: Job
    worker: str


@dataclass
class Model:
    """The state that the queue must have."""

    waiting: set[str] = field(default_factory=set)
    delayed: set[str] = field(default_factory=set)
    held: dict[str, Held] = field(default_factory=dict)
    ended: Counter[str] = field(default_factory=Counter)
    buried: Counter[str] = field(default_factory=Counter)
    attempts: Counter[str] = field(default_factory=Counter)
    """Attempts that were charged, by job key."""


class QueueMachine(RuleBasedStateMachine):
    """Rules are what producers, workers, operators and death do; ``url`` is set by the test."""

    url = ""

    @initialize()
    def begin(self) -> None:
        with redis_client.Redis.from_url(self.url) as client:
            client.flushall()
        self.loop = asyncio.new_event_loop()
        self.redis = make_client(self.url)
        self.queue = JobQueue(self.redis, POLICY)
        self.model = Model()
        self.dead: set[str] = set()
        self.paused = False
        self.past: list[Settlement] = []
        """Settlements that stood once, or whose job was taken from their worker."""
        self.shown: list[FoundJob] = []
        """Jobs as an operator saw them."""
        self.numbers = itertools.count(1)

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.run(self.redis.aclose())
            self.loop.close()

    def run(self, awaitable: Any) -> Any:
        return self.loop.run_until_complete(awaitable)

    @rule(count=st.integers(1, 4), delayed=st.booleans())
    def enqueue(self, count: int, delayed: bool) -> None:
        keys = [f"job-{next(self.numbers)}" for _ in range(count)]
        jobs = [Job(POLICY.function, key=key, kwargs={"n": 1}, queued=1) for key in keys]
        if delayed:
            for job in jobs:
                job.scheduled = 4_000_000_000
        assert self.run(self.queue.enqueue_many(jobs)) == [True] * count
        (self.model.delayed if delayed else self.model.waiting).update(keys)

    @precondition(lambda self: self.model.waiting or self.model.delayed or self.model.held)
    @rule(data=st.data())
    def enqueue_a_key_that_has_not_ended(self, data: st.DataObject) -> None:
        key = data.draw(
            st.sampled_from(sorted(self.model.waiting | self.model.delayed | set(self.model.held)))
        )
        job = Job(POLICY.function, key=key, kwargs={"n": 2})
        assert self.run(self.queue.enqueue_many([job])) == [False]

    @rule(name=worker, n=st.integers(1, 5))
    def take(self, name: str, n: int) -> None:
        self._take(name, n, [])

    def _take(self, name: str, n: int, settlements: list[Settlement]) -> list[bool]:
        stood, take = self.run(self.queue.take(name, n, settlements))
        if take.jobs:  # a take that gets nothing is no heartbeat
            self.dead.discard(name)
        free = POLICY.concurrency - len(self.model.held)
        if not settlements:
            expected = 0 if self.paused else min(n, free, len(self.model.waiting))
            assert len(take.jobs) == expected, take.state
        for taken in take.jobs:
            job = self.queue.deserialize(wire.load(taken.body))
            assert job is not None
            assert job.key in self.model.waiting
            self.model.waiting.discard(job.key)
            job.attempts += 1
            self.model.held[job.key] = Held(taken, job, name)
        return stood

    @precondition(lambda self: self.model.held)
    @rule(data=st.data(), verb=st.sampled_from(["finish", "fail", "refuse", "requeue", "update"]))
    def settle(self, data: st.DataObject, verb: str) -> None:
        held = self._any(data)
        settlement = self._settlement(held, verb)
        assert self.run(self.queue.settle([settlement])) == [True]
        self._settled(held, settlement)

    @precondition(lambda self: self.model.held)
    @rule(data=st.data(), verb=st.sampled_from(["finish", "fail", "refuse", "requeue"]))
    def settle_twice_in_one_call(self, data: st.DataObject, verb: str) -> None:
        held = self._any(data)
        settlement = self._settlement(held, verb)
        assert self.run(self.queue.settle([settlement, settlement])) == [True, False]
        self._settled(held, settlement)

    @precondition(lambda self: self.past)
    @rule(data=st.data(), name=worker, n=st.integers(1, 3))
    def settle_what_is_settled_or_was_taken_away(self, data: st.DataObject, name: str, n: int) -> None:
        stale = data.draw(st.sampled_from(self.past))
        assert self.run(self.queue.settle([stale])) == [False]
        assert self._take(name, n, [stale]) == [False]

    @rule(name=worker)
    def beat(self, name: str) -> None:
        self.dead.discard(name)
        self.run(run_script(self.redis, BEAT_SCRIPT.call([BEATS], [name])))

    @rule(name=worker)
    def kill(self, name: str) -> None:
        """Its heartbeat was long ago."""
        self.dead.add(name)
        self.run(execute(self.redis, "ZADD", BEATS, "XX", 1, name))

    @rule(watched=st.booleans())
    def recover(self, watched: bool) -> None:
        seconds, _ = self.run(self.redis.time())
        since = (seconds - 60) * 1000
        last = seconds * 1000 if watched else since
        self.run(execute(self.redis, "HSET", self.queue.keys.looks, "since", since, "last", last))
        assert len(self.run(self.queue.leases())) == len(self.model.held)
        lost = self.run(self.queue.leases_of_dead_workers(DEAD_AFTER_SECONDS, GAP_SECONDS))
        expected = {key for key, held in self.model.held.items() if held.worker in self.dead}
        assert {self.queue.job_key_from_id(leased.id) for leased in lost} == (expected if watched else set())
        for taken in lost:
            held = self.model.held[self.queue.job_key_from_id(taken.id)]
            job = self.queue.deserialize(wire.load(taken.body))
            assert job is not None
            died = WorkerLostError(f"worker {held.worker} died during the attempt")
            settlement = outcome.worker_died(taken, job, died, policy=POLICY, worker=held.worker)
            self.past.append(self._settlement(held, "finish"))
            assert self.run(self.queue.settle([settlement])) == [True]
            self._settled(held, settlement, charged=True)

    @precondition(lambda self: self.model.delayed)
    @rule(data=st.data())
    def time_passes(self, data: st.DataObject) -> None:
        """A delayed job's time comes; the next take makes it ready."""
        key = data.draw(st.sampled_from(sorted(self.model.delayed)))
        self.run(execute(self.redis, "ZADD", self.queue.keys.incomplete, "XX", 1, self.queue.job_id(key)))
        self.model.delayed.discard(key)
        self.run(self.queue.take("nobody", 0, []))
        self.model.waiting.add(key)

    @precondition(lambda self: self.model.waiting or self.model.delayed)
    @rule(data=st.data(), verb=st.sampled_from(["abort", "run now", "remove"]))
    def change_a_job_that_waits(self, data: st.DataObject, verb: str) -> None:
        key = data.draw(st.sampled_from(sorted(self.model.waiting | self.model.delayed)))
        assert self.run(self._change(verb, self._find(key)))
        self._changed(verb, key)

    @precondition(lambda self: self.model.held)
    @rule(data=st.data(), verb=st.sampled_from(["run now", "remove"]))
    def change_a_job_that_runs(self, data: st.DataObject, verb: str) -> None:
        assert not self.run(self._change(verb, self._find(self._any(data).job.key)))

    @precondition(lambda self: self.model.waiting or self.model.delayed)
    @rule(data=st.data())
    def show_a_job(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.model.waiting | self.model.delayed)))
        self.shown.append(self._find(key))

    @precondition(lambda self: self.shown)
    @rule(data=st.data(), verb=st.sampled_from(["abort", "run now", "remove"]))
    def change_what_was_shown(self, data: st.DataObject, verb: str) -> None:
        """Change a job as it was shown: nothing happens if it has moved since."""
        shown = self.shown.pop(data.draw(st.integers(0, len(self.shown) - 1)))
        key = self._key(shown.id)
        now = self._find(key)
        same = (now.where, now.mark) == (shown.where, shown.mark)
        if verb != "run now":
            same = same and now.record == shown.record
        assert self.run(self._change(verb, shown)) == same
        if same:
            self._changed(verb, key)

    def _find(self, key: str) -> FoundJob:
        async def find() -> FoundJob:
            async for _, (found,) in JobReader(self.redis, self.queue.name).find([key]):
                return found
            raise AssertionError("unreachable")

        found: FoundJob = self.run(find())
        return found

    async def _change(self, verb: str, found: FoundJob) -> bool:
        changes = JobChanges(self.queue)
        match verb:
            case "abort":
                (done,) = await changes.abort([found], "told")
            case "remove":
                (done,) = await changes.remove([found])
            case _:
                (done,) = await changes.run_now([found])
        return done

    def _changed(self, verb: str, key: str) -> None:
        self.model.waiting.discard(key)
        self.model.delayed.discard(key)
        if verb == "run now":
            self.model.waiting.add(key)
        else:
            self.model.ended[key] += 1

    @rule()
    def pause(self) -> None:
        self.run(execute(self.redis, "HSET", self.queue.keys.pause, "by", "test"))
        self.paused = True

    @rule()
    def resume(self) -> None:
        self.run(execute(self.redis, "DEL", self.queue.keys.pause))
        self.paused = False

    def _any(self, data: st.DataObject) -> Held:
        return self.model.held[data.draw(st.sampled_from(sorted(self.model.held)))]

    def _settlement(self, held: Held, verb: str) -> Settlement:
        job = self.queue.copy(held.job)
        match verb:
            case "finish":
                return outcome.settle_success(held.taken, job, "done")
            case "fail":
                return outcome.settle_failure(
                    held.taken, job, RuntimeError("told"), policy=POLICY, worker=held.worker
                )
            case "refuse":
                return outcome.settle_failure(
                    held.taken, job, PermanentError("no"), policy=POLICY, worker=held.worker
                )
            case "requeue":
                return outcome.give_back(held.taken)
            case _:
                return outcome.progress_update(held.taken, job)

    def _settled(self, held: Held, settlement: Settlement, *, charged: bool = False) -> None:
        if settlement.verb == "update":
            return
        key = held.job.key
        del self.model.held[key]
        self.past.append(settlement)
        if charged or settlement.verb != "return":
            self.model.attempts[key] += 1
        match settlement.verb:
            case "complete":
                self.model.ended[key] += 1
            case "bury":
                self.model.ended[key] += 1
                self.model.buried[key] += 1
            case "retry":
                self.model.delayed.add(key)
            case "return":
                self.model.waiting.add(key)

    @invariant()
    def every_job_is_where_the_model_has_it(self) -> None:
        if not hasattr(self, "loop"):
            return
        self.run(self._compare())

    async def _compare(self) -> None:
        keys, model = self.queue.keys, self.model
        pipeline = self.redis.pipeline(transaction=True)
        pipeline.lrange(keys.queued, 0, -1)
        pipeline.lrange(keys.active, 0, -1)
        pipeline.zrange(keys.incomplete, 0, -1, withscores=True)
        pipeline.hgetall(keys.leases)
        pipeline.execute_command("HGETALL", LETTER)
        pipeline.zrange(LETTERS, 0, -1)
        queued, active, incomplete, leases, letters, uids = await pipeline.execute()
        assert sorted(map(self._key, queued)) == sorted(model.waiting)
        assert sorted(map(self._key, active)) == sorted(model.held)
        assert {self._key(job_id) for job_id in leases} == set(model.held)
        for job_id, lease in leases.items():
            assert model.held[self._key(job_id)].taken.lease == lease
        assert len(leases) <= POLICY.concurrency
        scores = {self._key(job_id): score for job_id, score in incomplete}
        assert set(scores) == model.waiting | model.delayed | set(model.held)
        assert {key for key, score in scores.items() if score} == model.delayed
        assert len(uids) == len(letters)
        buried = Counter(decode_letter(body, uid.decode()).job_id for uid, body in letters.items())
        assert buried == model.buried
        assert not [key for key, n in (model.ended + buried).items() if n > 2]
        assert all(n <= POLICY.max_attempts for n in model.attempts.values())
        for uid, body in letters.items():
            letter = decode_letter(body, uid.decode())
            assert letter.attempts == model.attempts[letter.job_id] == len(letter.attempt_errors)

    def _key(self, job_id: bytes) -> str:
        return self.queue.job_key_from_id(job_id.decode())


@pytest.mark.timeout(600)
def test_e2_e3_e8_every_move_in_any_order_keeps_each_job_on_one_list(redis_url: str) -> None:
    QueueMachine.url = redis_url
    run_state_machine_as_test(
        QueueMachine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=40,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_e10_a_take_that_gets_nothing_is_no_heartbeat(redis_url: str) -> None:
    """An example that hypothesis found: the model revived a dead worker that the server calls dead."""
    QueueMachine.url = redis_url
    machine = QueueMachine()
    machine.begin()
    machine.enqueue(count=1, delayed=False)
    machine.take(name="ann", n=1)
    machine.kill(name="ann")
    machine.take(name="ann", n=1)
    machine.recover(watched=True)
    machine.every_job_is_where_the_model_has_it()
    machine.teardown()
