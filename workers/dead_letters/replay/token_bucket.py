"""Limits the rate of a replay."""

from __future__ import annotations

_BURST_SECONDS = 0.25
"""Seconds of the rate that may be sent at once."""


class TokenBucket:
    """A token a letter; unused tokens do not accumulate beyond a burst."""

    def __init__(self) -> None:
        self._tokens = 1.0
        self._filled_at: float | None = None

    def available(self, rate: float, clock: float) -> int:
        """Return how many letters ``rate`` a second allows now, in seconds of any clock that only rises."""
        passed = 0.0 if self._filled_at is None else clock - self._filled_at
        self._tokens = min(self._tokens + passed * rate, max(1.0, rate * _BURST_SECONDS))
        self._filled_at = clock
        return int(self._tokens)

    def take(self, letters: int) -> None:
        """Remove the tokens of letters that were sent."""
        self._tokens -= letters
