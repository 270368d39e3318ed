"""The verbs on worker processes: list them, drain any of them, and let it take jobs again."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from redis.asyncio import Redis
from redis.exceptions import RedisError

from storage.redis.client import execute
from storage.redis.scripts import Argument, Script, run_script
from storage.repositories.operator_actions import OperatorAction
from workers.engine.attempt_log import LogLine
from workers.engine.keys import DRAINED, PROCESS, WORKERS
from workers.errors import ConflictError, WorkersError
from workers.monitoring.cluster_reader import ClusterState
from workers.monitoring.overview import whole_number
from workers.monitoring.roster import read_drain
from workers.monitoring.snapshot import DrainSnapshot, WorkerSnapshot
from workers.operations.action_events import event_of
from workers.operations.audit import Audit, AuditedAction
from workers.operations.job_stacks import ask_for_log
from workers.operations.secrets import DEFAULT_MASK, SecretMask
from workers.operations.worker_list import Worker, find_worker, list_workers
from workers.process.drain import CHECK_MESSAGE, DrainRequest, DrainVerb
from workers.process.job_stacks import MAX_LINES
from workers.process.worker_process import WorkerProcess
from workers.words import requeued_text

REQUEST_DRAIN_SCRIPT = Script.load(__name__, "request_drain")

MAX_LOG_LINES = MAX_LINES
"""Lines of a log that one call returns: as many as another process answers."""
_ONE_SECONDS = 1.0
"""Timeout of a question to one of several Redises."""
_LOG_SECONDS = 2.5
"""The same for the lines of a process' log: it may take two seconds itself."""
_REQUEST_SECONDS = 600
"""Seconds after which a request expires that a process has not read."""
_CONFIRM_SECONDS = 3.0
"""How long a process has to confirm a request; one that is connected takes some milliseconds."""
_CONFIRM_POLL_SECONDS = 0.1
_WAIT_POLL_SECONDS = 0.5
_ANSWER_POLL_SECONDS = 0.1
"""Between two checks for the sign of life that was requested of a process."""

DrainState = Literal["running", "draining", "drained", "requested"]


@dataclass(frozen=True, slots=True)
class DrainResult:
    """The progress of a process' drain.

    ``requested``: it has not confirmed, and ``problem`` is why.  ``drained``: it has ended; ``put_back`` is
    how many jobs were requeued, None if that is not known.
    """

    id: str
    name: str
    state: DrainState
    in_flight: int = 0
    deadline_in: float | None = None
    put_back: int | None = None
    problem: str = ""
    undoable: bool = False


