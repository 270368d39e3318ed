"""SAQ's worker, fed by a dispatcher: it runs jobs that were taken and reports how each ended."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import structlog
from saq import Job, Status, Worker
from saq.utils import now

from workers.engine import outcome, wire
from workers.engine.attempt_log import LogLine, current_attempt, log_text
from workers.engine.payload_limits import check_payload
from workers.engine.queue import JobQueue
from workers.engine.recorded_names import error_type
from workers.engine.settlement import LeasedJob, Settlement
from workers.engine.tracing import trace
from workers.errors import HandlerInterruptedError, InvalidJobError, UnwritableJobError

log = structlog.get_logger(__name__)

SaqFunction = Callable[..., Awaitable[Any]]
"""``async def function(ctx, **kwargs)``, as SAQ calls it."""

_CHECK_SECONDS = 0.1
"""Between two checks of the running jobs, and so how late a timeout may come."""

_RECORD_AFTER_SECONDS = 0.1
"""After this a running job's record is ``active``; shorter jobs are not worth a write."""

_CANCEL_GRACE_SECONDS = 1.0
"""How long a cancelled coroutine may take to end before it is abandoned."""

_NUMBERS = frozenset({"queued", "started", "completed", "touched", "scheduled", "progress"})
_MAX_NUMBER = 1e15
"""Beyond any time in milliseconds."""
_MAX_ATTEMPTS = 1_000_000
"""More attempts than any job can have had."""

_MAX_LOGGED_CHARS = 1_000
"""Characters of an error in the log; the attempt's record has more of it."""

_MAX_ID_CHARS = 200
"""Characters of a foreign id in an error."""


_forks = 0
"""How often this process, and those from which it was forked, were."""


def _count_fork() -> None:
    global _forks
    _forks += 1


os.register_at_fork(after_in_child=_count_fork)


class JobTimeoutError(Exception):
    """An attempt ran past its queue's timeout; recorded on the attempt."""


@dataclass(slots=True, eq=False)
class RunningJob:
    """One job in flight in this process."""

    leased: LeasedJob
    job: Job
    started: float
    """By the monotonic clock."""
    waited: float | None
    """Seconds until its first attempt; None for a retry."""
    attempt: int
    """Number of the attempt, from 1 on."""
    task: asyncio.Task[None] | None = None
    """None once it has ended."""
    record_written: bool = False
    """Whether its record has it as running."""
    cancel_reason: str | None = None
    """Why it was cancelled: timeout, drain, abort or fenced."""
    abandon_at: float | None = None
    """When it is settled, by the monotonic clock, though its cancelled coroutine has not ended."""
    ended: bool = False
    error_logged: bool = False
    """Whether an error in its handling was logged."""
    lines: deque[LogLine] | None = None
    """The newest lines that it has logged."""

    def log_fields(self) -> dict[str, Any]:
        """Return queue, job, attempt and worker, whatever the handler has done to its job."""
        _, _, queue, key = self.leased.id.split(":", 3)
        worker = self.leased.lease.partition(b":")[0].decode(errors="replace")
        return {"queue": queue, "job": key, "attempt": self.attempt, "worker": worker}


