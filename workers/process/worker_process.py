"""One worker process: a dispatcher for each queue, heartbeat, recorder, its place on the list, drain."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import time
import uuid
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import structlog
from redis.exceptions import RedisError, ResponseError

from storage.asyncio_tools import cancel_and_wait
from storage.dead_letters.repository import DeadLetterRepository
from storage.redis.client import PipelineConnection, is_wrong_type, make_client, make_sync_client
from storage.redis.refusals import reason, refusal_of
from storage.redis.scripts import Script, ScriptCall, run_script
from workers.dead_letters.recorder import Recorder
from workers.dead_letters.retention import Retention
from workers.engine import wire
from workers.engine.dispatcher import DEAD_AFTER, Dispatcher
from workers.engine.keys import BEATS, LETTERS, OUTCOMES, WORKERS
from workers.engine.policy import NORMAL, PollIntervals, QueuePolicy
from workers.engine.queue import JobQueue
from workers.engine.runner import SaqFunction
from workers.engine.schedules import Schedule, Scheduler
from workers.process.heartbeat import Heartbeat
from workers.process.nudges import Nudges
from workers.process.watchdog import Held, LoopClock, Watchdog

ANNOUNCE_SCRIPT = Script.load(__name__, "announce")

log = structlog.get_logger(__name__)

_FORGET_AFTER = 86_400.0
"""Seconds after which the traces of a process that died are removed."""
_LAST_WORDS = 2.0
"""Seconds that a process which leaves gives the database; letters that wait are recorded by the others."""
_TURN_SECONDS = 15.0
"""Seconds that a dispatcher's turn may take, or be late, before it stands."""
_RESTART_SECONDS = 5.0
"""Seconds until a helper that failed by a defect is started again."""
_SETTLE_SECONDS = 5.0
"""Seconds that a drain waits, after its deadline, for Redis to take what was put back."""


