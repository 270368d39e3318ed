"""Text from anywhere, as it may be written to a terminal: shown, never interpreted."""

from __future__ import annotations

_CONTROL = (*range(32), *range(127, 160))
_DIRECTION = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))  # these reorder what stands after them
_ESCAPES = {code: f"\\x{code:02x}" for code in _CONTROL} | {code: f"\\u{code:04x}" for code in _DIRECTION}
_LINES_STAY = {code: escape for code, escape in _ESCAPES.items() if chr(code) != "\n"}


def one_line(text: str) -> str:
    """``text`` on one line, with control characters as escapes."""
    return _printable(text.translate(_ESCAPES))


def lines(text: str) -> str:
    """``text`` with control characters as escapes, but for the ends of lines."""
    return _printable(text.translate(_LINES_STAY))


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
