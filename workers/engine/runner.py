"""SAQ's worker, fed by a dispatcher: it runs jobs that were taken and reports how each ended."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import structlog
from saq import Job, Status, Worker
from saq.utils import now

from workers.engine import histogram, outcome, wire
from workers.engine.payload_limits import check_payload
from workers.engine.queue import JobQueue, LeasedJob, Settlement
from workers.errors import InvalidJobError, UnwritableJobError

log = structlog.get_logger(__name__)

SaqFunction = Callable[..., Awaitable[Any]]
"""``async def function(ctx, **kwargs)``, as SAQ calls it."""

_TICK = 0.1
"""Seconds between looks at what runs, and so how late a timeout may come."""

_MARK_AFTER = 0.1
"""Seconds after which a running job's record says ``active``; shorter ones are not worth a write."""

_NUMBERS = frozenset({"queued", "started", "completed", "touched", "scheduled", "progress"})
_LARGEST = 1e15
"""Beyond any time in milliseconds."""
_MOST_ATTEMPTS = 1_000_000
"""That a job can have had."""

_LOGGED = 1_000
"""Characters of an error in the log; the attempt's record has more of it."""

_ID_CHARS = 200
"""Characters of a foreign id in an error."""

_CANCEL_GRACE = 1.0
"""Seconds that a cancelled coroutine has to end before it is given up."""


class JobTimeoutError(Exception):
    """An attempt ran past its queue's timeout; recorded on the attempt."""


@dataclass(slots=True, eq=False)
class RunningJob:
    """One job in flight in this process."""

    taken: LeasedJob
    job: Job
    started: float
    wait: int | None
    task: asyncio.Task[None] | None = None
    marked: bool = False
    """Its record says that it runs."""
    cause: str | None = None
    """Why it was cancelled: timeout, drain, abort or fenced."""
    give_up_at: float | None = None
    """Loop time at which it loses its job, cancelled as it is."""
    ended: bool = False
    told: bool = False
    """Something was wrong with it, and was logged."""


class JobRunner(Worker[Any]):
    """Runs the jobs of one queue.  ``report`` is called with how each leaves it, as soon as that is known."""

    def __init__(
        self,
        queue: JobQueue,
        function: SaqFunction,
        *,
        worker_id: str,
        report: Callable[[Settlement], None],
    ) -> None:
        super().__init__(
            queue, [(queue.policy.function, function)], id=worker_id, concurrency=queue.policy.concurrency
        )
        self.policy = queue.policy
        self.appliance_queue = queue
        self.running: dict[str, RunningJob] = {}
        """By SAQ job id."""
        self._report = report
        self._pid = os.getpid()
        self._clock: asyncio.TimerHandle | None = None

    @property
    def free(self) -> int:
        """Jobs that could be started now."""
        return self.concurrency - len(self.running)

    def begin(self, taken: LeasedJob, server_time: float) -> None:
        """Start an attempt at the job; what is no job is reported as a dead letter at once."""
        queue = self.appliance_queue
        try:
            job = parse_job(queue, taken)
        except InvalidJobError as error:
            key = queue.job_key_from_id(taken.id)
            self._report(outcome.unreadable(taken, queue.name, key, error, worker=self.id))
            return
        wait = _wait_seconds(job, server_time)
        job.started = now()
        job.attempts += 1
        job.status = Status.ACTIVE
        job.worker_id = self.id
        loop = asyncio.get_running_loop()
        running = RunningJob(taken, job, loop.time(), None if wait is None else histogram.bucket(wait))
        if taken.id in self.running:  # it was given to another, and back, before this process noticed
            self.cancel(self.running[taken.id], "fenced")
        self.running[taken.id] = running
        if self._clock is None:
            self._clock = loop.call_later(_TICK, self._tick)
        queue.hold(job, taken.lease)
        running.task = loop.create_task(self._attempt(running), name=job.key)

    def _tick(self) -> None:
        """One timer for all that runs: two for each job would cost more than many a job does."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for running in list(self.running.values()):
            try:
                self._look_at(running, now)
            except Exception as error:  # one job must not keep the others from their timeouts
                self._tell(running, "a running job cannot be looked after", error)
        self._clock = loop.call_later(_TICK, self._tick) if self.running else None

    def _tell(self, running: RunningJob, event: str, error: Exception) -> None:
        """Once for each attempt, and without the error's trace: whoever shows that might raise too."""
        if not running.told:
            running.told = True
            log.error(event, queue=self.policy.name, job=running.taken.id, error=_shown(error))

    def _look_at(self, running: RunningJob, now: float) -> None:
        if not running.marked and now - running.started >= _MARK_AFTER:
            self._mark(running)
        if running.give_up_at is not None:
            if now >= running.give_up_at:
                self._give_up(running)
        elif now - running.started >= self.policy.timeout:
            self.cancel(running, "timeout")

    def _mark(self, running: RunningJob) -> None:
        running.marked = True
        try:
            self._report(outcome.running(running.taken, running.job))
        except Exception as error:  # said again when the attempt ends
            log.debug("a running job cannot be written", job=running.taken.id, error=type(error).__name__)

    def cancel(self, running: RunningJob, cause: str) -> None:
        """End an attempt by ``timeout``, ``drain`` (its job is put back), ``abort`` or ``fenced``."""
        if running.ended or running.cause is not None or running.task is None:
            return
        running.cause = cause
        running.give_up_at = asyncio.get_running_loop().time() + _CANCEL_GRACE
        running.task.cancel()

    async def _attempt(self, running: RunningJob) -> None:
        job = running.job
        context: dict[str, Any] = {**self.context, "job": job, "queue": self.appliance_queue}
        try:
            result = await self._function(job)(context, **_arguments(job))
            settlement = outcome.succeeded(running.taken, job, result)
        except asyncio.CancelledError as error:
            settlement = self._cancelled(running, error)
        except BaseException as error:  # KeyboardInterrupt too: ctrl-C is a signal, and raises none
            if isinstance(error, GeneratorExit) and not _runs(running.task):
                raise
            settlement = self._failed(running, error)
        if os.getpid() != self._pid:  # a child that the handler forked: the job is its parent's
            os._exit(1)
        self._end(running, settlement)

    def _function(self, job: Job) -> SaqFunction:
        function: SaqFunction | None = self.functions.get(job.function)
        if function is None:
            known = ", ".join(self.functions)
            raise InvalidJobError(f"function: unknown function {job.function!r}; this queue runs {known}")
        return function

    def _failed(self, running: RunningJob, error: BaseException) -> Settlement:
        if running.cause == "drain":
            return outcome.put_back(running.taken, cut=True)
        try:
            return self._failure(running, running.job, error)
        except Exception as unwritable:  # then the job counts as it was taken, since it has to end
            cause = UnwritableJobError(
                f"{type(error).__name__}, and the job cannot be written: {_shown(unwritable)}"
            )
        try:
            job = parse_job(self.appliance_queue, running.taken)
            job.attempts += 1
            return self._failure(running, job, cause)
        except Exception as again:
            self._tell(running, "a job's end cannot be written: its bytes are kept", again)
            queue = self.appliance_queue
            key = queue.job_key_from_id(running.taken.id)
            return outcome.unreadable(running.taken, queue.name, key, cause, worker=self.id)

    def _failure(self, running: RunningJob, job: Job, error: BaseException) -> Settlement:
        if running.cause == "abort":
            return outcome.aborted(running.taken, job)
        log.warning(
            "attempt failed",
            queue=self.policy.name,
            job=job.key,
            attempt=job.attempts,
            error=f"{type(error).__name__}: {error}"[:_LOGGED],
        )
        return outcome.failed(running.taken, job, error, policy=self.policy, worker=self.id)

    def _cancelled(self, running: RunningJob, error: asyncio.CancelledError) -> Settlement:
        if running.cause == "timeout":
            late = JobTimeoutError(
                f"ran longer than the {self.policy.timeout:g} s that {self.policy.name} allows"
            )
            return self._failed(running, late.with_traceback(error.__traceback__))
        return self._failed(running, error)

    def _give_up(self, running: RunningJob) -> None:
        """A coroutine that ignores its cancellation does not keep its job."""
        if not running.ended:
            log.error("handler ignores its cancellation", queue=self.policy.name, job=running.taken.id)
            self._end(running, self._cancelled(running, asyncio.CancelledError()))

    def _end(self, running: RunningJob, settlement: Settlement) -> None:
        if running.ended:
            return
        running.ended = True
        if self.running.get(running.taken.id) is running:
            del self.running[running.taken.id]
        if running.cause == "fenced":
            return
        if settlement.verb != "return":
            settlement.wait = running.wait
            settlement.run = histogram.bucket(asyncio.get_running_loop().time() - running.started)
        self._report(settlement)


