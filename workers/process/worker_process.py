"""One worker process: a dispatcher for each queue, heartbeat, recorder, presence, drain."""

from __future__ import annotations

import asyncio
import gc
import uuid
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import structlog
from redis.exceptions import RedisError

from storage.asyncio_tools import cancel_and_wait
from storage.database.events import EventSink, ignore_event
from storage.dead_letters.repository import DeadLetterRepository
from workers.engine.attempt_log import LogLine
from workers.engine.dispatcher import Dispatcher
from workers.engine.placement import group_by_url
from workers.engine.policy import NORMAL, TIMINGS, PollIntervals, QueuePolicy, Timings
from workers.engine.runner import SaqFunction
from workers.engine.schedules import Schedule, Scheduler
from workers.monitoring.alert_rules import DEFAULTS, Thresholds
from workers.monitoring.snapshot import RedisOutage
from workers.process.background_tasks import restart_after_defects, wait_for_first
from workers.process.drain import Drain, DrainRequest, DrainRequests, leave_result
from workers.process.event_log import EventLog
from workers.process.handler_pools import HandlerPools
from workers.process.heartbeat import Heartbeat
from workers.process.held_jobs import held_jobs, log_lines
from workers.process.redis_link import ProcessFacts, RedisLink
from workers.process.vitals import Vitals
from workers.process.watchdog import LoopClock, Watchdog
from workers.process.worker_events import drained_event, started_events

log = structlog.get_logger(__name__)

_CLOSE_SECONDS = 2.0
"""Timeout of the database in a closing process; other processes record the letters that are left."""
_OTHERS_SECONDS = 1.0
"""How long a start waits for further Redises once one has answered."""
_MAX_TURN_SECONDS = 15.0
"""How long a dispatcher's turn may take, or be overdue, before it counts as stuck."""
_SETTLE_SECONDS = 5.0
"""How long a drain waits, after its deadline, until Redis confirms the returned jobs."""


