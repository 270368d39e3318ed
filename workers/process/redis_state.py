"""Whether Redis takes what a process writes, as its dispatchers find out."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog
from redis.exceptions import ResponseError

from storage.redis.pipeline import PipelineConnection
from storage.redis.refusals import reason, refusal_of
from workers.monitoring.snapshot import RedisOutage

log = structlog.get_logger(__name__)


class RedisState:
    """``error`` is why Redis does not answer, or refuses; None while it does neither.

    ``on_recovered`` is called when it answers again.
    """

    def __init__(self, on_recovered: Callable[[], None]) -> None:
        self._on_recovered = on_recovered
        self.error: str | None = None
        self._failing_since = 0.0
        """When the first of the turns in succession failed, by the monotonic clock."""

    @property
    def outage(self) -> RedisOutage | None:
        """The error, and for how long turns have failed; None while they do not."""
        if self.error is None:
            return None
        return RedisOutage(self.error, time.monotonic() - self._failing_since)

    def on_result(self, pipeline: PipelineConnection, error: Exception | None) -> None:
        """Note the result of a turn, and log each change."""
        if error is None:
            pipeline.confirm_primary()
        text = None if error is None else reason(error)
        if (text is None) != (self.error is None):
            if error is None:
                log.info("Redis answers again")
                self._on_recovered()
            else:
                self._failing_since = time.monotonic()
                refuses = isinstance(error, ResponseError) or refusal_of(error) is not None
                log.error("Redis refuses" if refuses else "Redis does not answer", error=text)
        self.error = text