class WorkerProcess:
    """Runs ``policies``' queues.  ``functions`` are by queue name; ``letters`` takes what died.

    Of ``schedules`` those count whose queue is among them.  ``give_up`` ends the whole program: it is called
    from a thread, with the reason, when the event loop has been blocked for longer than any job in flight may
    take.

    `start` returns once jobs are taken; `begin_drain` ends it; `drained` waits for that end and returns the
    number of jobs that were put back; `close` frees the connections.
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
        schedules: Sequence[Schedule] = (),
        version: str = "0",
        give_up: Callable[[str], None] | None = None,
    ) -> None:
        self.id = uuid.uuid4().hex
        self.drain_seconds = drain_seconds
        self.redis_error: str | None = None
        """Why Redis does not answer, or refuses; None while it does what it is asked for."""
        self._version = version
        self._pace = pace
        self._redis = make_client(redis_url)
        self._subscriber = make_client(redis_url, reply_timeout=None)
        self._lines = [PipelineConnection(redis_url) for _ in policies]
        self._doorbells = [PipelineConnection(redis_url, blocks=True) for _ in policies]
        self._recorder = Recorder(self._redis, letters)
        self._retention = Retention(self._redis, letters)
        self.dispatchers = {
            policy.name: Dispatcher(
                JobQueue(self._redis, policy, line),
                functions[policy.name],
                worker_id=self.id,
                doorbell=doorbell,
                pace=pace,
                on_reply=partial(self._replied, line),
                on_letter=self._recorder.wake,
            )
            for policy, line, doorbell in zip(policies, self._lines, self._doorbells, strict=True)
        }
        self._schedulers = [
            Scheduler(schedule, self.dispatchers[schedule.queue].queue)
            for schedule in schedules
            if schedule.queue in self.dispatchers
        ]
        self._clock = LoopClock()
        self._watchdog = Watchdog(self._clock, held=self._running_jobs, drain_seconds=drain_seconds)
        self._heartbeat = Heartbeat(
            make_sync_client(redis_url),
            self.id,
            held=lambda: self.in_flight,
            gap=DEAD_AFTER - 1,
            on_gap=self._gap,
            watchdog=self._watchdog,
            give_up=give_up,
        )
        self._nudges = Nudges(
            self._redis,
            self._subscriber,
            self.id,
            self.dispatchers,
            on_subscribed=lambda: _once(self._announce),
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: list[asyncio.Task[None]] = []
        self._helpers: list[asyncio.Task[None]] = []
        self._saying: asyncio.Task[None] | None = None
        self._upcoming: dict[str, list[tuple[bytes, float]]] = {}
        """By queue name: the next scheduled job and its time, as of the last look."""
        self._drain_began: float | None = None
        self._drain = asyncio.Event()
        self._hurry = asyncio.Event()
        self._started_at = time.time()

    @property
    def in_flight(self) -> int:
        """Jobs that this process holds."""
        return sum(dispatcher.in_flight for dispatcher in self.dispatchers.values())

    @property
    def draining(self) -> bool:
        """Whether a drain has begun."""
        return self._drain_began is not None

    @property
    def drain_deadline_in(self) -> float | None:
        """Seconds left for the jobs in flight; None while no drain goes on."""
        if self._drain_began is None:
            return None
        return max(0.0, self._drain_began + self.drain_seconds - time.monotonic())

    def standing(self) -> list[str]:
        """Why a queue makes no progress here, whatever Redis answers; empty while all do."""
        found = []
        for name, dispatcher in self.dispatchers.items():
            late = dispatcher.late()
            if late > _TURN_SECONDS:
                found.append(f"{name}: its dispatcher stands")
        ended = any(task.done() for task in self._running) and not self.draining
        return [*found, "a dispatcher has ended"] if ended else found

    def unready(self) -> list[str]:
        """Why this process does not take jobs, whatever Redis answers; empty while it does."""
        found = [
            f"{name}: no turn yet" for name, queue in self.dispatchers.items() if not queue.turned.is_set()
        ]
        return ["draining", *found] if self.draining else found

    def stop_asked(self, *, now: bool = False) -> None:
        """A signal asks for a drain, ``now`` for one that waits for nothing; for a signal handler.

        It is heard while the event loop is blocked, too: the process gives up if it cannot begin in time.
        """
        self._watchdog.stop_asked(now=now)

    async def start(self) -> None:
        """Take jobs from now on.  Raises RedisError where Redis does not answer."""
        self._loop = asyncio.get_running_loop()
        self._clock.start()
        await self._announce(forget=True)
        self._heartbeat.start()
        for name, dispatcher in self.dispatchers.items():
            self._running.append(asyncio.create_task(self._dispatch(dispatcher), name=f"dispatcher {name}"))
        helpers: list[Callable[[], Coroutine[Any, Any, None]]] = [
            self._recorder.run,
            self._nudges.run,
            partial(_repeat, self._announce, self._pace.announce),
            partial(_repeat, self._look_for_scheduled, self._pace.look),
            partial(_repeat, self._look_for_aborts, self._pace.abort),
            *(scheduler.run for scheduler in self._schedulers),
            self._retention.run,
            *(dispatcher.queue.reconciler.run for dispatcher in self.dispatchers.values()),
        ]
        self._helpers += [asyncio.create_task(_guarded(helper)) for helper in helpers]
        gc.freeze()  # what was loaded lives as long as the process: the collector need not look at it again
        log.info("takes jobs", worker=self.id, queues=list(self.dispatchers))

    async def taking(self, timeout: float) -> None:
        """Wait until each dispatcher has made a turn, or ``timeout`` seconds have passed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                for dispatcher in self.dispatchers.values():
                    await dispatcher.turned.wait()

    def begin_drain(self) -> None:
        """From this instant no job starts.  More calls change nothing."""
        if self._drain_began is None:
            self._drain_began = time.monotonic()
            self._watchdog.stop_asked()
            self._drain.set()
            log.info("draining: finishes what runs, deletes nothing", in_flight=self.in_flight)
            for dispatcher in self.dispatchers.values():
                dispatcher.begin_drain()
            self._helpers.append(asyncio.ensure_future(_once(self._announce)))  # that it drains

    def drain_now(self) -> None:
        """Do not wait any longer for the jobs in flight: they are put back."""
        self.begin_drain()
        self._watchdog.stop_asked(now=True)
        self._hurry.set()

    async def drained(self) -> int:
        """Wait until a drain has ended; the number of jobs that were put back."""
        everything = asyncio.gather(*self._running, return_exceptions=True)
        await _first(everything, self._drain.wait())
        await _first(everything, self._hurry.wait(), timeout=self.drain_deadline_in)
        for dispatcher in self.dispatchers.values():
            dispatcher.cancel_running()
        await asyncio.wait({everything}, timeout=_SETTLE_SECONDS)
        if not everything.done():
            held = self.in_flight
            log.error("Redis does not answer: jobs are left to be recovered", jobs=held)
            await cancel_and_wait(self._running)
            return held
        for ended in self._running:
            ended.result()
        put_back = sum(dispatcher.put_back for dispatcher in self.dispatchers.values())
        log.info("drained", put_back=put_back)
        return put_back

    async def close(self) -> None:
        """Leave the list and close all connections; without a drain before, as by a crash."""
        self._loop = None
        await cancel_and_wait([*self._running, *self._helpers, *([self._saying] if self._saying else [])])
        self._clock.stop()
        await asyncio.to_thread(self._heartbeat.stop)
        if self._running:
            try:
                async with asyncio.timeout(_LAST_WORDS):
                    await self._recorder.record_batch()
                await run_script(self._redis, self._announcement(leaving=True))
            except Exception as error:
                log.warning("left without a word", error=repr(error))
        for line in (*self._lines, *self._doorbells):
            await line.close()
        for client in (self._redis, self._subscriber):
            await client.aclose()

    async def _dispatch(self, dispatcher: Dispatcher) -> None:
        """A dispatcher that ends by a defect drains the process, so that it does not live on half dead."""
        try:
            await dispatcher.run()
        except Exception:
            log.exception("a dispatcher ended", queue=dispatcher.queue.name)
            self.begin_drain()
            raise

    def _replied(self, line: PipelineConnection, error: Exception | None) -> None:
        if error is None:
            line.confirm_primary()
        text = None if error is None else reason(error)
        if (text is None) != (self.redis_error is None):
            if error is None:
                log.info("Redis answers again")
            else:
                refuses = isinstance(error, ResponseError) or refusal_of(error) is not None
                log.error("Redis refuses" if refuses else "Redis does not answer", error=text)
        self.redis_error = text

    def _gap(self) -> None:
        """Called by the heartbeat's thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._distrust)

    def _distrust(self) -> None:
        for dispatcher in self.dispatchers.values():
            dispatcher.distrust()
        self._say_soon()  # others may have declared this process dead

    def _say_soon(self) -> None:
        """Announce this process out of turn; once at a time, since Redis may be away."""
        if self._loop is not None and (self._saying is None or self._saying.done()):
            self._saying = asyncio.ensure_future(_once(self._announce))

    def _running_jobs(self) -> list[Held]:
        """Called by the heartbeat's thread."""
        return [
            Held(
                queue=name,
                key=running.job.key,
                function=dispatcher.worker.functions.get(running.job.function),
                task=running.task,
                deadline=running.started + dispatcher.queue.policy.timeout,
            )
            for name, dispatcher in self.dispatchers.items()
            for running in list(dispatcher.worker.running.values())
        ]

    async def _look_for_scheduled(self) -> None:
        """Nudge a dispatcher whose queue has another next scheduled job than at the last look.

        Our own producers and retries say so themselves; foreign producers write it down in silence.
        """
        try:
            lowest = await self._lowest(self.dispatchers.values(), "-inf")
            holding = [self.dispatchers[name] for name, first in lowest.items() if first and first[0][1] <= 0]
            upcoming = lowest | await self._lowest(holding, "(0")
        except (RedisError, OSError):
            for dispatcher in self.dispatchers.values():
                dispatcher.nudge()  # its turn finds out whether Redis is away, and when it is back
            raise
        for name, first in upcoming.items():
            if first and first != self._upcoming.get(name):
                self.dispatchers[name].nudge()
            if lowest[name]:
                self.dispatchers[name].queue.reconciler.request()
        self._upcoming = upcoming

    async def _lowest(
        self, dispatchers: Iterable[Dispatcher], lowest: str
    ) -> dict[str, list[tuple[bytes, float]]]:
        """By queue name: the id with the lowest score from ``lowest`` on, and its score, or []."""
        pipeline = self._redis.pipeline(transaction=False)
        names = []
        for dispatcher in dispatchers:
            names.append(dispatcher.queue.name)
            key = dispatcher.queue.keys.incomplete
            pipeline.zrangebyscore(key, lowest, "+inf", start=0, num=1, withscores=True)
        return dict(zip(names, await pipeline.execute(), strict=True))

    async def _look_for_aborts(self) -> None:
        for dispatcher in self.dispatchers.values():
            await dispatcher.look_for_aborts()

    async def _announce(self, *, forget: bool = False) -> None:
        try:
            waiting = await run_script(self._redis, self._announcement(forget=forget))
        except ResponseError as error:
            if is_wrong_type(error):  # of a key that all queues share: any reconciler repairs it
                next(iter(self.dispatchers.values())).queue.reconciler.request(now=True)
            raise
        if waiting:
            self._recorder.wake()

    def _announcement(self, *, leaving: bool = False, forget: bool = False) -> ScriptCall:
        about = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "version": self._version,
            "queues": list(self.dispatchers),
            "in_flight": self.in_flight,
            "draining": self.draining,
            "standby": [name for name, each in self.dispatchers.items() if each.state == "standby"],
            "forget": self._pace.forget,
            "channel": self._nudges.counted,
        }
        keys = [WORKERS, BEATS, LETTERS, OUTCOMES]
        for name in self.dispatchers:
            keys += [f"saq:{name}:stats", f"saq:{name}:worker_info:{self.id}"]
        uptime = round((time.time() - self._started_at) * 1000)
        ended = sum((each.ended for each in self.dispatchers.values()), Counter[str]())
        stats = {
            "complete": ended["complete"],
            "failed": ended["bury"],
            "retried": ended["retry"],
            "aborted": ended["abort"],
            "uptime": uptime,
        }
        info = {"stats": stats, "queue_key": ",".join(self.dispatchers), "metadata": about}
        present = round(self._pace.forget * 1000)
        forgotten = round(_FORGET_AFTER * 1000) if forget else 0
        said = b"" if leaving else wire.dump(about)
        return ANNOUNCE_SCRIPT.call(keys, [self.id, said, present, wire.dump(info), forgotten])


async def _first(
    everything: asyncio.Future[Any], event: Coroutine[Any, Any, Any], timeout: float | None = None
) -> None:
    """Wait until ``everything`` is done, ``event`` has come, or ``timeout`` seconds have passed."""
    waiter = asyncio.ensure_future(event)
    await asyncio.wait({everything, waiter}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    waiter.cancel()


async def _repeat(look: Callable[[], Coroutine[Any, Any, None]], interval: float) -> None:
    """Call ``look`` every ``interval`` seconds; while Redis is away the next time will do."""
    while True:
        await asyncio.sleep(interval)
        try:
            await look()
        except (RedisError, OSError) as error:
            log.debug("not looked", at=look.__name__, error=repr(error))


async def _once(look: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with suppress(RedisError, OSError):
        await look()


async def _guarded(helper: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a helper until it is cancelled; one that ends by a defect is reported, and started again."""
    while True:
        try:
            await helper()
        except Exception:
            log.exception("a helper of the process failed, and is started again")
        await asyncio.sleep(_RESTART_SECONDS)