class JobRunner(Worker[Any]):
    """Runs the jobs of one queue.  ``on_finished`` is called with each settlement as soon as it is known."""

    def __init__(
        self,
        queue: JobQueue,
        function: SaqFunction,
        *,
        worker_id: str,
        on_finished: Callable[[Settlement], None],
    ) -> None:
        super().__init__(
            queue, [(queue.policy.function, function)], id=worker_id, concurrency=queue.policy.concurrency
        )
        self.policy = queue.policy
        self.appliance_queue = queue
        self.running: dict[str, RunningJob] = {}
        """By SAQ job id."""
        self._on_finished = on_finished
        self._forks = _forks
        self._timer: asyncio.TimerHandle | None = None

    @property
    def free(self) -> int:
        """Jobs that could be started now."""
        return self.concurrency - len(self.running)

    def start_job(self, leased: LeasedJob, server_time: float) -> None:
        """Start an attempt at the job; something that is not a job becomes a dead letter at once."""
        queue = self.appliance_queue
        try:
            job = parse_job(queue, leased)
        except InvalidJobError as error:
            key = queue.job_key_from_id(leased.id)
            self._on_finished(
                outcome.unreadable(leased, queue.name, key, error, worker=self.id, release=queue.release)
            )
            return
        wait_seconds = _wait_seconds(job, server_time)
        job.started = now()
        job.attempts += 1
        job.status = Status.ACTIVE
        job.worker_id = self.id
        running = RunningJob(leased, job, time.monotonic(), wait_seconds, job.attempts)
        if leased.id in self.running:  # another worker got it, and returned it, before this process noticed
            self.cancel(self.running[leased.id], "fenced")
        self.running[leased.id] = running
        queue.attach_lease(job, leased.lease)
        running.task = asyncio.create_task(self._attempt(running), name=job.key)
        if self._timer is None:
            self._timer = running.task.get_loop().call_later(_CHECK_SECONDS, self._check_running_jobs)

    def cancel(self, running: RunningJob, reason: str) -> None:
        """End an attempt by ``timeout``, ``drain`` (its job is returned), ``abort`` or ``fenced``."""
        if running.ended or running.cancel_reason is not None or running.task is None:
            return
        running.cancel_reason = reason
        running.abandon_at = time.monotonic() + _CANCEL_GRACE_SECONDS
        running.task.cancel()

    # Watching what runs

    def _check_running_jobs(self) -> None:
        """Check all jobs by one timer: two for each job would cost more than many a job does."""
        now = time.monotonic()
        for running in list(self.running.values()):
            try:
                self._check_job(running, now)
            except Exception as error:  # one job must not keep the others from their timeouts
                self._log_once(running, "a running job cannot be checked", error)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(_CHECK_SECONDS, self._check_running_jobs) if self.running else None

    def _check_job(self, running: RunningJob, now: float) -> None:
        if not running.record_written and now - running.started >= _RECORD_AFTER_SECONDS:
            self._write_record(running)
        if running.abandon_at is not None:
            if now >= running.abandon_at:
                self._abandon(running)
        elif now - running.started >= self.policy.timeout:
            self.cancel(running, "timeout")

    def _write_record(self, running: RunningJob) -> None:
        running.record_written = True
        try:
            self._on_finished(outcome.progress_update(running.leased, running.job))
        except Exception as error:  # reported again when the attempt ends
            log.debug("a running job cannot be written", job=running.leased.id, error=type(error).__name__)

    def _abandon(self, running: RunningJob) -> None:
        """Settle a job whose coroutine ignores its cancellation."""
        if not running.ended:
            log.error("handler ignores its cancellation", queue=self.policy.name, job=running.leased.id)
            self._end(running, self._settle_cancelled(running, asyncio.CancelledError()))

    def _log_once(self, running: RunningJob, event: str, error: Exception) -> None:
        """Log once for each attempt, without the traceback: formatting that might raise, too."""
        if not running.error_logged:
            running.error_logged = True
            log.error(event, queue=self.policy.name, job=running.leased.id, error=_safe_repr(error))

    # One attempt

    async def _attempt(self, running: RunningJob) -> None:
        job = running.job
        current_attempt.set(running)
        context: dict[str, Any] = {**self.context, "job": job, "queue": self.appliance_queue}
        try:
            function = trace(self._function(job), self.policy.name, job)
            result = await function(context, **_arguments(job))
            settlement = outcome.settle_success(running.leased, job, result)
        except asyncio.CancelledError as error:
            settlement = self._settle_cancelled(running, error)
        except BaseException as error:  # KeyboardInterrupt too: ctrl-C is a signal, and raises none
            if isinstance(error, GeneratorExit) and not _runs(running.task):
                raise
            settlement = self._settle_failure(running, error)
        if self._forks != _forks:  # a child that the handler forked: the job is its parent's
            os._exit(1)
        self._end(running, settlement)
        running.task = None  # else task, context and job keep each other until the collector finds them

    def _function(self, job: Job) -> SaqFunction:
        function: SaqFunction | None = self.functions.get(job.function)
        if function is None:
            names = ", ".join(self.functions)
            raise InvalidJobError(f"function: unknown function {job.function!r}; this queue runs {names}")
        return function

    def _settle_cancelled(self, running: RunningJob, error: asyncio.CancelledError) -> Settlement:
        if running.cancel_reason == "timeout":
            late = JobTimeoutError(
                f"ran longer than the {self.policy.timeout:g} s that {self.policy.name} allows"
            )
            return self._settle_failure(running, late.with_traceback(error.__traceback__))
        return self._settle_failure(running, error)

    def _settle_failure(self, running: RunningJob, error: BaseException) -> Settlement:
        if running.cancel_reason == "drain" or isinstance(error, HandlerInterruptedError):
            return outcome.give_back(running.leased, interrupted=True)
        try:
            return self._failure_settlement(running, running.job, error)
        except Exception as unwritable:  # it has to end: settle it as it was taken
            cause = UnwritableJobError(
                f"{type(error).__name__}, and the job cannot be written: {_safe_repr(unwritable)}"
            )
        try:
            job = parse_job(self.appliance_queue, running.leased)
            job.attempts += 1
            return self._failure_settlement(running, job, cause)
        except Exception as second_error:
            self._log_once(running, "a job's end cannot be written: its bytes are kept", second_error)
            queue = self.appliance_queue
            key = queue.job_key_from_id(running.leased.id)
            return outcome.unreadable(
                running.leased, queue.name, key, cause, worker=self.id, release=queue.release
            )

    def _failure_settlement(self, running: RunningJob, job: Job, error: BaseException) -> Settlement:
        if running.cancel_reason == "abort":
            return outcome.settle_abort(running.leased, job)
        lines = log_text(running.lines)
        log.warning(
            "attempt failed",
            queue=self.policy.name,
            job=job.key,
            attempt=job.attempts,
            error=f"{error_type(error)}: {error}"[:_MAX_LOGGED_CHARS],
        )
        release = self.appliance_queue.release
        return outcome.settle_failure(
            running.leased, job, error, policy=self.policy, worker=self.id, release=release, log=lines
        )

    def _end(self, running: RunningJob, settlement: Settlement) -> None:
        if running.ended:
            return
        running.ended = True
        if self.running.get(running.leased.id) is running:
            del self.running[running.leased.id]
        if running.cancel_reason == "fenced":
            return
        if settlement.verb != "return":
            settlement.wait_seconds = running.waited
            settlement.run_seconds = time.monotonic() - running.started
        self._on_finished(settlement)


