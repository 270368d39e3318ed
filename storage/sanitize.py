"""Text from jobs may hold what a database refuses; it is written visibly, and nothing else is changed."""

from __future__ import annotations

import math
from typing import Any, TypeVar

T = TypeVar("T")

_MAX_DEPTH = 100
_MAX_BITS = 14_000  # of an integer: Python writes no more than 4,300 digits


def sanitize(value: T) -> T:
    """``value`` with NUL and lone surrogates escaped, and NaN, infinities and huge integers as text.

    Dictionaries, lists and tuples are gone through; what lies deeper than 100 levels becomes its ``repr``.
    """
    result: T = _storable(value, 0)
    return result


def _storable(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if isinstance(value, int) and value.bit_length() > _MAX_BITS:
        return hex(value)
    if isinstance(value, dict | list | tuple):
        if depth >= _MAX_DEPTH:
            return _text(_shown(value))
        if isinstance(value, dict):
            return {_text(str(key)): _storable(item, depth + 1) for key, item in value.items()}
        return [_storable(item, depth + 1) for item in value]
    return value


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except (RecursionError, ValueError):
        return f"<{type(value).__name__}, nested too deeply to be shown>"


def _text(value: str) -> str:
    if "\0" in value:
        value = value.replace("\0", "\\x00")
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", "backslashreplace").decode()
    return value
