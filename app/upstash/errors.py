"""Errors of Upstash's management API."""

from __future__ import annotations

from app.errors import AppError


class UpstashError(AppError):
    """The API cannot be reached, refuses a request, or answers it in an unexpected form."""
