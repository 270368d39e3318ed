"""What goes wrong with Upstash's management API."""

from __future__ import annotations

from app.errors import AppError


class UpstashError(AppError):
    """It cannot be reached, refuses, or answers what it should not; the message says what to do."""
