"""All that a process does with one Redis: the dispatchers of its queues, presence, heartbeat, letters."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from storage.database.events import EventSink
from storage.dead_letters.repository import DeadLetterRepository
from storage.redis.client import make_client, make_sync_client
from storage.redis.pipeline import PipelineConnection
from workers.dead_letters.recorder import Recorder
from workers.engine.dispatcher import Dispatcher
from workers.engine.policy import PollIntervals, QueuePolicy, Timings
from workers.engine.queue import JobQueue
from workers.engine.runner import SaqFunction
from workers.process.background_tasks import ignore_outage, run_every
from workers.process.heartbeat import Heartbeat
from workers.process.job_stacks import JobStacks
from workers.process.presence import Presence
from workers.process.redis_state import RedisState
from workers.process.scheduled_jobs import ScheduledJobs
from workers.process.wake_listener import WakeListener
from workers.process.watchdog import Watchdog
from workers.process.worker_events import returned_event


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """The facts that each Redis gets of the process, and what the process does on a message from there."""

    id: str
    version: str
    release: str
    timings: Timings
    emit: EventSink
    describe: Callable[[], Mapping[str, object]]
    figures: Callable[[], Mapping[str, object]]
    """Its newest figures of itself."""
    on_request: Callable[[bytes], None]
    """Takes the newest request to drain, again and again."""
    dispatchers: Mapping[str, Dispatcher]
    """Dispatchers of all its queues: requests about a job come over any Redis of the process."""


class RedisLink:
    """Connects the process to the Redis at ``url``, which holds the queues of ``policies``.

    If that is unavailable, the queues of other servers go on: nothing here waits for another link.
    """

    def __init__(
        self,
        url: str,
        policies: Sequence[QueuePolicy],
        functions: Mapping[str, SaqFunction],
        letters: DeadLetterRepository,
        facts: ProcessFacts,
        *,
        pace: PollIntervals,
        on_silence: Callable[[RedisLink], None],
    ) -> None:
        self.url = url
        self.state = RedisState(lambda: self.presence.publish_soon())  # it may have expired
        self._facts = facts
        self._pace = pace
        self._on_silence = on_silence
        self.redis, self._subscriber = make_client(url), make_client(url, reply_timeout=None)
        self.recorder = Recorder(self.redis, letters)
        self._connections: list[PipelineConnection] = []
        self.dispatchers = {
            policy.name: self._make_dispatcher(policy, functions[policy.name]) for policy in policies
        }
        self.scheduled = ScheduledJobs(self.redis, self.dispatchers)
        self._stacks = JobStacks(self.redis, facts.dispatchers)
        self.listener = self._make_listener()
        self.presence = self._make_presence()

    @property
    def in_flight(self) -> int:
        """Jobs of its queues that this process holds."""
        return sum(dispatcher.in_flight for dispatcher in self.dispatchers.values())

    def check_leases(self) -> None:
        """Compare the jobs of its queues with their leases, after a silence."""
        for dispatcher in self.dispatchers.values():
            dispatcher.request_lease_check()
        self.presence.publish_soon()  # others may have declared this process dead

    def background_tasks(self) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        """Return the tasks that run besides the dispatchers."""
        return [
            self.recorder.run,
            self.listener.run,
            partial(run_every, self._pace.presence, self.presence.publish),
            partial(run_every, self._pace.scheduled, self.scheduled.check),
            partial(run_every, self._pace.aborts, self._check_aborts),
            *(dispatcher.queue.reconciler.run for dispatcher in self.dispatchers.values()),
        ]

    async def leave(self, seconds: float) -> None:
        """Record what waits within ``seconds``, and leave the list of workers.  Raises what these raise."""
        async with asyncio.timeout(seconds):
            await self.recorder.record_batch()
        await self.presence.remove()

    async def close(self) -> None:
        """Close the connections."""
        for connection in self._connections:
            await connection.close()
        for client in (self.redis, self._subscriber):
            await client.aclose()

    def make_heartbeat(
        self,
        *,
        watchdog: Watchdog | None = None,
        measure: Callable[[], Mapping[str, object]] | None = None,
        give_up: Callable[[str], None] | None = None,
        others: Sequence[Heartbeat] = (),
    ) -> Heartbeat:
        """Return the heartbeat of the process there.

        One of them has the ``watchdog``, and informs ``others``.
        """
        return Heartbeat(
            make_sync_client(self.url),
            self._facts.id,
            count_jobs=lambda: self.in_flight,
            on_silence=lambda: self._on_silence(self),
            measure=measure or self._facts.figures,
            timings=self._facts.timings,
            watchdog=watchdog,
            give_up=give_up,
            others=others,
        )

    def _make_dispatcher(self, policy: QueuePolicy, function: SaqFunction) -> Dispatcher:
        facts = self._facts
        pipeline = PipelineConnection(self.url)
        wakeup_connection = PipelineConnection(self.url, blocks=True)
        self._connections += [pipeline, wakeup_connection]
        return Dispatcher(
            JobQueue(self.redis, policy, pipeline, release=facts.release, emit=facts.emit),
            function,
            worker_id=facts.id,
            pipeline=pipeline,
            wakeup_connection=wakeup_connection,
            pace=self._pace,
            timings=facts.timings,
            on_result=partial(self.state.on_result, pipeline),
            on_letter=self.recorder.notify,
        )

    def _make_listener(self) -> WakeListener:
        return WakeListener(
            self.redis,
            self._subscriber,
            self._facts.id,
            self.dispatchers,
            on_subscribed=lambda: ignore_outage(self.presence.publish),
            on_request=self._on_message,
        )

    async def _on_message(self, message: bytes) -> None:
        """Handle a message on the channel of this process, to which any program may send anything."""
        if not self.presence.answers(message):
            self._stacks.answer(message)

    def _make_presence(self) -> Presence:
        facts = self._facts
        return Presence(
            self.redis,
            facts.id,
            self.dispatchers,
            version=facts.version,
            release=facts.release,
            ttl=self._pace.presence_ttl,
            listener=self.listener,
            describe=facts.describe,
            figures=facts.figures,
            on_letters=self.recorder.notify,
            on_request=facts.on_request,
            on_returned=lambda: facts.emit(returned_event(facts.id, facts.release)),
        )

    async def _check_aborts(self) -> None:
        for dispatcher in self.dispatchers.values():
            await dispatcher.check_aborts()
