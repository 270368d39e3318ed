"""One dispatcher a queue and process: all moves of its jobs in Redis are made here.

Each turn is one round trip: settle jobs that ended, take as many as fit.  A turn moves a part of the queue's
slots at most.  So the next one is under way while this process runs the jobs of the one before.

With no turn under way it waits for the first of these: an attempt ends, a job is ready, another process wakes
it, or something is due.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence

import structlog
from redis.exceptions import RedisError, ResponseError

from storage.asyncio_tools import cancel_and_wait
from storage.backoff import Backoff
from storage.redis.batches import batch_by_size
from storage.redis.client import is_too_large
from storage.redis.pipeline import PipelineConnection
from storage.redis.scripts import run_unknown_scripts
from workers.engine import outcome
from workers.engine.oversize import shrink_refused
from workers.engine.policy import PollIntervals, Timings
from workers.engine.queue import JobQueue
from workers.engine.ready_watch import ReadyWatch
from workers.engine.recovery import Recovery
from workers.engine.runner import JobRunner, SaqFunction
from workers.engine.settlement import LeasedJob, Settlement, TakeResult
from workers.engine.turn import Turn, count_unsettled, max_slots

log = structlog.get_logger(__name__)

_PAUSED_POLL_SECONDS = 30.0
"""Until the next turn of a queue that is paused, if nothing wakes the dispatcher before."""
_FULL_OF_OWN_SECONDS = 0.01
"""The same if this process' own jobs fill the queue: one of them was settled in a call after the take."""
_CHECK_LEASES_SECONDS = 0.5
"""How long a drain with nothing in flight waits for Redis to confirm that nothing is leased."""
_RETRY_JITTER = 0.2
"""Share by which the delays of retries differ, so that not all processes come at once."""
_MAX_BATCH = 200
"""Settlements in one round trip."""
_MAX_TURNS = 8
"""Turns under way at once: as many as keep a queue busy whose Redis answers within milliseconds."""
_SMALL_TURN_SECONDS = 0.0003
"""After a turn began, until one that is not full may follow: each has a fixed cost."""
_NOTE_SECONDS = 0.25
"""Between two turns that are noted in Redis, as a sign of progress and of life."""


