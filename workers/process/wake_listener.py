"""Listens for messages of other processes; the same subscription shows them that this one lives."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError

from storage.backoff import ReconnectBackoff
from storage.redis.client import execute
from workers.engine.dispatcher import Dispatcher
from workers.engine.keys import PROCESS, WAKE_CHANNEL

log = structlog.get_logger(__name__)

_RECONNECT_SECONDS = (0.1, 2.0)
"""Seconds between tries to subscribe again: the first, and the longest."""


class WakeListener:
    """Wakes ``dispatchers`` when a queue was resumed, a delayed job was enqueued, or a standby can take over.

    The process is subscribed to a channel of its own, too, so that its end is known as soon as its connection
    closes.  ``on_subscribed`` is called after each subscription, and if the first one fails; ``on_request``
    with each message on that channel.
    """

    def __init__(
        self,
        redis: Redis,
        subscriber: Redis,
        worker_id: str,
        dispatchers: Mapping[str, Dispatcher],
        *,
        on_subscribed: Callable[[], Awaitable[None]],
        on_request: Callable[[bytes], Awaitable[None]],
    ) -> None:
        self.counted: bool | None = None
        """Whether Redis counts this process among the subscribers of its own channel; None before the first
        subscription."""
        self._redis = redis
        self._subscriber = subscriber
        self._channel = f"{PROCESS}{worker_id}"
        self._subscriptions = [WAKE_CHANNEL, self._channel]
        self._dispatchers = dispatchers
        self._on_subscribed = on_subscribed
        self._on_request = on_request

    async def run(self) -> None:
        """Listen, and subscribe again when the connection breaks; until it is cancelled."""
        backoff = ReconnectBackoff(*_RECONNECT_SECONDS)
        while True:
            backoff.begin()
            try:
                async with self._subscriber.pubsub() as channel:
                    await channel.subscribe(*self._subscriptions)
                    async for message in channel.listen():
                        await self._handle(message)
            except (RedisError, OSError) as error:
                log.debug("the subscription broke", error=repr(error))
                is_denied = isinstance(error, NoPermissionError)
                if is_denied:
                    self._subscriptions = [WAKE_CHANNEL]  # a user may have a right to the one channel only
                pause = backoff.failure_delay()
                await self._note_broken(again=pause > 0 or is_denied)
                await asyncio.sleep(pause)

    async def _note_broken(self, *, again: bool) -> None:
        if self.counted is not None:
            self.counted = False
        elif again:  # the first subscription fails, too: without a word it would soon count as gone
            self.counted = False
            await self._on_subscribed()

    async def _handle(self, message: Mapping[str, Any]) -> None:
        own = message["channel"] == self._channel.encode()
        if message["type"] == "subscribe" and own:
            await self._check_channel()
            await self._on_subscribed()
        elif message["type"] == "subscribe":
            for dispatcher in self._dispatchers.values():
                dispatcher.wake()  # messages may have been missed since
        elif message["type"] == "message" and own:
            await self._on_request(message["data"])
        elif message["type"] == "message":
            name, _, leases_exist = message["data"].decode(errors="replace").partition(" ")
            if name in self._dispatchers:
                dispatcher = self._dispatchers[name]
                dispatcher.recovery.schedule_check() if leases_exist else dispatcher.wake()

    async def _check_channel(self) -> None:
        """Find out, on another connection, whether Redis counts this subscription: not every server does."""
        try:
            reply = await execute(self._redis, "PUBSUB", "NUMSUB", self._channel)
            self.counted = int(reply[1]) > 0
        except (RedisError, OSError, ValueError, TypeError, LookupError) as error:
            log.debug("presence is not counted", error=repr(error))
            self.counted = False
