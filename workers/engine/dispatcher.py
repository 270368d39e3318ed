"""One dispatcher a queue and process: all moves of its jobs in Redis are made here.

Each turn is one round trip: settle the jobs that ended, take as many as fit.  Between turns it waits for the
first of these: an attempt ends, a job is ready, another process wakes it, or the time comes at which
something is due.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import structlog
from redis.exceptions import RedisError, ResponseError

from storage.asyncio_tools import cancel_and_wait
from storage.backoff import ReconnectBackoff
from storage.redis.batches import batch_by_size
from storage.redis.client import PipelineConnection, is_too_large
from workers.engine import outcome, wire
from workers.engine.policy import PollIntervals, Timings
from workers.engine.queue import JobQueue
from workers.engine.recovery import Recovery
from workers.engine.runner import JobRunner, SaqFunction
from workers.engine.settlement import LeasedJob, Settlement, TakeResult

log = structlog.get_logger(__name__)

_PAUSED_POLL_SECONDS = 30.0
"""Until the next turn of a queue that is paused, if nothing wakes the dispatcher before."""
_FULL_OF_OWN_SECONDS = 0.01
"""The same if this process' own jobs fill the queue: one of them was settled in a call after the take."""
_CHECK_LEASES_SECONDS = 0.5
"""How long a drain with nothing in flight waits for Redis to confirm that nothing is leased."""
_MAX_BATCH = 200
"""Settlements in one round trip."""


class NextTurn(NamedTuple):
    """When a dispatcher makes its next turn if nothing wakes it before; None: only when it is woken."""

    seconds: float | None


_NOW = NextTurn(0.0)
_WHEN_WOKEN = NextTurn(None)