class WorkerProcess:
    """Runs the queues of ``policies``.  ``functions`` are by queue name; ``letters`` takes the dead letters.

    ``redis_url`` is the main Redis, which holds the queues that have none of their own.  ``paces`` has, by
    URL, the poll intervals that differ from ``pace``.

    It runs the ``schedules`` of its queues.  ``events`` takes what happens; None: it is not written.
    ``give_up`` ends the whole program.  It is called from a thread, with the reason, if the event loop has
    been blocked for longer than any job in flight may take.

    `start` returns once jobs are taken; `begin_drain` starts the end; `wait_drained` waits for it and returns
    the number of jobs that were returned to their queues; `close` frees the connections.
    """

    def __init__(
        self,
        redis_url: str,
        *,
        policies: Sequence[QueuePolicy],
        functions: Mapping[str, SaqFunction],
        letters: DeadLetterRepository,
        drain_seconds: float = 30.0,
        pace: PollIntervals = NORMAL,
        paces: Mapping[str, PollIntervals] | None = None,
        timings: Timings = TIMINGS,
        schedules: Sequence[Schedule] = (),
        version: str = "0",
        release: str = "0",
        events: EventLog | None = None,
        thresholds: Thresholds = DEFAULTS,
        give_up: Callable[[str], None] | None = None,
    ) -> None:
        self.id = uuid.uuid4().hex
        self.drain = Drain(drain_seconds)
        self._requests = DrainRequests(self.carry_out)
        self._emit: EventSink = events.emit if events is not None else ignore_event
        self._release, self._timings, self._thresholds = release, timings, thresholds
        self._clock = LoopClock(timings.loop_count_seconds)
        self._handlers = HandlerPools(functions, on_problem=self._publish_soon)
        self._vitals = Vitals(self._clock.lag_p99, self._handlers.pids)
        self.dispatchers: dict[str, Dispatcher] = {}
        self.links = [
            self._make_link(url, group, functions, letters, version, (paces or {}).get(url, pace))
            for url, group in group_by_url(policies, redis_url).items()
            if group
        ]
        """One for each Redis that holds queues of this process."""
        by_name = {name: queue for link in self.links for name, queue in link.dispatchers.items()}
        self.dispatchers.update((policy.name, by_name[policy.name]) for policy in policies)
        self.schedules = [schedule for schedule in schedules if schedule.queue in self.dispatchers]
        """The schedules that this process runs."""
        self._watchdog = self._make_watchdog()
        self._heartbeats = self._make_heartbeats(give_up)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: list[asyncio.Task[None]] = []
        self._background_tasks: list[asyncio.Task[None]] = []
        self._companions: list[Callable[[], Coroutine[Any, Any, None]]] = []

    @property
    def redis_outages(self) -> dict[str, RedisOutage]:
        """By URL, why a Redis does not answer, or refuses, and for how long; empty while none does either."""
        return {link.url: outage for link in self.links if (outage := link.state.outage) is not None}

    @property
    def redis_error(self) -> str | None:
        """Why Redis does not answer, or refuses, one of several with its queues; None while it does not."""
        if len(self.links) == 1:
            return self.links[0].state.error
        failing = [link for link in self.links if link.state.error is not None]
        return "; ".join(f"{', '.join(link.dispatchers)}: {link.state.error}" for link in failing) or None

    @property
    def in_flight(self) -> int:
        """Jobs that this process holds."""
        return sum(dispatcher.in_flight for dispatcher in self.dispatchers.values())

    def is_active(self) -> bool:
        """Return whether one of its queues held jobs at the last turn, or Redis fails or refuses writes."""
        if any(link.state.error is not None or link.presence.redis_is_full for link in self.links):
            return True
        return any(dispatcher.holds_jobs for dispatcher in self.dispatchers.values())

    def accompany(self, task: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run ``task`` from the start on, besides the dispatchers."""
        self._companions.append(task)

    @property
    def draining(self) -> bool:
        """Whether a drain has begun, and was not undone."""
        return self.drain.under_way

    @property
    def is_ending(self) -> bool:
        """Whether a drain has begun that cannot be undone."""
        return self.draining and not self.drain.can_undo

    @property
    def drain_deadline_in(self) -> float | None:
        """Seconds left for the jobs in flight; None unless a drain is under way."""
        return self.drain.seconds_left

    def stalled_queues(self, without: Collection[str] = ()) -> list[str]:
        """Return the queues that make no progress here, each with the reason; leave out ``without``."""
        problems = [
            f"{name}: its dispatcher makes no progress"
            for name, dispatcher in self.dispatchers.items()
            if dispatcher.overdue_seconds() > _MAX_TURN_SECONDS and name not in without
        ]
        has_ended = any(task.done() for task in self._running) and not self.draining
        return [*problems, "a dispatcher has ended"] if has_ended else problems

    def log_lines(self) -> list[LogLine]:
        """Return the newest lines of this process and of each of its jobs in flight, the oldest first."""
        return log_lines(self.dispatchers.values())

    def unready(self) -> list[str]:
        """Return the reasons why this process takes no jobs, whatever Redis answers; empty while it does."""
        reasons = [
            f"{name}: no turn yet" for name, queue in self.dispatchers.items() if not queue.turned.is_set()
        ]
        return [*(["draining"] if self.draining else []), *reasons, *self._handler_problems()]

    def _handler_problems(self) -> list[str]:
        return [f"{queue}: {problem}" for queue, problem in self._handlers.problems().items()]

    def stop_asked(self, *, now: bool = False) -> None:
        """Note that a signal requests a drain (``now``: one that waits for nothing); for signal handlers.

        It works while the event loop is blocked, too: the process gives up if it cannot begin in time.
        """
        self._watchdog.stop_asked(now=now)

    async def start(self) -> None:
        """Take jobs from now on.  Raises RedisError if no Redis answers."""
        self._loop = asyncio.get_running_loop()
        self._clock.start()
        await self._publish_first()
        for heartbeat in self._heartbeats:
            heartbeat.start()
        self._running += map(self._start_dispatcher, self.dispatchers.values())
        background: list[Callable[[], Coroutine[Any, Any, None]]] = [
            *(task for link in self.links for task in link.background_tasks()),
            *(Scheduler(schedule, self.dispatchers[schedule.queue].queue).run for schedule in self.schedules),
            *self._companions,
        ]
        self._background_tasks += [asyncio.create_task(restart_after_defects(task)) for task in background]
        gc.freeze()  # what is loaded lives as long as the process: the collector may skip it
        log.info("takes jobs", worker=self.id, queues=list(self.dispatchers))
        for event in started_events(self.id, self._release, list(self.dispatchers)):
            self._emit(event)

    async def _publish_first(self) -> None:
        """Publish the presence on each Redis.  Raises the error of one if none takes it.

        A silent one is not waited for: the process publishes there when it is subscribed.
        """
        tasks = [asyncio.create_task(link.presence.publish(forget=True)) for link in self.links]
        pending = set(tasks)
        try:
            while pending and not any(task.done() and task.exception() is None for task in tasks):
                _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            if pending:
                await asyncio.wait(pending, timeout=_OTHERS_SECONDS)
        finally:
            await cancel_and_wait([task for task in tasks if not task.done()])
        errors = [error for task in tasks if not task.cancelled() and (error := task.exception())]
        unexpected = [error for error in errors if not isinstance(error, RedisError | OSError)]
        if unexpected or len(errors) == len(tasks):
            raise (unexpected or errors)[0]

    def _publish_soon(self) -> None:
        for link in self.links:
            link.presence.publish_soon()

    async def wait_taking(self, timeout: float) -> None:
        """Wait until each dispatcher has made a turn, or ``timeout`` seconds have passed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                for dispatcher in self.dispatchers.values():
                    await dispatcher.turned.wait()

    async def drain_began(self, timeout: float) -> bool:
        """Wait until a drain has begun, or ``timeout`` seconds have passed; return whether it has begun."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self.drain.begun.wait()
        return self.draining

    def begin_drain(self, *, undoable: bool = False, by: str | None = None) -> None:
        """Start no more jobs.  A further call changes nothing, but that of a supervisor cannot be undone."""
        if self.drain.begin(undoable=undoable, by=by):
            self._watchdog.stop_asked()
            log.info("draining: finishes what runs, deletes nothing", in_flight=self.in_flight, by=by)
            for dispatcher in self.dispatchers.values():
                dispatcher.begin_drain()
        self._publish_soon()

    def drain_now(self) -> None:
        """Requeue the jobs in flight without waiting for them any longer."""
        self.begin_drain()
        self._watchdog.stop_asked(now=True)
        self.drain.requeue()

    def undo_drain(self) -> bool:
        """Take jobs again; False if no drain is under way, or it is too late, or a supervisor ends us."""
        if not self.drain.undo():
            return False
        self._watchdog.stop_withdrawn()
        log.info("the drain was undone: takes jobs again", in_flight=self.in_flight)
        for number, dispatcher in enumerate(self.dispatchers.values()):
            dispatcher.end_drain()
            if self._running and self._running[number].done():
                self._running[number] = self._start_dispatcher(dispatcher)
        self._publish_soon()
        return True

    async def wait_drained(self) -> int:
        """Wait until a drain has ended; the number of jobs that were returned to their queues."""
        all_ended = await self._drain_is_over()
        for dispatcher in self.dispatchers.values():
            dispatcher.cancel_running()
        await asyncio.wait({all_ended}, timeout=_SETTLE_SECONDS)
        if not all_ended.done():
            unsettled = self.in_flight
            log.error("Redis does not answer: jobs are left to be recovered", jobs=unsettled)
            await cancel_and_wait(self._running)
            self._emit(drained_event(self.id, self._release, unsettled))
            return unsettled
        for task in self._running:
            task.result()
        returned = sum(dispatcher.returned for dispatcher in self.dispatchers.values())
        log.info("drained", put_back=returned)
        self._emit(drained_event(self.id, self._release, returned))
        await asyncio.gather(*(self._leave_result(link, returned) for link in self.links))
        return returned

    async def _leave_result(self, link: RedisLink, returned: int) -> None:
        with suppress(RedisError, OSError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await leave_result(link.redis, self.id, self.drain, returned)

    async def _drain_is_over(self) -> asyncio.Future[list[Any]]:
        """Wait until a drain is at its end, and was not undone; returns what ends with the dispatchers."""
        while True:
            all_ended = asyncio.gather(*self._running, return_exceptions=True)
            await wait_for_first(all_ended, self.drain.begun.wait())
            await wait_for_first(all_ended, self.drain.wait_changed(), timeout=self.drain_deadline_in)
            if self.drain.has_passed or all(task.done() for task in self._running):
                self.drain.is_over = True
                return asyncio.gather(*self._running, return_exceptions=True)

    async def close(self) -> None:
        """Leave the list of workers and close all connections; without a drain before, like a crash."""
        self._loop = None
        publishing = [task for link in self.links for task in link.presence.end()]
        await cancel_and_wait([*self._running, *self._background_tasks, *publishing])
        self._clock.stop()
        await asyncio.gather(*(asyncio.to_thread(heartbeat.stop) for heartbeat in self._heartbeats))
        if self._running:
            leaving = [link.leave(_CLOSE_SECONDS) for link in self.links]
            for error in await asyncio.gather(*leaving, return_exceptions=True):
                if error is not None:
                    log.warning("the process left without taking itself off the list", error=repr(error))
        for link in self.links:
            await link.close()

    def _make_link(
        self,
        url: str,
        policies: Sequence[QueuePolicy],
        functions: Mapping[str, SaqFunction],
        letters: DeadLetterRepository,
        version: str,
        pace: PollIntervals,
    ) -> RedisLink:
        facts = ProcessFacts(
            self.id,
            version,
            self._release,
            self._timings,
            self._emit,
            describe=self._describe,
            figures=lambda: self._vitals.newest,
            on_request=self._requests.on_request,
            dispatchers=self.dispatchers,
        )
        return RedisLink(url, policies, functions, letters, facts, pace=pace, on_silence=self._on_silence)

    def _make_watchdog(self) -> Watchdog:
        return Watchdog(
            self._clock,
            list_jobs=partial(held_jobs, self.dispatchers.values()),
            drain_seconds=self.drain.seconds,
            blocked_after_seconds=self._timings.blocked_after_seconds,
        )

    def _make_heartbeats(self, give_up: Callable[[str], None] | None) -> list[Heartbeat]:
        """Return one for each Redis; the first one watches the event loop, and informs the others."""
        first, *links = self.links
        others = [link.make_heartbeat() for link in links]
        watching = partial(first.make_heartbeat, watchdog=self._watchdog, measure=self._vitals.measure)
        return [watching(give_up=give_up, others=others), *others]

    def _describe(self) -> dict[str, object]:
        """Return the facts of this process that others read."""
        limits, dispatchers = self._thresholds.settings, self.dispatchers.items()
        return {
            **self.drain.describe(),
            **self._vitals.newest,
            "unready": [*self.stalled_queues(), *self._handler_problems()],
            "handler_problems": self._handlers.problems(),
            "settings": {name: one.queue.policy.settings() | limits(name) for name, one in dispatchers},
        }

    def carry_out(self, request: DrainRequest) -> None:
        """Do what an operator requests, here or in another process."""
        if request.verb == "undo":
            self.undo_drain()
        else:
            self.begin_drain(undoable=True, by=request.actor)
        if request.verb == "put back":
            self.drain_now()

    def _start_dispatcher(self, dispatcher: Dispatcher) -> asyncio.Task[None]:
        return asyncio.create_task(self._dispatch(dispatcher), name=f"dispatcher {dispatcher.queue.name}")

    async def _dispatch(self, dispatcher: Dispatcher) -> None:
        """Run a dispatcher; one that ends by a defect drains the process: it is half dead."""
        try:
            await dispatcher.run()
            while not self.draining:  # the drain was undone when it had just ended
                await dispatcher.run()
        except Exception:
            log.exception("a dispatcher ended", queue=dispatcher.queue.name)
            self.begin_drain()
            raise

    def _on_silence(self, link: RedisLink) -> None:
        """Handle silence; the heartbeat's thread calls this."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(link.check_leases)