class WorkerOperations:
    """``process`` is that of this program, if it runs workers.

    ``redises`` are all servers that hold queues: a process is known to each that it has queues on.
    Everything raises RedisError.
    """

    def __init__(
        self,
        redises: Sequence[Redis],
        audit: Audit,
        *,
        read_cluster: Callable[[], Awaitable[ClusterState]],
        process: WorkerProcess | None = None,
        mask: SecretMask = DEFAULT_MASK,
    ) -> None:
        self._mask = mask
        self._redises = redises
        self._audit = audit
        self._read_cluster = read_cluster
        self._process = process

    @property
    def own_id(self) -> str | None:
        """The id of this process; None if it runs no workers."""
        return None if self._process is None else self._process.id

    async def list(self) -> list[Worker]:
        """Return all processes, and of those that have died the ones that still hold jobs.

        It waits a few seconds for one that was asked for a sign of life: it may be frozen.
        """
        cluster = await self._read_cluster()
        while any(worker.alive and worker.asked_for is not None for worker in cluster.workers):
            await asyncio.sleep(_ANSWER_POLL_SECONDS)
            cluster = await self._read_cluster()
        return list_workers(cluster.workers, cluster.queues)

    async def log(
        self, worker: str, *, queue: str | None = None, job: str | None = None
    ) -> Sequence[LogLine]:
        """Return the newest lines of a process' log, the oldest first: of all, of a queue, or of a job.

        Another process than this one is asked, and answers within two seconds.  Raises NotFoundError,
        ConflictError.
        """
        lines = [
            line
            for line in await self._read_log(worker)
            if queue in (None, line.queue) and job in (None, line.job)
        ]
        return [replace(line, text=self._mask.text(line.text)) for line in lines[-MAX_LOG_LINES:]]

    async def _read_log(self, worker: str) -> Sequence[LogLine]:
        if worker != self.own_id:
            worker = find_worker((await self._read_cluster()).workers, worker).id
        if self._process is not None and worker == self._process.id:
            return self._process.log_lines()
        return await self._ask_for_log(worker)

    async def _ask_for_log(self, worker: str) -> Sequence[LogLine]:
        """Ask over the first Redis to which the process is connected."""
        *others, last = self._redises
        for redis in others:
            with suppress(ConflictError, RedisError, OSError):
                async with asyncio.timeout(_LOG_SECONDS):
                    return await ask_for_log(redis, worker)
        return await ask_for_log(last, worker)

    async def drain(self, worker: str, *, now: bool = False) -> DrainResult:
        """Have a process finish what runs, and end; with ``now`` its jobs are requeued at once.

        It is named by its id, the beginning of that, or ``host:pid``.  Raises NotFoundError, and
        ConflictError if it is dead.
        """
        self._audit.check_writable("drain")
        return await self._drain(find_worker((await self._read_cluster()).workers, worker), now=now)

    async def drain_all(self) -> Sequence[DrainResult]:
        """Drain every process that lives; this one, too."""
        self._audit.check_writable("drain")
        live_workers = [worker for worker in (await self._read_cluster()).workers if worker.state != "dead"]
        return await asyncio.gather(*map(self._drain_or_explain, live_workers))

    async def undo_drain(self, worker: str) -> DrainResult:
        """Have a draining process take jobs again.

        Raises NotFoundError if it has ended, and ConflictError if it does not drain or a supervisor ends it.
        """
        self._audit.check_writable("undo-drain")
        process = find_worker((await self._read_cluster()).workers, worker)
        _check_undoable(process)
        arguments = {"worker": process.id, "name": process.name}
        async with self._audit.record("undo-drain", arguments) as action:
            action.affected = int(process.draining)
            result = await self._request(process, "undo")
            if result.state == "drained":
                raise ConflictError(f"{process.name} has ended: {requeued_text(result.put_back)}")
            if result.state == "draining":
                raise ConflictError(f"{process.name} is ending: its drain cannot be undone any more")
            return _note(action, process, result)

    async def wait(self, results: Sequence[DrainResult], timeout: float) -> Sequence[DrainResult]:
        """Wait until these processes have ended, or ``timeout`` seconds have passed; how far each is then."""
        end = time.monotonic() + timeout
        while True:
            cluster = await self._read_cluster()
            by_id = {worker.id: worker for worker in cluster.workers}
            results = [await self._look_again(result, by_id.get(result.id)) for result in results]
            if all(result.state == "drained" for result in results) or time.monotonic() >= end:
                return results
            await asyncio.sleep(min(_WAIT_POLL_SECONDS, max(0.0, end - time.monotonic())))

    async def _drain(self, worker: WorkerSnapshot, *, now: bool = False) -> DrainResult:
        if worker.state == "dead":
            raise ConflictError(
                f"{worker.name} is dead and cannot drain",
                fix="a living process runs its jobs again by itself",
            )
        began, arguments = datetime.now(UTC), {"worker": worker.id, "name": worker.name, "now": now}
        async with self._audit.record("drain", arguments) as action:
            action.affected = worker.in_flight
            # One without jobs ends before this verb does: its own event is the later one.
            record = OperatorAction(began, self._audit.actor, "drain", arguments, worker.in_flight, "", "")
            action.event = event_of(record)
            return _note(action, worker, await self._request(worker, "put back" if now else "drain"))

    async def _drain_or_explain(self, worker: WorkerSnapshot) -> DrainResult:
        try:
            return await self._drain(worker)
        except WorkersError as error:
            return DrainResult(worker.id, worker.name, "running", worker.in_flight, problem=str(error))

    async def _request(self, worker: WorkerSnapshot, verb: DrainVerb) -> DrainResult:
        if self._process is not None and worker.id == self._process.id:
            self._process.carry_out(DrainRequest(uuid.uuid4().hex, verb, self._audit.actor))
            return self._own_result(worker, self._process)
        body = DrainRequest(uuid.uuid4().hex, verb, self._audit.actor).body()
        arguments: list[Argument] = [
            worker.id,
            body,
            _REQUEST_SECONDS * 1000,
            f"{PROCESS}{worker.id}",
            CHECK_MESSAGE,
        ]
        call = REQUEST_DRAIN_SCRIPT.call([WORKERS], arguments)

        async def request(redis: Redis) -> int:
            is_known = len(self._redises) == 1 or await execute(redis, "HEXISTS", WORKERS, worker.id)
            return int(await run_script(redis, call)) if is_known else 0

        receivers = await self._on_all_redises(request)
        return await self._confirm(worker, verb, max(receivers))

    def _own_result(self, worker: WorkerSnapshot, process: WorkerProcess) -> DrainResult:
        state: DrainState = "draining" if process.draining else "running"
        return DrainResult(
            worker.id,
            worker.name,
            state,
            process.in_flight,
            process.drain_deadline_in,
            undoable=process.drain.can_undo,
        )

    async def _confirm(self, worker: WorkerSnapshot, verb: DrainVerb, receivers: int) -> DrainResult:
        """Return how the process answers; it publishes its presence once it has done what was requested."""
        end = time.monotonic() + _CONFIRM_SECONDS
        while True:
            result = await self._probe(worker)
            if _is_answer(result, verb):
                return result
            if time.monotonic() >= end:
                break
            await asyncio.sleep(_CONFIRM_POLL_SECONDS)
        if verb == "put back" and result.state == "draining" and not result.undoable:
            return result  # Redis has not confirmed yet that the jobs are requeued
        problem = _why_silent(worker, receivers, "takes jobs again" if verb == "undo" else "drains")
        return replace(result, state="requested", problem=problem)

    async def _probe(self, worker: WorkerSnapshot) -> DrainResult:
        replies = await self._on_all_redises(lambda redis: execute(redis, "HGET", WORKERS, worker.id))
        presence = next((reply for reply in replies if reply is not None), None)
        if presence is None:
            return await self._drained_result(worker.id, worker.name)
        return _result(worker, read_drain(presence), "running")

    async def _on_all_redises(self, ask: Callable[[Redis], Awaitable[Any]]) -> Sequence[Any]:
        """Return the reply of each Redis that answers; of several, in time.

        Raises RedisError if none does.
        """

        async def ask_in_time(redis: Redis) -> Any:
            async with asyncio.timeout(_ONE_SECONDS if len(self._redises) > 1 else None):
                return await ask(redis)

        replies = await asyncio.gather(*map(ask_in_time, self._redises), return_exceptions=True)
        answers = [reply for reply in replies if not isinstance(reply, BaseException)]
        if not answers:
            raise replies[0]
        return answers

    async def _look_again(self, before: DrainResult, worker: WorkerSnapshot | None) -> DrainResult:
        if before.state == "drained":
            return before
        if worker is None:
            return await self._drained_result(before.id, before.name)
        if worker.drain is None and before.state == "requested":
            return before
        return _result(worker, worker.drain, "running")

    async def _drained_result(self, worker_id: str, name: str) -> DrainResult:
        replies = await self._on_all_redises(lambda redis: execute(redis, "GET", f"{DRAINED}{worker_id}"))
        put_back = next((reply for reply in replies if reply is not None), None)
        return DrainResult(worker_id, name, "drained", put_back=whole_number(put_back))


