"""How long to wait before something that failed is tried again."""

from __future__ import annotations

import random
import time

_ESTABLISHED_SECONDS = 1.0
"""A connection that lasted longer than this was a success: proxies close idle connections."""


class Backoff:
    """Delays in seconds that double, from ``first`` to ``longest``.

    ``jitter`` spreads each by that share in both directions, so that many processes do not retry at once.
    """

    def __init__(self, first: float, longest: float, jitter: float = 0.0) -> None:
        self._first = first
        self._longest = longest
        self._jitter = jitter
        self._next = first

    def next(self) -> float:
        """Return the seconds to wait after one more failure."""
        delay = min(self._next, self._longest)
        self._next = min(self._next * 2, self._longest)
        return delay * (1 + random.uniform(-self._jitter, self._jitter))  # noqa: S311 - no secret

    def reset(self) -> None:
        """Start at ``first`` again, after a success."""
        self._next = self._first


class ReconnectBackoff:
    """Delays before a connection is opened again.

    The first retry has no delay, since a server or proxy may close an idle connection at any time.
    """

    def __init__(self, first: float, longest: float) -> None:
        self._delays = Backoff(first, longest)
        self._failed_before = False
        self._started_at = 0.0

    def begin(self) -> None:
        """Note that an attempt starts."""
        self._started_at = time.monotonic()

    def record_success(self) -> None:
        """Note that the attempt has ended well."""
        self._failed_before = False

    def failure_delay(self) -> float:
        """Return the seconds to wait before the next attempt."""
        if time.monotonic() - self._started_at >= _ESTABLISHED_SECONDS:
            self._failed_before = False
        if not self._failed_before:
            self._failed_before = True
            self._delays.reset()
            return 0.0
        return self._delays.next()