def _runs(task: asyncio.Task[None] | None) -> bool:
    """Return whether this is called in ``task``; not so if the interpreter closes its coroutine."""
    try:
        return asyncio.current_task() is task
    except RuntimeError:  # no loop runs any more
        return False


def parse_job(queue: JobQueue, leased: LeasedJob) -> Job:
    """Return the job that was taken.  Raises InvalidJobError if it is not a job."""
    try:
        return _parse_job(queue, leased)
    except InvalidJobError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InvalidJobError(f"not a job: {error!r}") from None


def _parse_job(queue: JobQueue, leased: LeasedJob) -> Job:
    body = leased.body
    if not leased.id.startswith(queue.id_prefix):
        raise InvalidJobError(f"not a job: the id {leased.id[:_MAX_ID_CHARS]!r} is none of {queue.name}")
    if not body:
        raise InvalidJobError("the job's data is gone from Redis")
    leased.id.encode()  # raises if the id is not text: then it is not ours
    value = wire.load(body)
    check_payload(body, value)
    for name in _NUMBERS.intersection(value):
        number = value[name]
        if type(number) not in (int, float) or not abs(number) < _MAX_NUMBER:
            raise InvalidJobError(f"not a job: {name} is no number that can be one")
    attempts = value.get("attempts", 0)
    if type(attempts) is not int or not 0 <= attempts <= _MAX_ATTEMPTS:
        raise InvalidJobError("not a job: attempts is no number of attempts")
    job = wire.make_job(value, queue)
    if not isinstance(job.function, str) or not isinstance(job.key, str):
        raise InvalidJobError("not a job: no function, or no key")
    if job.key != leased.id[len(queue.id_prefix) :]:
        raise InvalidJobError("not a job: its key is another one than that of its id")
    return job


def _safe_repr(error: BaseException) -> str:
    """Return the error's repr, or its class if a foreign ``__repr__`` raises."""
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
    """Return how long a job waited for its first attempt; None for a retry, whose wait is its delay."""
    if job.attempts or not job.queued:
        return None
    return max(0.0, server_time - max(job.queued / 1000, job.scheduled))