def _result(worker: WorkerSnapshot, drain: DrainSnapshot | None, otherwise: DrainState) -> DrainResult:
    """Return how far the drain of a living process is; ``otherwise`` is its state if it does not drain."""
    if drain is None:
        return DrainResult(worker.id, worker.name, otherwise, worker.in_flight)
    return DrainResult(
        worker.id, worker.name, "draining", worker.in_flight, drain.left, undoable=drain.undoable
    )


def _is_answer(result: DrainResult, verb: DrainVerb) -> bool:
    """Return whether a process has done what was requested, or cannot."""
    if result.state == "drained":
        return True
    if verb == "undo":
        return result.state == "running" or not result.undoable
    return verb == "drain" and result.state == "draining"


def _check_undoable(worker: WorkerSnapshot) -> None:
    if worker.state == "dead":
        raise ConflictError(f"{worker.name} is dead: there is nothing to undo")
    if worker.drain is None:
        return  # a request that it has not read yet may be withdrawn
    if not worker.drain.undoable:
        raise ConflictError(
            f"the drain of {worker.name} cannot be undone: a supervisor ends it, or its jobs are requeued"
        )


def _note(action: AuditedAction, worker: WorkerSnapshot, result: DrainResult) -> DrainResult:
    if result.problem:
        action.outcome = f"not confirmed: {result.problem}"
    elif result.state == "drained":
        action.outcome = requeued_text(result.put_back)
    return result


def _why_silent(worker: WorkerSnapshot, receivers: int, then: str) -> str:
    """Return why a process does not answer; ``then`` is what it does once it continues."""
    later = f"it {then} if it continues within {_REQUEST_SECONDS // 60} min"
    if worker.state == "blocked":
        by = "" if worker.blocked_where is None else f" by {worker.blocked_where}"
        return f"its event loop is blocked{by}: {later}"
    if receivers < 0:
        return f"Redis does not let us publish to it: it {then} when it publishes its presence again"
    if receivers == 0:
        return f"it is not connected to Redis: {later}"
    return f"it does not answer, and may be frozen, or of a release that cannot do this: {later}"
