"""Escapes what a database refuses in values that come from jobs."""

from __future__ import annotations

import math
from typing import Any, TypeVar

T = TypeVar("T")

_MAX_DEPTH = 100
_MAX_INTEGER_BITS = 14_000  # Python writes no more than 4,300 digits


def sanitize(value: T) -> T:
    """Return ``value`` with NUL and lone surrogates escaped, and NaN, infinities and huge integers as text.

    It descends into dictionaries, lists and tuples; those below 100 levels are replaced by their ``repr``.
    """
    result: T = _sanitize(value, 0)
    return result


def _sanitize(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return _escape(value)
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if isinstance(value, int) and value.bit_length() > _MAX_INTEGER_BITS:
        return hex(value)
    if isinstance(value, dict | list | tuple):
        if depth >= _MAX_DEPTH:
            return _escape(_safe_repr(value))
        if isinstance(value, dict):
            return {_escape(str(key)): _sanitize(item, depth + 1) for key, item in value.items()}
        return [_sanitize(item, depth + 1) for item in value]
    return value


def _safe_repr(value: Any) -> str:
    try:
        return repr(value)
    except (RecursionError, ValueError):
        return f"<{type(value).__name__}, nested too deeply to be shown>"


def _escape(value: str) -> str:
    if "\0" in value:
        value = value.replace("\0", "\\x00")
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", "backslashreplace").decode()
    return value
