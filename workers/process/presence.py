"""Publishes in Redis that a process is there, and what it does."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from storage.redis.client import is_wrong_type
from storage.redis.scripts import Argument, Script, run_script
from workers.engine import wire
from workers.engine.dispatcher import Dispatcher
from workers.engine.keys import ASK_MESSAGE, BEATS, LETTERS, OUTCOMES, WORKERS
from workers.process.background_tasks import ignore_outage
from workers.process.drain import CHECK_MESSAGE
from workers.process.heartbeat import BEAT_SCRIPT
from workers.process.wake_listener import WakeListener

ANNOUNCE_SCRIPT = Script.load(__name__, "announce")

_FORGET_SECONDS = 86_400.0
"""After this the traces of a process that died are removed."""


class Presence:
    """The entry of this process on the list of workers, which expires after ``ttl`` seconds.

    ``describe`` returns what is published besides the process's name, ``figures`` what goes with a sign of
    life.  ``on_letters`` is called if dead letters wait for the database, and ``on_returned`` if others had
    declared the process dead.  ``on_request`` gets the newest request to drain, again and again.
    """

    def __init__(
        self,
        redis: Redis,
        worker_id: str,
        dispatchers: Mapping[str, Dispatcher],
        *,
        version: str,
        release: str,
        ttl: float,
        listener: WakeListener,
        describe: Callable[[], Mapping[str, object]],
        figures: Callable[[], Mapping[str, object]],
        on_letters: Callable[[], None],
        on_request: Callable[[bytes], None],
        on_returned: Callable[[], None],
    ) -> None:
        self.redis_is_full = False
        """Whether Redis refused to take more, at the last publication: its workers do not notice."""
        self._redis = redis
        self._worker_id = worker_id
        self._dispatchers = dispatchers
        self._version = version
        self._release = release
        self._ttl = ttl
        self._listener = listener
        self._describe = describe
        self._figures = figures
        self._on_letters = on_letters
        self._on_request = on_request
        self._on_returned = on_returned
        self._started_at = time.time()
        self._publishing: list[asyncio.Task[None]] = []
        """The tasks that publish in the background."""
        self._answering: list[asyncio.Task[None]] = []
        self._ended = False
        self._publish_again = False

    async def publish(self, *, forget: bool = False) -> None:
        """Write the entry; with ``forget`` remove those of processes long dead.  Raises RedisError."""
        try:
            letters_wait, request = await self._announce(forget=forget)
        except ResponseError as error:
            if is_wrong_type(error):  # of a key that all queues share: any reconciler repairs it
                next(iter(self._dispatchers.values())).queue.reconciler.request(now=True)
            else:  # an idle dispatcher does not notice that writes are refused
                for dispatcher in self._dispatchers.values():
                    dispatcher.wake()
            raise
        if letters_wait:
            self._on_letters()
        if request is not None:
            self._on_request(request)

    def publish_soon(self) -> None:
        """Publish in the background, one at a time, since Redis may be down."""
        self._publish_again = True
        if not self._ended and (not self._publishing or self._publishing[0].done()):
            self._publishing = [asyncio.ensure_future(self._publish_until_current())]

    def answers(self, message: bytes) -> bool:
        """Answer a message on the channel of the process soon; False if it is about something else."""
        if message == CHECK_MESSAGE:
            self.publish_soon()  # which reads the request
        elif message != ASK_MESSAGE:
            return False
        elif not self._ended and (not self._answering or self._answering[0].done()):
            self._answering = [asyncio.ensure_future(ignore_outage(self._beat))]
        return True

    async def _beat(self) -> None:
        figures = wire.dump(self._figures())
        await run_script(self._redis, BEAT_SCRIPT.call([BEATS, WORKERS], [self._worker_id, figures]))

    def end(self) -> list[asyncio.Task[None]]:
        """Publish nothing more in the background; returns what still does."""
        self._ended = True
        return [*self._publishing, *self._answering]

    async def _publish_until_current(self) -> None:
        while self._publish_again:
            self._publish_again = False
            await ignore_outage(self.publish)

    async def remove(self) -> None:
        """Take the process off the list.  Raises RedisError."""
        await self._announce(leaving=True)

    async def _announce(self, *, leaving: bool = False, forget: bool = False) -> tuple[bool, bytes | None]:
        facts = self._facts()
        keys = [WORKERS, BEATS, LETTERS, OUTCOMES]
        for name in self._dispatchers:
            keys += [f"saq:{name}:stats", f"saq:{name}:worker_info:{self._worker_id}"]
        forget_ms = round(_FORGET_SECONDS * 1000) if forget else 0
        ttl_ms = round(self._ttl * 1000)
        entry = b"" if leaving else wire.dump(facts)
        args: list[Argument] = [self._worker_id, entry, ttl_ms, wire.dump(self._saq_info(facts)), forget_ms]
        letters, full, returned, request = await run_script(self._redis, ANNOUNCE_SCRIPT.call(keys, args))
        self.redis_is_full = bool(full)
        if returned and not leaving:
            self._on_returned()
        return bool(letters), request

    def _facts(self) -> dict[str, object]:
        return {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "version": self._version,
            "release": self._release,
            "queues": list(self._dispatchers),
            "in_flight": sum(dispatcher.in_flight for dispatcher in self._dispatchers.values()),
            "standby": [name for name, queue in self._dispatchers.items() if queue.state == "standby"],
            "forget": self._ttl,
            "channel": self._listener.counted,
            "answers": True,
            **self._describe(),
        }

    def _saq_info(self, facts: dict[str, object]) -> dict[str, object]:
        """Return what SAQ's own workers write about themselves, for its web page."""
        settled = sum((dispatcher.settled for dispatcher in self._dispatchers.values()), Counter[str]())
        stats = {
            "complete": settled["complete"],
            "failed": settled["bury"],
            "retried": settled["retry"],
            "aborted": settled["abort"],
            "uptime": round((time.time() - self._started_at) * 1000),
        }
        return {"stats": stats, "queue_key": ",".join(self._dispatchers), "metadata": facts}
