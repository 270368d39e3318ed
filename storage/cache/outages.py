"""Logs when the cache's Redis becomes unavailable, and when it answers again."""

from __future__ import annotations

from typing import Literal

import structlog

from storage.errors import CacheUnavailableError

log = structlog.get_logger(__name__)

Operation = Literal["reads", "writes"]
"""A server may serve reads and refuse writes, so their outages are apart."""


class OutageLog:
    """Logs each outage once."""

    def __init__(self) -> None:
        self._failing: set[Operation] = set()

    def record_failure(self, operation: Operation, error: CacheUnavailableError) -> None:
        """Note that an operation failed."""
        if operation not in self._failing:
            self._failing.add(operation)
            log.warning("the cache is unavailable: values are loaded", what=operation, error=str(error))

    def record_success(self, operation: Operation) -> None:
        """Note that an operation succeeded."""
        if operation in self._failing:
            self._failing.discard(operation)
            log.info("the cache's Redis answers again", what=operation)
