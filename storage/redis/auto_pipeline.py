"""What many ask for at the same time, sent in one round trip."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from storage.redis.scripts import Argument

_MOST = 100
"""Askers whose commands go together."""

Commands = Sequence[tuple[Argument, ...]]
Send = Callable[[list[tuple[Argument, ...]]], Awaitable[list[Any]]]
"""Sends commands; the reply of each, an error reply as its exception.  Raises where the connection broke."""


class AutoPipeline:
    """While one round trip is under way the commands of all who ask are gathered for the next.

    So one connection is enough, and the busier it is, the less each command costs.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._waiting: list[tuple[Commands, asyncio.Future[list[Any]]]] = []
        self._carrier: asyncio.Task[None] | None = None

    async def round_trip(self, commands: Commands) -> list[Any]:
        """The reply of each command.  Raises what sending raises."""
        replies: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._waiting.append((commands, replies))
        if self._carrier is None or self._carrier.done():
            self._carrier = asyncio.create_task(self._carry())
        return await replies

    async def _carry(self) -> None:
        while self._waiting:
            asked, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
            try:
                replies = await self._send([command for commands, _ in asked for command in commands])
            except BaseException as error:  # whoever waits for the next one would wait as long, for the same
                _fail([future for _, future in asked + self._waiting], error)
                self._waiting = []
                if not isinstance(error, Exception):
                    raise
                continue
            at = 0
            for commands, future in asked:
                if not future.done():  # whoever asked may have gone
                    future.set_result(replies[at : at + len(commands)])
                at += len(commands)


def _fail(futures: Sequence[asyncio.Future[list[Any]]], error: BaseException) -> None:
    for future in futures:
        if future.done():
            continue
        if isinstance(error, Exception):
            future.set_exception(error)
        else:
            future.cancel()
