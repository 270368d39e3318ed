"""Errors of Upstash's management API."""

from __future__ import annotations

from app.errors import AppError


class UpstashError(AppError):
    """The API cannot be reached, refuses a request, or answers it in an unexpected form."""


class BrokenOffError(UpstashError):
    """The operator interrupted the changes; the message lists those that were made."""

    exit_code = 130
