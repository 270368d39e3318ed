"""Jobs as lists and pages show them, from what Redis holds.  Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from storage.database.events import SHORT_ID_CHARS
from workers.engine.job_reader import FoundJob, JobState
from workers.engine.job_record import JobRecord, read_record
from workers.engine.policy import QueuePolicy
from workers.engine.settlement import parse_lease
from workers.monitoring.roster import age, number
from workers.monitoring.snapshot import Alert, QueueSnapshot, Snapshot, WorkerSnapshot
from workers.operations.start_facts import JobFacts, StartFacts
from workers.operations.why import Why

_MAX_ERROR_CHARS = 300
_DIGEST_CHARS = 12
"""Characters of a version: enough to distinguish two records of one job."""
_ENDED = ("complete", "failed", "aborted")
"""SAQ's states of a job that has ended; stock SAQ may keep such a record without a TTL."""


@dataclass(frozen=True, slots=True)
class JobSummary:
    """A job in a list.  Durations are in seconds; None: not known, or without a meaning in its state.

    ``version`` changes whenever the job moves: a verb that gets it changes no job that has moved since.
    ``attempt`` is the number of the attempt that runs, else how many it has had.  ``problem`` is why it is
    not a job.
    """

    queue: str
    key: str
    state: JobState
    version: str
    function: str | None = None
    status: str | None = None
    """SAQ's."""
    attempt: int = 0
    max_attempts: int = 1
    queued_at: datetime | None = None
    """By its producer's clock."""
    started_at: datetime | None = None
    """When its newest attempt began, if it runs or has ended."""
    ended_at: datetime | None = None
    due_at: datetime | None = None
    due_in: float | None = None
    position: int | None = None
    """Ready jobs before it; None if they are too many to be counted."""
    running_for: float | None = None
    usual_run: float | None = None
    """The median of the queue's run times of the last hour."""
    deadline_in: float | None = None
    """Until the queue's timeout ends it."""
    worker: str | None = None
    """Id of the process that holds it."""
    worker_name: str | None = None
    """Host and pid of that process; the beginning of its id if they are not known."""
    progress: float | None = None
    """0 to 1, if its handler reports it."""
    aborting: bool = False
    error: str | None = None
    """The last line of its newest error."""
    problem: str | None = None


JobT = TypeVar("JobT", bound=JobSummary)


@dataclass(frozen=True, slots=True)
class JobAttempt:
    """A failed attempt."""

    attempt: int
    at: datetime | None
    worker: str
    error_type: str
    message: str
    traceback: str | None
    run_seconds: float
    release: str | None
    log: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class JobDetail(JobSummary):
    """A job with all that Redis holds of it."""

    payload: Any = None
    result: Any = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    traceback: str | None = None
    """Its newest error, as SAQ keeps it."""
    attempts: Sequence[JobAttempt] = ()
    producer: str | None = None
    """The producer that enqueued it; None if that is not known."""
    replay_of: int | None = None
    """Id of the dead letter of which it is a replay."""
    letter: int | None = None
    """Id of the dead letter that it left."""
    unreadable: str | None = None
    """The bytes of what is not a job."""
    why: Why | None = None


def show_text(raw: bytes) -> str:
    """Write bytes that may be anything as text that every surface takes."""
    return raw.decode("utf-8", "backslashreplace").replace("\0", "\\x00")


def version_of(job: FoundJob) -> str:
    """Return its state, its mark and, unless it runs and reports progress, the digest of its record."""
    parts = [job.state, show_text(job.mark)]
    if job.record is not None and job.state != "running":
        parts.append(hashlib.sha1(job.record, usedforsecurity=False).hexdigest()[:_DIGEST_CHARS])
    return ":".join(filter(None, parts))


def record_of(policy: QueuePolicy, job: FoundJob, now: float, *, whole: bool = False) -> JobRecord:
    """Return the record of a job; ``whole`` as in `read_record`."""
    key = key_of(policy.name, job.id)
    return read_record(job.record, job.record_type, key, now, whole=whole)


def key_of(queue: str, job_id: bytes) -> str:
    """Return the key of a job of the queue; any other id is its own key."""
    return show_text(job_id.removeprefix(f"saq:job:{queue}:".encode()))


