"""Escapes exported documents, since jobs may put control characters into them and terminals obey those."""

from __future__ import annotations

from tui.text.format import CONTROL_CHARACTERS, escape_lines

_JSON_ESCAPES = {code: f"\\u{code:04x}" for code in CONTROL_CHARACTERS if chr(code) not in "\t\n"}
_RECORD_END = "\r\n"


def escape_piece(piece: str, form: str) -> str:
    """Return a piece of an export without control characters; the JSON in it stays valid."""
    if form == "markdown":
        return escape_lines(piece)
    return _RECORD_END.join(line.translate(_JSON_ESCAPES) for line in piece.split(_RECORD_END))
