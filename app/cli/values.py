"""Values of options and arguments that commands check themselves."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from app.errors import UsageError
from storage.errors import InvalidFilterError
from workers.engine.json_input import parse_object
from workers.errors import InvalidJsonError


def json_object(text: str | bytes, source: str) -> dict[str, Any]:
    """Return the object that ``text`` is; an error names ``source``.  Raises UsageError."""
    try:
        return parse_object(text)
    except InvalidJsonError as error:
        raise UsageError(str(error), field=source) from None


def percentage(text: str | None, option: str) -> float | None:
    """Parse ``20`` or ``20%`` as a share from 0 to 1.  Raises UsageError."""
    from workers.operations.selection import parse_percent

    if text is None:
        return None
    try:
        return parse_percent(text)
    except InvalidFilterError as error:
        raise UsageError(error.problem, field=option, fix=error.fix) from None


def duration_seconds(text: str, option: str) -> int:
    """Parse ``30m``, ``1h`` or ``2d`` in seconds.  Raises UsageError."""
    from storage.dead_letters.filters import parse_duration
    from workers.operations.alerts import MAX_SILENCE_SECONDS

    seconds = parse_duration(text)
    if seconds is None or not 0 < seconds <= MAX_SILENCE_SECONDS:
        raise UsageError(repr(text), field=option, fix="use a time up to 30d, for instance 30m, 1h or 2d")
    return seconds


def name_and_value(text: str) -> tuple[str, str]:
    """Split ``city=lisboa`` into its two parts.  Raises UsageError."""
    name, equals, value = text.partition("=")
    if not (equals and name and value):
        raise UsageError(repr(text), field="--arg", fix="use NAME=VALUE, for instance --arg city=lisboa")
    return name, value


def utf8(text: str, option: str) -> str:
    """Return ``text`` as it is.  Raises UsageError if it cannot be sent to Redis."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError("not UTF-8", field=option, fix="copy it from cache list") from None
    return text


def check_choice(value: str, names: Collection[str], option: str) -> None:
    """Raises UsageError unless ``value`` is one of ``names``."""
    if value not in names:
        raise UsageError(repr(value), field=option, fix=f"use {one_of(names)}")


def one_of(names: Collection[str]) -> str:
    """Return ``a, b or c``."""
    *first, last = names
    return f"{', '.join(first)} or {last}"
