"""One dispatcher a queue and process: the only place from which its jobs move in Redis.

Each turn is one round trip: settle what ended, take what fits.  Between turns it waits for whichever comes
first: an attempt that ended, a ready job, a nudge, or the time at which something is known to be due.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from collections.abc import Callable

import structlog
from redis.exceptions import RedisError, ResponseError

from storage.asyncio_tools import cancel_and_wait
from storage.backoff import ReconnectBackoff
from storage.redis.batches import batch_by_size
from storage.redis.client import PipelineConnection, is_too_large
from workers.engine import outcome, wire
from workers.engine.policy import PollIntervals
from workers.engine.queue import JobQueue, LeasedJob, Settlement, TakeResult
from workers.engine.runner import JobRunner, SaqFunction, parse_job
from workers.errors import InvalidJobError, WorkerLostError

log = structlog.get_logger(__name__)

_AT_ONCE = 0.01
"""Seconds between looks where the next one will do."""
_BLOCKED_POLL = 0.5
"""Seconds between looks while jobs are ready and other processes hold all slots."""
_PAUSED_POLL = 30.0
_STANDBY_POLL = 2.0
_LOST_POLL = 2.5
"""Seconds between looks for dead holders, while other workers hold leases."""
DEAD_AFTER = 8.0
"""Seconds without a heartbeat after which a worker is dead; it beats every two."""
LOOK_GAP = 4.0
"""Seconds between two looks for dead holders, by any process, after which silence proves nothing: a living
one may have missed two beats, and this time."""
_DOUBT_SECONDS = 0.5
"""Seconds that a drain with nothing in flight waits for a Redis that is away."""
_BATCH = 200
"""Settlements in one round trip at the most."""
_BACKOFF = (0.1, 5.0)
"""Seconds between tries while Redis does not answer: the first, and the longest."""


class Dispatcher:
    """Moves the jobs of one queue between Redis and the worker of this process.

    ``on_reply`` is called with None after each successful turn and with the error after each that failed.
    ``on_letter`` is called when a letter, or the end of a replay, waits for the database.
    """

    def __init__(
        self,
        queue: JobQueue,
        function: SaqFunction,
        *,
        worker_id: str,
        doorbell: PipelineConnection,
        pace: PollIntervals,
        on_reply: Callable[[Exception | None], None],
        on_letter: Callable[[], None],
    ) -> None:
        self.queue = queue
        self.worker = JobRunner(queue, function, worker_id=worker_id, report=self._ended)
        self.state = "starting"
        """Of the last take; ``standby`` while other processes fill the queue's five places."""
        self.ended: Counter[str] = Counter()
        """Settlements that stood, by verb."""
        self.put_back = 0
        """Jobs that this process returned unfinished while it drained."""
        self._doorbell = doorbell
        self._pace = pace
        self._on_reply = on_reply
        self._on_letter = on_letter
        self._settlements: list[Settlement] = []
        self._most = _BATCH
        """Settlements in the next round trip: fewer while it is found out which one is too large."""
        self._wake = asyncio.Event()
        self._empty = asyncio.Event()
        self._draining = False
        self._certain_by = 0.0
        """Loop time until which a drain waits for Redis to say that nothing is held here."""
        self._doubt = False
        """A reply was lost: what this process holds may differ from its leases."""
        self._later: asyncio.TimerHandle | None = None
        self._look_once_more = False
        self._look_at = 0.0
        """Loop time of the next look for dead holders."""
        self.turned = asyncio.Event()
        """Set once it has completed a turn."""
        self._due: float | None = None
        """Loop time at which the turn under way began, or the next one is due; None while nothing is due."""
        self._defect_since: float | None = None
        """Loop time since which every turn has failed by a defect of ours."""
        self._bell: asyncio.Task[None] | None = None

    @property
    def in_flight(self) -> int:
        """Jobs of this process that run, or have ended and are not settled yet."""
        return len(self.worker.running) + sum(each.verb != "mark" for each in self._settlements)

    def late(self) -> float:
        """Seconds for which a turn has been under way, or due and not begun; 0 while there is progress."""
        if self._bell is not None and self._bell.done():
            return math.inf  # nobody would wake it
        since = self._defect_since or self._due
        return 0.0 if since is None else max(0.0, asyncio.get_running_loop().time() - since)

    def nudge(self) -> None:
        """Look again now."""
        self._wake.set()

    def look_later(self) -> None:
        """Somebody began to hold jobs: look, once it may have died with them, whether it lives."""
        if self._later is None:
            self._later = asyncio.get_running_loop().call_later(_LOST_POLL, self._look_now)
        else:  # whoever begins just before that look is looked at once more
            self._look_once_more = True

    def _look_now(self) -> None:
        self._later = None
        self._wake.set()
        if self._look_once_more:
            self._look_once_more = False
            self.look_later()

    def distrust(self) -> None:
        """Compare what is held with the leases before the next turn, for instance after a freeze."""
        self._doubt = True
        self._wake.set()

    def begin_drain(self) -> None:
        """From now on nothing starts."""
        self._draining = True
        self._certain_by = asyncio.get_running_loop().time() + _DOUBT_SECONDS
        self._wake.set()

    def cancel_running(self) -> None:
        """Cancel what runs; each job goes back to the head of its queue."""
        for running in list(self.worker.running.values()):
            self.worker.cancel(running, "drain")

    @property
    def _finished(self) -> bool:
        if not self._draining or self.in_flight:
            return False
        return not self._doubt or asyncio.get_running_loop().time() >= self._certain_by

    async def look_for_aborts(self) -> None:
        """Cancel what SAQ's ``queue.abort`` was called for.  Raises RedisError."""
        running = list(self.worker.running.values())
        if running:
            wishes = await self.queue.wishes_to_abort([(each.taken.id, each.job) for each in running])
            for each, wish in zip(running, wishes, strict=True):
                if wish is not None:
                    each.job.error = wish
                    self.worker.cancel(each, "abort")

    async def run(self) -> None:
        """Until a drain has ended: every job of this process is settled then."""
        bell = self._bell = asyncio.create_task(self._ring(), name=f"doorbell {self.queue.name}")
        backoff = _BACKOFF[0]
        try:
            while not self._finished:
                self._due = asyncio.get_running_loop().time()
                try:
                    wait = await self._turn()
                except (RedisError, OSError) as error:
                    self._on_reply(error)
                    self._doubt = True
                    if isinstance(error, ResponseError):
                        self.queue.reconciler.request(now=True)
                except Exception:  # whatever a foreign program wrote: the queue must not stand for it
                    log.exception("a turn failed by a defect, and is tried again", queue=self.queue.name)
                    self._doubt = True
                    self._defect_since = self._defect_since or self._due
                else:
                    self._on_reply(None)
                    self.turned.set()
                    self._defect_since = None
                    backoff = _BACKOFF[0]
                    await self._sleep(wait)
                    continue
                await self._pause(backoff * random.uniform(0.8, 1.2))  # noqa: S311 - spreads the load
                backoff = min(backoff * 2, _BACKOFF[0] if self._draining else _BACKOFF[1])
        finally:
            self._bell, self._due = None, None
            if self._later is not None:
                self._later.cancel()
            await cancel_and_wait([bell])

    async def _turn(self) -> float | None:
        """One round trip; returns the seconds that may pass before the next one, None for no limit."""
        self._wake.clear()
        if self._doubt:
            await self._reconcile()
        batch = next(batch_by_size(self._settlements, Settlement.size, self._most), [])
        expected = len(self.worker.running)
        expected += sum(settlement.verb != "mark" for settlement in self._settlements[len(batch) :])
        try:
            if self._draining:
                stood, take = await self.queue.settle(batch), None
            else:
                stood, take = await self.queue.take(self.worker.id, self.worker.free, batch)
        except (RedisError, OSError) as error:
            if batch and is_too_large(error):
                self._refused(batch, error)
                return 0.0
            for settlement in batch:
                settlement.repeated = settlement.repeated or not isinstance(error, ResponseError)
            raise
        self._most = _BATCH
        del self._settlements[: len(batch)]
        self._settled(batch, stood)
        if take is None:
            return 0.0 if self._settlements else None
        if isinstance(take, Exception):
            raise take
        if take.own != expected:  # a take was carried out although its reply was lost, or leases are gone
            self._doubt = True
        return await self._started(take)

    def _refused(self, batch: list[Settlement], error: Exception) -> None:
        """Redis refuses a request for its size: find the settlement that is to blame, and say less of it."""
        self._doubt = True  # a take that went with it was carried out all the same
        if len(batch) > 1:
            self._most = len(batch) // 2
            return
        (refused,) = batch
        ends = refused.verb in ("complete", "retry")
        job = self.queue.deserialize(wire.load(refused.body)) if ends else None
        instead = outcome.smaller(refused, job, str(error), policy=self.queue.policy, worker=self.worker.id)
        log.warning(
            "Redis refuses a job's record for its size",
            queue=self.queue.name,
            job=refused.id,
            verb=refused.verb,
            bytes=refused.size(),
            instead=instead.verb if instead else None,
            error=str(error),
        )
        self._settlements[:1] = [instead] if instead else []

    async def _started(self, take: TakeResult) -> float | None:
        self.state = take.state
        if take.depth or take.jobs or take.own or take.foreign:
            self.queue.reconciler.request()
        for taken in take.jobs:
            if self._draining:
                self._return(taken)
            else:
                self.worker.begin(taken, take.now)
        if take.foreign > 0 and not self._draining:
            await self._look_for_lost()
        if self._settlements or take.state == "again" or (take.depth and take.jobs and self.worker.free):
            return 0.0
        return self._wait(take)

    def _wait(self, take: TakeResult) -> float | None:
        """Seconds that may pass before the next turn where no attempt ends before."""
        waits = [wait for wait in (take.wait,) if wait is not None]
        if self._doubt:
            waits.append(_BLOCKED_POLL)
        if take.foreign > 0:
            waits.append(max(0.01, self._look_at - asyncio.get_running_loop().time()))
        match take.state:
            case "empty" | "taken" if self.worker.free:
                self._empty.set()
            case "full" if take.foreign:
                waits.append(_BLOCKED_POLL)
            case "full":  # a settlement was carried out after the take: the server did not know its script
                waits.append(_AT_ONCE)
            case "standby":
                waits.append(_STANDBY_POLL)
            case "paused":
                waits.append(_PAUSED_POLL)
        return min(waits, default=None)

    async def _sleep(self, seconds: float | None) -> None:
        """Until something ends, arrives or is due."""
        if (seconds is not None and seconds <= 0) or self._settlements or self._finished:
            return
        await self._pause(seconds)
        self._empty.clear()

    async def _pause(self, seconds: float | None) -> None:
        if seconds is None:
            self._due = None
            await self._wake.wait()
            return
        self._due = asyncio.get_running_loop().time() + seconds
        alarm = asyncio.get_running_loop().call_later(seconds, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            alarm.cancel()

    async def _ring(self) -> None:
        """Wake the dispatcher when its empty queue gets a job; waits on a connection of its own.

        Proxies close a connection that waits for long: the first time it is opened again at once.
        """
        backoff = ReconnectBackoff(*_BACKOFF)
        while True:
            await self._empty.wait()
            backoff.begin()
            try:
                rung = await self.queue.wait_for_job(self._doorbell, self._pace.doorbell)
            except (RedisError, OSError) as error:
                log.debug("doorbell broke", queue=self.queue.name, error=repr(error))
                pause = backoff.failed()
                if pause or isinstance(error, ResponseError):
                    self._wake.set()  # the next turn finds out whether Redis is away, or another server
                await asyncio.sleep(pause)
            else:
                backoff.succeeded()
                if rung:
                    self._empty.clear()
                    self._wake.set()

    def _ended(self, settlement: Settlement) -> None:
        self._settlements.append(settlement)
        self._wake.set()

    def _return(self, taken: LeasedJob) -> None:
        self._settlements.append(outcome.put_back(taken))

    def _settled(self, batch: list[Settlement], stood: list[bool]) -> None:
        for settlement, done in zip(batch, stood, strict=True):
            if done or settlement.repeated:
                self.ended[settlement.verb] += 1
                self.put_back += settlement.cut
            if settlement.letter and (done or settlement.repeated):
                self._on_letter()
            elif not done and not settlement.repeated and settlement.verb != "mark":
                log.warning("fenced off: the job was given to another worker", job=settlement.id)

    async def _reconcile(self) -> None:
        """Return leases of ours whose job never reached us; stop attempts whose lease is no longer ours."""
        leases = await self.queue.leases()
        settling = {(settlement.id, settlement.lease) for settlement in self._settlements}
        own = f"{self.worker.id}:".encode()
        for job_id, lease in leases.items():
            running = self.worker.running.get(job_id)
            known = running is not None and running.taken.lease == lease
            if lease.startswith(own) and not known and (job_id, lease) not in settling:
                self._return(LeasedJob(job_id, lease, await self.queue.body(job_id)))
        for job_id, running in list(self.worker.running.items()):
            if leases.get(job_id) != running.taken.lease:
                self.worker.cancel(running, "fenced")
        self._doubt = False

    async def _look_for_lost(self) -> None:
        """Give jobs of dead workers back to the queue, the attempt charged."""
        now = asyncio.get_running_loop().time()
        if now < self._look_at:
            return
        self._look_at = now + _LOST_POLL
        _, lost = await self.queue.lost(DEAD_AFTER, LOOK_GAP)
        blocked: dict[str, str | None] = {}
        for taken in lost:
            worker = taken.lease.decode(errors="replace").split(":", 1)[0]
            if worker not in blocked:
                blocked[worker] = await self.queue.declare_dead(worker, DEAD_AFTER)
            log.warning("worker died with a job", queue=self.queue.name, job=taken.id, worker=worker)
            self._settlements.append(self._crashed(taken, worker, blocked[worker]))

    def _crashed(self, taken: LeasedJob, worker: str, blocked: str | None) -> Settlement:
        why = f"; its event loop was blocked by {blocked}" if blocked else ""
        error = WorkerLostError(f"worker {worker} died during the attempt{why}")
        try:
            job = parse_job(self.queue, taken)
        except InvalidJobError as unreadable:
            key = self.queue.job_key_from_id(taken.id)
            return outcome.unreadable(taken, self.queue.name, key, unreadable, worker=worker)
        return outcome.crashed(taken, job, error, policy=self.queue.policy, worker=worker)
