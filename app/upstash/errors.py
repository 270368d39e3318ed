"""Errors of Upstash's management API."""

from __future__ import annotations

from app.errors import AppError


class UpstashError(AppError):
    """The API cannot be reached, refuses a request, or answers it in an unexpected form."""


class BrokenOffError(UpstashError):
    """The operator broke it off in the middle; the message says what was done."""

    exit_code = 130
