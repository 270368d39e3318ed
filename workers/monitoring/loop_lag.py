"""Measures how late the event loop runs its timers."""

from __future__ import annotations

import asyncio
from collections import deque

_INTERVAL_SECONDS = 0.1
_MAX_KEPT_MEASUREMENTS = 20
"""More than fit between two snapshots, of a screen or of a scraper."""


class LoopLag:
    """Measures ten times a second, from the first call of `worst` on."""

    def __init__(self) -> None:
        self._newest: deque[float] = deque(maxlen=_MAX_KEPT_MEASUREMENTS)
        self._timer: asyncio.TimerHandle | None = None

    def worst(self) -> float | None:
        """Return the largest delay of the last two seconds, in seconds; None at first."""
        if self._timer is None:
            self._schedule()
        return max(self._newest, default=None)

    def stop(self) -> None:
        """Stop measuring."""
        if self._timer is not None:
            self._timer.cancel()

    def _schedule(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + _INTERVAL_SECONDS
        self._timer = loop.call_at(due, self._measure, due)

    def _measure(self, due: float) -> None:
        self._newest.append(max(0.0, asyncio.get_running_loop().time() - due))
        self._schedule()
