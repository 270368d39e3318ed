"""The lines of a stream that are enqueued, so that it can be continued after an error."""

from __future__ import annotations

from collections import deque


class PendingLines:
    """Counts the lines of a stream of jobs, one a line."""

    def __init__(self, first_line: int) -> None:
        self.first_line = first_line
        """Lines before it are skipped."""
        self.line = 0
        """Number of the line that was read last."""
        self._pending: deque[int] = deque()
        """Lines whose jobs are not known to be enqueued."""

    @property
    def next_line(self) -> int:
        """The line with which another run is to begin: the wrong one, if a line is."""
        return max(self.first_line, self._pending[0] if self._pending else self.line)

    def add(self) -> None:
        """Note that the line that was read last holds a job."""
        self._pending.append(self.line)

    def confirm(self, jobs: int) -> list[int]:
        """Note that the next ``jobs`` are enqueued; returns their lines."""
        return [self._pending.popleft() for _ in range(jobs)]
