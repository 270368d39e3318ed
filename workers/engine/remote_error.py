"""An error of a handler that ran in another process."""

from __future__ import annotations

from typing import Any


class RemoteError(Exception):
    """An error that a handler raised in its own process, with the parts that an attempt records of it."""

    def __init__(
        self, error_type: str, message: str, *, traceback: str | None, frame: str | None, permanent: bool
    ) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.message = message
        self.traceback = traceback
        self.frame = frame
        self.permanent = permanent

    @classmethod
    def from_record(cls, record: Any) -> RemoteError:
        """Parse the description by its process; a handler may have written something else there."""
        if not isinstance(record, dict):
            record = {}
        traceback, frame = record.get("traceback"), record.get("frame")
        return cls(
            str(record.get("type", "unknown")),
            str(record.get("message", "")),
            traceback=traceback if isinstance(traceback, str) else None,
            frame=frame if isinstance(frame, str) else None,
            permanent=record.get("permanent") is True,
        )