class Dispatcher:
    """Moves the jobs of one queue between Redis and the runner of this process.

    ``wakeup_connection`` waits for ready jobs.  ``on_result`` is called with None after each successful turn
    and with the error after each failed one.  ``on_letter`` is called when a letter, or the end of a replay,
    waits for the database.
    """

    def __init__(
        self,
        queue: JobQueue,
        function: SaqFunction,
        *,
        worker_id: str,
        wakeup_connection: PipelineConnection,
        pace: PollIntervals,
        timings: Timings,
        on_result: Callable[[Exception | None], None],
        on_letter: Callable[[], None],
    ) -> None:
        self.queue = queue
        self.runner = JobRunner(queue, function, worker_id=worker_id, on_finished=self._on_finished)
        self.recovery = Recovery(queue, timings, self.wake)
        self.state = "starting"
        """Of the last take; ``standby`` while other processes fill the queue's five slots."""
        self.settled: Counter[str] = Counter()
        """Settlements that stood, by verb."""
        self.returned = 0
        """Jobs that this process returned unfinished while it drained."""
        self._wakeup_connection = wakeup_connection
        self._pace = pace
        self._retry_seconds = timings.retry_seconds
        self._poll_seconds = {
            "full": timings.full_poll_seconds,
            "standby": timings.standby_poll_seconds,
            "paused": _PAUSED_POLL_SECONDS,
        }
        """By the state of the last take: until the next turn, if nothing wakes the dispatcher before."""
        self._on_result = on_result
        self._on_letter = on_letter
        self._settlements: list[Settlement] = []
        self._batch_limit = _MAX_BATCH
        self._woken = asyncio.Event()
        self._is_empty = asyncio.Event()
        self._draining = False
        self._leases_uncertain = False
        """A reply was lost, so the jobs this process holds may no longer match its leases in Redis."""
        self._uncertain_until = 0.0
        """Loop time until which a drain waits for Redis to confirm that nothing is leased here."""
        self.holds_jobs = False
        """Whether the queue held ready jobs, or jobs in flight, at the last take."""
        self.turned = asyncio.Event()
        """Set once it has completed a turn."""
        self._due: float | None = None
        """Loop time at which the turn under way began, or the next one is due; None while nothing is due."""
        self._defect_since: float | None = None
        """Loop time since which every turn has failed by a defect of ours."""
        self._wakeup_task: asyncio.Task[None] | None = None

    @property
    def in_flight(self) -> int:
        """Jobs of this process that run, or have ended and are not settled yet."""
        return len(self.runner.running) + _unsettled(self._settlements)

    def overdue_seconds(self) -> float:
        """How long a turn has been under way, or due and not begun; 0 while there is progress."""
        if self._wakeup_task is not None and self._wakeup_task.done():
            return math.inf  # nothing would wake it
        since = self._defect_since or self._due
        return 0.0 if since is None else max(0.0, asyncio.get_running_loop().time() - since)

    def wake(self) -> None:
        """Make a turn now."""
        self._woken.set()

    def request_lease_check(self) -> None:
        """Compare the running jobs with the leases before the next turn, for instance after a freeze."""
        self._leases_uncertain = True
        self._woken.set()

    def begin_drain(self) -> None:
        """Start no more jobs."""
        self._draining = True
        self._uncertain_until = asyncio.get_running_loop().time() + _CHECK_LEASES_SECONDS
        self._woken.set()

    def end_drain(self) -> None:
        """Start jobs again; a run that has ended is to be begun again."""
        self._draining = False
        self._woken.set()

    def cancel_running(self) -> None:
        """Cancel the running jobs; each goes back to the head of its queue."""
        for running in list(self.runner.running.values()):
            self.runner.cancel(running, "drain")

    async def check_aborts(self) -> None:
        """Cancel the running jobs for which SAQ's ``queue.abort`` was called.  Raises RedisError."""
        running = list(self.runner.running.values())
        if running:
            reasons = await self.queue.abort_requests([(job.leased.id, job.job) for job in running])
            for job, reason in zip(running, reasons, strict=True):
                if reason is not None:
                    job.job.error = reason
                    self.runner.cancel(job, "abort")

    async def run(self) -> None:
        """Make turns until a drain has ended: every job of this process is settled then."""
        wakeup = self._wakeup_task = asyncio.create_task(
            self._watch_for_ready_job(), name=f"wakeup {self.queue.name}"
        )
        first, longest = self._retry_seconds
        backoff = first
        try:
            while not self._finished:
                self._due = asyncio.get_running_loop().time()
                try:
                    next_turn = await self._turn()
                except (RedisError, OSError) as error:
                    self._on_result(error)
                    self._leases_uncertain = True
                    if isinstance(error, ResponseError):
                        self.queue.reconciler.request(now=True)
                except Exception:  # whatever another program wrote must not stop the queue
                    log.exception("a turn failed by a defect, and is tried again", queue=self.queue.name)
                    self._leases_uncertain = True
                    self._defect_since = self._defect_since or self._due
                else:
                    self._on_result(None)
                    self.turned.set()
                    self._defect_since = None
                    backoff = first
                    await self._sleep(next_turn.seconds)
                    continue
                await self._pause(backoff * random.uniform(0.8, 1.2))  # noqa: S311 - spreads the load
                backoff = min(backoff * 2, first if self._draining else longest)
        finally:
            self._wakeup_task, self._due = None, None
            self.recovery.stop()
            await cancel_and_wait([wakeup])

    @property
    def _finished(self) -> bool:
        if not self._draining or self.in_flight:
            return False
        return not self._leases_uncertain or asyncio.get_running_loop().time() >= self._uncertain_until

    # One turn

    async def _turn(self) -> NextTurn:
        """Settle and take in one round trip."""
        self._woken.clear()
        if self._leases_uncertain:
            await self._check_leases()
        batch = next(batch_by_size(self._settlements, Settlement.size, self._batch_limit), [])
        expected = len(self.runner.running) + _unsettled(self._settlements[len(batch) :])
        try:
            if self._draining:
                stood, take = await self.queue.settle(batch), None
            else:
                stood, take = await self.queue.take(self.runner.id, self.runner.free, batch)
        except (RedisError, OSError) as error:
            if batch and is_too_large(error):
                self._shrink_too_large(batch, error)
                return _NOW
            for settlement in batch:
                settlement.resent = settlement.resent or not isinstance(error, ResponseError)
            raise
        self._batch_limit = _MAX_BATCH
        del self._settlements[: len(batch)]
        self._handle_settled(batch, stood)
        if take is None:
            return _NOW if self._settlements else _WHEN_WOKEN
        if isinstance(take, Exception):
            raise take
        if take.own_leases != expected:  # a take whose reply was lost took jobs, or leases are gone
            self._leases_uncertain = True
        return await self._handle_take(take)

    def _shrink_too_large(self, batch: list[Settlement], error: Exception) -> None:
        """Redis refuses a request for its size: find the settlement that is too large, and shrink it."""
        self._leases_uncertain = True  # the take in the same request took jobs all the same
        if len(batch) > 1:  # the next round trip has the first half
            self._batch_limit = len(batch) // 2
            return
        (refused,) = batch
        ends = refused.verb in ("complete", "retry")
        job = self.queue.deserialize(wire.load(refused.body)) if ends else None
        smaller = outcome.shrink(
            refused,
            job,
            str(error),
            policy=self.queue.policy,
            worker=self.runner.id,
            release=self.queue.release,
        )
        log.warning(
            "Redis refuses a job's record for its size",
            queue=self.queue.name,
            job=refused.id,
            verb=refused.verb,
            bytes=refused.size(),
            instead=smaller.verb if smaller else None,
            error=str(error),
        )
        self._settlements[:1] = [smaller] if smaller else []

    def _handle_settled(self, batch: list[Settlement], stood: list[bool]) -> None:
        for settlement, done in zip(batch, stood, strict=True):
            if done or settlement.resent:
                self.settled[settlement.verb] += 1
                self.returned += settlement.interrupted and self._draining
                if settlement.letter or settlement.replay_outcome:
                    self._on_letter()
            elif settlement.verb != "update":
                log.warning("fenced off: the job was given to another worker", job=settlement.id)

    async def _handle_take(self, take: TakeResult) -> NextTurn:
        self.state = take.state
        self.holds_jobs = bool(take.depth or take.jobs or take.own_leases or take.others_leases)
        if self.holds_jobs:
            self.queue.reconciler.request()
        for leased in take.jobs:
            if self._draining:
                self._give_back(leased)
            else:
                self.runner.start_job(leased, take.now)
        if take.others_leases > 0 and not self._draining:
            self._settlements += await self.recovery.recover()
        if self._settlements or take.state == "again" or (take.depth and take.jobs and self.runner.free):
            return _NOW
        return self._next_turn(take)

    def _next_turn(self, take: TakeResult) -> NextTurn:
        """When the next turn is due if no attempt ends before."""
        waits = [wait for wait in (take.wait,) if wait is not None]
        if self._leases_uncertain:
            waits.append(self._poll_seconds["full"])
        if take.others_leases > 0:
            waits.append(self.recovery.seconds_until_check)
        if take.state in ("empty", "taken") and self.runner.free:
            self._is_empty.set()
        elif take.state == "full" and not take.others_leases:
            waits.append(_FULL_OF_OWN_SECONDS)
        elif take.state in self._poll_seconds:
            waits.append(self._poll_seconds[take.state])
        return NextTurn(min(waits)) if waits else _WHEN_WOKEN

    def _on_finished(self, settlement: Settlement) -> None:
        self._settlements.append(settlement)
        self._woken.set()

    def _give_back(self, leased: LeasedJob) -> None:
        self._settlements.append(outcome.give_back(leased))

    async def _check_leases(self) -> None:
        """Return leases of ours whose job never reached us; stop attempts whose lease is no longer ours."""
        leases = await self.queue.leases()
        settling = {(settlement.id, settlement.lease) for settlement in self._settlements}
        own = f"{self.runner.id}:".encode()
        for job_id, lease in leases.items():
            running = self.runner.running.get(job_id)
            runs = running is not None and running.leased.lease == lease
            if lease.startswith(own) and not runs and (job_id, lease) not in settling:
                self._give_back(LeasedJob(job_id, lease, await self.queue.body(job_id)))
        for job_id, running in list(self.runner.running.items()):
            if leases.get(job_id) != running.leased.lease:
                self.runner.cancel(running, "fenced")
        self._leases_uncertain = False

    # Between turns

    async def _sleep(self, seconds: float | None) -> None:
        """Wait until a job ends, arrives or is due."""
        if (seconds is not None and seconds <= 0) or self._settlements or self._finished:
            return
        await self._pause(seconds)
        self._is_empty.clear()

    async def _pause(self, seconds: float | None) -> None:
        if seconds is None:
            self._due = None
            await self._woken.wait()
            return
        self._due = asyncio.get_running_loop().time() + seconds
        alarm = asyncio.get_running_loop().call_later(seconds, self._woken.set)
        try:
            await self._woken.wait()
        finally:
            alarm.cancel()

    async def _watch_for_ready_job(self) -> None:
        """Wake the dispatcher when its empty queue gets a job; waits on a connection of its own.

        Proxies close a connection on which nothing happens; the first time it is opened again at once.
        """
        backoff = ReconnectBackoff(*self._retry_seconds)
        while True:
            await self._is_empty.wait()
            backoff.begin()
            try:
                is_ready = await self.queue.wait_for_job(self._wakeup_connection, self._pace.ready_wait)
            except (RedisError, OSError) as error:
                log.debug("the wakeup connection broke", queue=self.queue.name, error=repr(error))
                pause = backoff.failed()
                if pause or isinstance(error, ResponseError):
                    self._woken.set()  # the next turn finds out whether Redis is down, or another server
                await asyncio.sleep(pause)
            else:
                backoff.succeeded()
                if is_ready:
                    self._is_empty.clear()
                    self._woken.set()


def _unsettled(settlements: list[Settlement]) -> int:
    return sum(settlement.verb != "update" for settlement in settlements)