def _runs(task: asyncio.Task[None] | None) -> bool:
    """Whether this is called in ``task``; not where the interpreter closes its coroutine."""
    try:
        return asyncio.current_task() is task
    except RuntimeError:  # no loop runs any more
        return False


def parse_job(queue: JobQueue, taken: LeasedJob) -> Job:
    """The job that was taken.  Raises InvalidJobError where it is none, whoever wrote it."""
    try:
        return _read(queue, taken)
    except InvalidJobError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InvalidJobError(f"not a job: {error!r}") from None


def _read(queue: JobQueue, taken: LeasedJob) -> Job:
    body = taken.body
    if not taken.id.startswith(queue.id_prefix):
        raise InvalidJobError(f"not a job: the id {taken.id[:_ID_CHARS]!r} is none of {queue.name}")
    if not body:
        raise InvalidJobError("the job's data is gone from Redis")
    taken.id.encode()  # an id that is no text is none of ours
    value = wire.load(body)
    check_payload(body, value)
    for name in _NUMBERS.intersection(value):
        number = value[name]
        if type(number) not in (int, float) or not abs(number) < _LARGEST:
            raise InvalidJobError(f"not a job: {name} is no number that can be one")
    attempts = value.get("attempts", 0)
    if type(attempts) is not int or not 0 <= attempts <= _MOST_ATTEMPTS:
        raise InvalidJobError("not a job: attempts is no number of attempts")
    job = queue.deserialize(value)
    if job is None or not isinstance(job.function, str) or not isinstance(job.key, str):
        raise InvalidJobError("not a job: no function, or no key")
    if job.key != taken.id[len(queue.id_prefix) :]:
        raise InvalidJobError("not a job: its key is another one than that of its id")
    return job


def _shown(error: BaseException) -> str:
    """What raised once may raise again where it is to be shown."""
    try:
        return repr(error)
    except Exception:
        return type(error).__name__


def _arguments(job: Job) -> dict[str, Any]:
    if job.kwargs is None:
        return {}
    if not isinstance(job.kwargs, dict):
        raise InvalidJobError(f"kwargs: an object is needed, not {type(job.kwargs).__name__}")
    return job.kwargs


def _wait_seconds(job: Job, server_time: float) -> float | None:
    """How long a job waited for its first attempt; a retry's waiting is its delay, and says nothing."""
    if job.attempts or not job.queued:
        return None
    return max(0.0, server_time - max(job.queued / 1000, job.scheduled))