class Dispatcher:
    """Moves the jobs of one queue between Redis and the runner of this process.

    ``pipeline`` carries the turns, and ``wakeup_connection`` waits for ready jobs.  ``on_result`` is called
    with None after each successful turn and with the error after each failed one.  ``on_letter`` is called
    when a letter, or the end of a replay, waits for the database.
    """

    state = "starting"
    """State at the last take; ``standby`` while other processes fill the queue's five slots."""
    returned = 0
    """Jobs that this process returned unfinished while it drained."""
    holds_jobs = False
    """Whether the queue held ready jobs, or jobs in flight, at the last take."""
    _noted_at = -math.inf
    """Monotonic time of the newest turn that was noted in Redis."""
    _is_requested = True
    """A turn is to begin even if there is nothing to settle."""
    _draining = False
    _leases_uncertain = False
    """A reply was lost, so the jobs this process holds may no longer match its leases in Redis."""
    _uncertain_until = 0.0
    """Monotonic time until which a drain waits for Redis to confirm that nothing is leased here."""
    _next_turn_at: float | None = None
    """Monotonic time of the next turn if nothing wakes it before; None: only when it is woken."""
    _due: float | None = None
    """Monotonic time at which the turn under way began or the next is due; None while nothing is due."""
    _defect_since: float | None = None
    """Monotonic time since which every turn has failed by a defect of ours."""
    _wakeup_task: asyncio.Task[None] | None = None

    def __init__(
        self,
        queue: JobQueue,
        function: SaqFunction,
        *,
        worker_id: str,
        pipeline: PipelineConnection,
        wakeup_connection: PipelineConnection,
        pace: PollIntervals,
        timings: Timings,
        on_result: Callable[[Exception | None], None],
        on_letter: Callable[[], None],
    ) -> None:
        self.queue = queue
        self.runner = JobRunner(queue, function, worker_id=worker_id, on_finished=self._on_finished)
        self.recovery = Recovery(queue, timings, self.wake)
        self.settled: Counter[str] = Counter()
        """Settlements that stood, by verb."""
        self._pipeline = pipeline
        self._ready_watch = ReadyWatch(
            queue,
            wakeup_connection,
            wait_seconds=pace.ready_wait,
            retry_seconds=timings.retry_seconds,
            on_ready=self.wake,
        )
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
        """Settlements of jobs that ended, and are in no turn yet."""
        self._turns: deque[Turn] = deque()
        """Turns under way; Redis executes them in this order."""
        self._max_slots = max_slots(queue.policy.concurrency)
        """Most jobs that one turn moves."""
        self._batch_limit = min(_MAX_BATCH, self._max_slots)
        self._woken = asyncio.Event()
        self.turned = asyncio.Event()
        """Set once it has completed a turn."""

    @property
    def in_flight(self) -> int:
        """Jobs of this process that run, or have ended and are not settled yet."""
        under_way = sum(count_unsettled(turn.batch) for turn in self._turns)
        return len(self.runner.running) + count_unsettled(self._settlements) + under_way

    def overdue_seconds(self) -> float:
        """Return how long a turn has been under way, or due and not begun; 0 while there is progress."""
        if self._wakeup_task is not None and self._wakeup_task.done():
            return math.inf  # nothing would wake it
        since = self._defect_since or self._due
        return 0.0 if since is None else max(0.0, time.monotonic() - since)

    def wake(self) -> None:
        """Make a turn now."""
        self._is_requested = True
        self._woken.set()

    def request_lease_check(self) -> None:
        """Compare the running jobs with the leases before the next turn, for instance after a freeze."""
        self._leases_uncertain = True
        self._woken.set()

    def begin_drain(self) -> None:
        """Start no more jobs."""
        self._draining = True
        self._uncertain_until = time.monotonic() + _CHECK_LEASES_SECONDS
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
            self._ready_watch.run(), name=f"wakeup {self.queue.name}"
        )
        delays = Backoff(*self._retry_seconds, jitter=_RETRY_JITTER)
        try:
            while not self._is_finished:
                self._due = time.monotonic()
                try:
                    if await self._advance():
                        delays.reset()
                    await self._sleep()
                    continue
                except (RedisError, OSError) as error:
                    self._on_result(error)
                    self._resend_turns([turn for turn in self._turns if turn.broke])
                    if isinstance(error, ResponseError):
                        self.queue.reconciler.request(now=True)
                except Exception:  # whatever another program wrote must not stop the queue
                    log.exception("a turn failed by a defect, and is tried again", queue=self.queue.name)
                    self._defect_since = self._defect_since or self._due
                self._leases_uncertain = self._is_requested = True
                await self._pause(delays.next())
                if self._draining:  # its time is limited
                    delays.reset()
        finally:
            self._wakeup_task, self._due = None, None
            if self._turns:  # the run was cancelled
                self._resend_turns(list(self._turns))
                self._leases_uncertain = True
            self.recovery.stop()
            await cancel_and_wait([wakeup])

    @property
    def _is_finished(self) -> bool:
        if not self._draining or self._turns or self.in_flight:
            return False
        return not self._leases_uncertain or time.monotonic() >= self._uncertain_until

    # Turns

    async def _advance(self) -> bool:
        """End the turns whose replies are there, and begin those that are due; whether one ended."""
        self._woken.clear()
        has_ended = False
        while self._turns and self._turns[0].replies.done():
            await self._end_turn(self._turns.popleft())
            has_ended = True
        if self._leases_uncertain:
            if self._turns:  # what they take is not known yet
                return has_ended
            await self._check_leases()
        if self._is_turn_due():
            await self._pipeline.connect()
            while self._is_turn_due():
                self._begin_turn()
        return has_ended

    def _is_turn_due(self) -> bool:
        takes = self._is_requested and not self._draining
        if not self._turns:
            return takes or bool(self._settlements)
        if len(self._turns) == _MAX_TURNS:
            return False
        moved = len(self._settlements) + (self._free_slots() if takes else 0)
        if moved >= self._max_slots:
            return True
        waited_seconds = time.monotonic() - self._turns[-1].began
        return bool(self._settlements) and waited_seconds >= _SMALL_TURN_SECONDS

    def _free_slots(self) -> int:
        """Return the slots in which no job runs, and that no turn under way fills."""
        return self.runner.free - sum(turn.slots for turn in self._turns)

    def _begin_turn(self) -> None:
        batch = next(batch_by_size(self._settlements, Settlement.size, self._batch_limit), [])
        free = self._free_slots() - count_unsettled(self._settlements[len(batch) :])
        slots = 0 if self._draining else max(0, min(free, self._max_slots))
        takes = slots > 0 or not (self._draining or self._turns)
        began = time.monotonic()
        noted = began - self._noted_at >= _NOTE_SECONDS
        calls = self.queue.turn_calls(self.runner.id, slots if takes else None, batch, noted=noted)
        replies = self._pipeline.send([call.command() for call in calls], on_done=self._woken.set)
        del self._settlements[: len(batch)]
        self._turns.append(Turn(batch, slots, began, calls, replies))
        if takes:
            self._noted_at = began if noted else self._noted_at
            self._is_requested = False
            self._ready_watch.end()

    async def _end_turn(self, turn: Turn) -> None:
        try:
            replies = await run_unknown_scripts(self._pipeline, turn.calls, turn.replies.result())
            stood, take = await self.queue.turn_result(turn.batch, replies)
        except BaseException as error:
            self._settlements[:0] = turn.remaining_settlements(resent=not isinstance(error, ResponseError))
            if turn.batch and isinstance(error, Exception) and is_too_large(error):
                self._shrink_too_large(turn.batch, error)
                return
            raise
        self._batch_limit = min(_MAX_BATCH, self._max_slots)
        self._handle_settled(turn.batch, stood)
        if isinstance(take, Exception):
            raise take
        if take is not None:
            if take.own_leases != self.in_flight:  # a take whose reply was lost took jobs, or leases are gone
                self._leases_uncertain = True
            await self._handle_take(take)
        self._on_result(None)
        self.turned.set()
        self._defect_since = None

    def _resend_turns(self, turns: Sequence[Turn]) -> None:
        """Have later turns settle what these failed ``turns`` were to settle."""
        for turn in reversed(turns):
            self._turns.remove(turn)
            self._settlements[:0] = turn.remaining_settlements(resent=True)

    def _shrink_too_large(self, batch: list[Settlement], error: Exception) -> None:
        """Find the settlement that is too large for Redis, which refused the request, and shrink it."""
        # The take in the same request took jobs all the same.
        self._leases_uncertain = self._is_requested = True
        if len(batch) > 1:  # the next round trip has the first half
            self._batch_limit = len(batch) // 2
            return
        smaller = shrink_refused(self.queue, batch[0], error, worker=self.runner.id)
        self._settlements[:1] = [smaller] if smaller else []

    def _handle_settled(self, batch: list[Settlement], stood: list[bool]) -> None:
        for settlement, stands in zip(batch, stood, strict=True):
            if stands or settlement.resent:
                self.settled[settlement.verb] += 1
                self.returned += settlement.interrupted and self._draining
                if settlement.letter or settlement.replay_outcome:
                    self._on_letter()
            elif settlement.verb != "update":
                log.warning("fenced off: the job was given to another worker", job=settlement.id)

    async def _handle_take(self, take: TakeResult) -> None:
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
        if take.state == "again" or (take.depth and take.jobs and self._free_slots() > 0):
            self._is_requested = True
        seconds = self._seconds_until_next(take)
        self._next_turn_at = None if seconds is None else time.monotonic() + seconds

    def _seconds_until_next(self, take: TakeResult) -> float | None:
        """Return the seconds until the next turn if no attempt ends before; None: when it is woken."""
        waits = [wait for wait in (take.wait,) if wait is not None]
        if self._leases_uncertain:
            waits.append(self._poll_seconds["full"])
        if take.others_leases > 0:
            waits.append(self.recovery.seconds_until_check)
        if take.state in ("empty", "taken") and not take.depth:
            self._ready_watch.begin()
        elif take.state == "full" and not take.others_leases:
            waits.append(_FULL_OF_OWN_SECONDS)
        elif take.state in self._poll_seconds:
            waits.append(self._poll_seconds[take.state])
        return min(waits, default=None)

    def _on_finished(self, settlement: Settlement) -> None:
        if settlement.run_seconds is not None:
            self._max_slots = max_slots(self.queue.policy.concurrency, settlement.run_seconds)
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
        self._noted_at = -math.inf  # what a lost turn noted may be lost, too

    # Between turns

    async def _sleep(self) -> None:
        """Wait until a reply arrives, a job ends or arrives, or something is due."""
        if self._turns:
            self._due = self._turns[0].began
            await self._woken.wait()
        elif not (self._is_turn_due() or self._is_finished):
            at = None if self._draining else self._next_turn_at
            await self._pause(None if at is None else max(0.0, at - time.monotonic()))

    async def _pause(self, seconds: float | None) -> None:
        if seconds is None:
            self._due = None
            await self._woken.wait()
            return
        self._due = time.monotonic() + seconds
        alarm = asyncio.get_running_loop().call_later(seconds, self.wake)
        try:
            await self._woken.wait()
        finally:
            alarm.cancel()