def summary_fields(
    policy: QueuePolicy, job: FoundJob, record: JobRecord, now: float, snapshot: Snapshot | None
) -> dict[str, Any]:
    """Return the fields of a `JobSummary`; ``snapshot`` names the workers, and has the usual run time."""
    state = state_of(job, record)
    fields: dict[str, Any] = {
        "queue": policy.name,
        "key": key_of(policy.name, job.id),
        "state": state,
        "version": version_of(job),
        "function": record.function,
        "status": record.status,
        "attempt": record.attempts,
        "max_attempts": policy.max_attempts,
        "queued_at": record.queued,
        "progress": record.progress,
        "aborting": job.aborting or (state == "running" and record.status == "aborting"),
        "error": _last_line(record),
        "problem": record.problem,
    }
    match state:
        case "running":
            fields |= _running_fields(policy, job, record, now, snapshot)
        case "ready":
            fields["position"] = _whole_number(job.place)
        case "scheduled":
            due = number(job.mark)
            fields |= {"due_at": _time(due), "due_in": None if due is None else due - now}
        case "done" | "failed":
            ended = number(job.mark) if job.mark else None
            fields["started_at"] = record.started
            fields["ended_at"] = _past_time(ended, now) or record.completed
            fields["worker"] = record.worker
            process = None if record.worker is None else worker_of(snapshot, record.worker)
            fields["worker_name"] = None if process is None else worker_name(process.id, process)
    return fields


def state_of(job: FoundJob, record: JobRecord) -> JobState:
    """Return the state that is shown."""
    if job.state == "ended" or (job.state == "unlisted" and record.status in _ENDED):
        return "done" if record.status == "complete" else "failed"
    return "unlisted" if job.state == "gone" else job.state


def _running_fields(
    policy: QueuePolicy, job: FoundJob, record: JobRecord, now: float, snapshot: Snapshot | None
) -> dict[str, Any]:
    holder, taken = parse_lease(job.mark)
    worker, taken_ms = show_text(holder), number(taken)
    running_for = age(taken_ms, now)
    process = worker_of(snapshot, worker)
    queue = queue_of(snapshot, policy.name)
    return {
        "attempt": record.attempts if record.status in ("active", "aborting") else record.attempts + 1,
        "started_at": _past_time(taken_ms, now),
        "running_for": running_for,
        "usual_run": None if queue is None else queue.usual_run,
        "deadline_in": None if running_for is None else max(0.0, policy.timeout - running_for),
        "worker": worker,
        "worker_name": worker_name(worker, process),
    }


def worker_name(worker_id: str, process: WorkerSnapshot | None) -> str:
    """Return the name by which people call a process."""
    if process is None or not process.pid:
        return worker_id[:SHORT_ID_CHARS]
    return f"{process.host}:{process.pid}"


def named_job(job: JobT, snapshot: Snapshot | None) -> JobT:
    """Return a job with the name of the process that holds or held it, if that is known."""
    if job.worker is None or job.worker_name is not None:
        return job
    return replace(job, worker_name=worker_name(job.worker, worker_of(snapshot, job.worker)))


def detail_fields(record: JobRecord) -> dict[str, Any]:
    """Return the fields that a `JobDetail` has beyond a `JobSummary`, from its record."""
    return {
        "payload": record.arguments,
        "result": record.result,
        "meta": record.meta,
        "traceback": record.error,
        "attempts": [_attempt(attempt) for attempt in record.failed_attempts],
        "producer": _producer(record),
        "replay_of": record.replay_of,
        "unreadable": record.unreadable,
    }


def _producer(record: JobRecord) -> str | None:
    if record.replay_of is not None:
        return f"a replay of dead letter {record.replay_of}"
    if record.copy_of is not None:
        return f"a duplicate of {record.copy_of}"
    if record.schedule is not None:
        return f"the schedule {record.schedule}"
    return "this program" if record.traced else None


def _attempt(attempt: Mapping[str, Any]) -> JobAttempt:
    return JobAttempt(
        attempt=attempt["attempt"],
        at=_time(number(attempt["at"])),
        worker=attempt["worker"],
        error_type=attempt["error_type"],
        message=attempt["message"],
        traceback=attempt.get("traceback"),
        run_seconds=attempt["run_seconds"],
        release=attempt.get("release"),
        log=tuple(attempt.get("log") or ()),
    )


