"""How long to wait between tries of something that holds a connection for long."""

from __future__ import annotations

import time

_ESTABLISHED_SECONDS = 1.0
"""What lasted as long before it failed had begun well: proxies close connections that are idle."""


class Backoff:
    """Pauses in seconds: none after the first failure, then from ``first`` on, doubled, to ``longest``."""

    def __init__(self, first: float, longest: float) -> None:
        self._first = first
        self._longest = longest
        self._failures = 0
        self._began = 0.0

    def begin(self) -> None:
        """A try begins."""
        self._began = time.monotonic()

    def succeeded(self) -> None:
        """It has ended well."""
        self._failures = 0

    def failed(self) -> float:
        """Seconds to wait before the next try."""
        if time.monotonic() - self._began >= _ESTABLISHED_SECONDS:
            self._failures = 0
        self._failures += 1
        if self._failures == 1:
            return 0.0
        return min(self._longest, self._first * 2.0 ** min(self._failures - 2, 16))
