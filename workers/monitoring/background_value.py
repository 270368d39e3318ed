"""Something slow that is looked at in the background, so that nobody waits for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")

INTERVAL = 5.0
"""Seconds from the beginning of one look to that of the next."""
PATIENCE = 2.0
"""Seconds that an answer may take: what is silent for longer counts as away."""
_PARTING = 0.5  # s: what a look that is broken off gets to put its connection away


class BackgroundValue(Generic[T]):
    """Asks ``ask`` now and then, never twice at the same time; ``answer`` and ``error`` are of the last time.

    What ``ask`` raises is ``error``, and then ``answer`` is None.
    """

    def __init__(self, ask: Callable[[], Awaitable[T]]) -> None:
        self.answer: T | None = None
        self.error: str | None = None
        self.known = asyncio.Event()
        """Set once there is an answer, or an error."""
        self._ask = ask
        self._due = 0.0
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Look, where it is time and the look before has ended."""
        if self._task is None and time.monotonic() >= self._due:
            self._due = time.monotonic() + INTERVAL
            self._task = asyncio.create_task(self._look())

    def look_again(self) -> None:
        """What is known may be out of date: the next `begin` looks."""
        self._due = 0.0

    async def close(self) -> None:
        """Break off the look that is under way; there is none after it."""
        self._due = float("inf")
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=_PARTING)

    async def _look(self) -> None:
        # Said at once, not only when the cancellation has been carried out: a driver may hang in that too.
        limit = asyncio.get_running_loop().call_later(PATIENCE, self._give_up)
        try:
            answer = await self._ask()
        except Exception as error:
            self._learn(None, " ".join(str(error).split()) or type(error).__name__)
        else:
            self._learn(answer, None)
        finally:
            limit.cancel()
            self._task = None

    def _give_up(self) -> None:
        self._learn(None, f"no answer for {PATIENCE:g} s")
        if self._task is not None:
            self._task.cancel()

    def _learn(self, answer: T | None, error: str | None) -> None:
        self.answer, self.error = answer, error
        self.known.set()
