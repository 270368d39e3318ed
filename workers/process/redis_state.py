"""Whether Redis takes what a process writes, as its dispatchers find out."""

from __future__ import annotations

import structlog
from redis.exceptions import ResponseError

from storage.redis.client import PipelineConnection
from storage.redis.refusals import reason, refusal_of

log = structlog.get_logger(__name__)


class RedisState:
    """``error`` is why Redis does not answer, or refuses; None while it does neither."""

    def __init__(self) -> None:
        self.error: str | None = None

    def on_result(self, pipeline: PipelineConnection, error: Exception | None) -> None:
        """Note the result of a turn, and log each change."""
        if error is None:
            pipeline.confirm_primary()
        text = None if error is None else reason(error)
        if (text is None) != (self.error is None):
            if error is None:
                log.info("Redis answers again")
            else:
                refuses = isinstance(error, ResponseError) or refusal_of(error) is not None
                log.error("Redis refuses" if refuses else "Redis does not answer", error=text)
        self.error = text
