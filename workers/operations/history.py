"""Reads the history of queues: any figure over the last minutes to a day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from workers.engine.history import History
from workers.engine.queue import JobQueue
from workers.monitoring.charts import FIGURES, MAX_RANGE_SECONDS, OldHistoryReader, Series, series
from workers.monitoring.snapshot_reader import SnapshotReader

__all__ = ["FIGURES", "MAX_RANGE_SECONDS", "History", "HistoryOperations", "Series", "series"]


class HistoryOperations:
    """The points of the last three hours are those of the snapshots: reading them costs no command."""

    def __init__(self, queues: Mapping[str, JobQueue], snapshots: SnapshotReader) -> None:
        self._snapshots = snapshots
        self._old = {name: OldHistoryReader(queue.redis) for name, queue in queues.items()}

    async def histories(self, queues: Sequence[str], seconds: float) -> dict[str, History]:
        """Return the history of each of these queues, as of the newest snapshot; empty before the first one.

        Raises RedisError if older points are needed and Redis is unavailable.
        """
        histories = {name: self._snapshots.history(name) for name in queues}
        return {
            name: await self._old[name].extend(name, history, seconds)
            for name, history in histories.items()
            if history is not None
        }