def job_facts(job: JobDetail, now: float, snapshot: Snapshot | None) -> JobFacts:
    """Return the facts of a job that explain why it does not run."""
    worker = None if job.worker is None or job.state != "running" else worker_of(snapshot, job.worker)
    return JobFacts(
        key=job.key,
        state=job.state,
        status=job.status,
        attempt=job.attempt,
        max_attempts=job.max_attempts,
        position=job.position,
        due_in=job.due_in,
        worker=job.worker_name,
        worker_state=None if worker is None else worker.state,
        running_for=job.running_for,
        ends_at=None if job.deadline_in is None else now + job.deadline_in,
        ended_at=None if job.ended_at is None else job.ended_at.timestamp(),
        aborting=job.aborting,
        error=job.error,
        letter=job.letter,
        problem=job.problem,
    )


def start_facts(policy: QueuePolicy, snapshot: Snapshot, job: JobFacts | None) -> StartFacts:
    """Return the facts of a queue, and of one of its jobs, that explain why nothing starts."""
    queue = queue_of(snapshot, policy.name)
    if queue is None:  # Redis has not answered yet
        error = snapshot.redis_of(policy.name).error
        return StartFacts(policy.name, job, error or "it has not answered yet")
    serving = [worker for worker in snapshot.workers if worker.alive and policy.name in worker.queues]
    draining = sum(worker.draining for worker in serving)
    standby = sum(not worker.draining and policy.name in worker.standby for worker in serving)
    return StartFacts(
        queue=policy.name,
        job=job,
        redis_error=snapshot.redis_of(policy.name).error,
        broken_keys=queue.broken_keys,
        taking=len(serving) - draining - standby,
        standby=standby,
        draining=draining,
        pause=queue.paused,
        depth=queue.depth,
        scheduled=queue.scheduled,
        in_flight=queue.in_flight,
        concurrency=queue.concurrency,
        timeout=policy.timeout,
        oldest_running=queue.oldest_running,
        usual_run=queue.usual_run,
        held_by_dead=queue.held_by_dead,
        recover_in=queue.recover_in,
        held_by_blocked=queue.held_by_blocked,
        blocked_where=queue.blocked_where,
        rate_limit=queue.rate_limit,
        next_start_in=queue.next_start_in,
        handler_problem=queue.handler_problem,
        stalled=next((alert.message for alert in snapshot.alerts if _is_stall(alert, policy.name)), None),
    )


def _is_stall(alert: Alert, queue: str) -> bool:
    return alert.name == "stalled" and alert.queue == queue and not alert.subject


def queue_of(snapshot: Snapshot | None, name: str) -> QueueSnapshot | None:
    """Return the queue in a snapshot; None if that does not have it."""
    queues = () if snapshot is None else snapshot.queues
    return next((queue for queue in queues if queue.name == name), None)


def worker_of(snapshot: Snapshot | None, worker_id: str) -> WorkerSnapshot | None:
    """Return the process in a snapshot; None if that does not have it."""
    workers = () if snapshot is None else snapshot.workers
    return next((worker for worker in workers if worker.id == worker_id), None)


def _last_line(record: JobRecord) -> str | None:
    """Return the error in one line; SAQ's field has a traceback, of which the last line counts."""
    if record.failed_attempts and record.status not in ("failed", "aborted"):
        newest = record.failed_attempts[-1]
        text = f"{newest['error_type']}: {newest['message']}"
    else:
        lines = (record.error or "").strip().splitlines()
        text = lines[-1] if lines else ""
    line = " ".join(text.split())
    return (line if len(line) <= _MAX_ERROR_CHARS else f"{line[: _MAX_ERROR_CHARS - 1]}…") or None


def _whole_number(text: bytes) -> int | None:
    return int(text) if text.isdigit() else None


def _time(seconds: float | None) -> datetime | None:
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _past_time(milliseconds: float | None, now: float) -> datetime | None:
    """Return an instant by the server's clock; None if it lies ahead of that: the clock was set back."""
    return None if age(milliseconds, now) is None else _time((milliseconds or 0.0) / 1000)
