"""The state that the parts of the canned operations share."""

from __future__ import annotations

from typing import Any

from workers.monitoring.snapshot import Snapshot


class CannedRecord:
    """The snapshot that is answered, what was asked to be done, and the error that is raised, if any."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.now = snapshot
        self.done: list[tuple[Any, ...]] = []
        self.read_only = False
        self.error: Exception | None = None
