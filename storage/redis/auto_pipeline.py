"""Sends the commands of many concurrent callers in one round trip."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from storage.redis.scripts import Argument

_MAX_CALLERS = 100
"""Callers whose commands share a round trip."""

Commands = Sequence[tuple[Argument, ...]]
Send = Callable[[list[tuple[Argument, ...]]], Awaitable[list[Any]]]
"""Sends commands; the reply of each, an error reply as its exception.  Raises if the connection broke."""


class AutoPipeline:
    """Gathers commands while a round trip is under way, and sends them with the next.

    So one connection is enough, and the busier it is, the less each command costs.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._waiting: list[tuple[Commands, asyncio.Future[list[Any]]]] = []
        self._flush_task: asyncio.Task[None] | None = None

    async def round_trip(self, commands: Commands) -> list[Any]:
        """Return the reply of each command.  Raises what sending raises."""
        replies: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._waiting.append((commands, replies))
        if self._flush_task is None or self._flush_task.done():
            self._flush_task = asyncio.create_task(self._flush())
        return await replies

    async def _flush(self) -> None:
        while self._waiting:
            callers, self._waiting = self._waiting[:_MAX_CALLERS], self._waiting[_MAX_CALLERS:]
            try:
                replies = await self._send([command for commands, _ in callers for command in commands])
            except BaseException as error:  # those who wait would wait as long again, for the same error
                _fail([future for _, future in callers + self._waiting], error)
                self._waiting = []
                if not isinstance(error, Exception):
                    raise
                continue
            _distribute(replies, callers)


def _distribute(replies: list[Any], callers: Sequence[tuple[Commands, asyncio.Future[list[Any]]]]) -> None:
    start = 0
    for commands, future in callers:
        if not future.done():  # the caller may be cancelled
            future.set_result(replies[start : start + len(commands)])
        start += len(commands)


def _fail(futures: Sequence[asyncio.Future[list[Any]]], error: BaseException) -> None:
    for future in futures:
        if future.done():
            continue
        if isinstance(error, Exception):
            future.set_exception(error)
        else:
            future.cancel()
