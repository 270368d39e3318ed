"""The signs of screens and tables, and their ASCII forms for terminals that cannot show them.

Text is made of the real signs everywhere.  Signs that a terminal's encoding lacks are replaced when they are
written.  The replacements have the same width, so no layout depends on the encoding.
"""

from __future__ import annotations

import codecs
import os
import re
import sys
from collections.abc import Callable
from typing import TextIO

from rich.cells import cell_len

SCREEN_ERRORS = "couturecast-screen"
"""Name of the error handler for a screen: a character without an ASCII form becomes ``?``, in its width."""
TEXT_ERRORS = "couturecast-text"
"""Name of the error handler for output: a character without an ASCII form is escaped, so nothing is lost."""

_ASCII = {
    # our signs
    "●": "o", "◐": "%", "◌": "_", "✔": "*", "✕": "x", "↻": "@", "◆": "+", "┄": "-", "━": "=",
    "○": ".", "■": "#", "▲": "!", "‖": "=", "▸": ">", "✓": "v", "✗": "x", "×": "x", "–": "-", "—": "-",
    "·": "|", "…": "~", "→": ">", "•": "*",
    # bars and sparklines
    "░": ".", "▁": "_", "▂": ".", "▃": "-", "▄": ":", "▅": "=", "▆": "+", "▇": "*", "█": "#",
    "▕": "|", "▏": "|",
    # Textual's frames, scroll bars and inputs
    "╭": "+", "╮": "+", "╰": "+", "╯": "+", "─": "-", "│": "|", "┃": "|", "═": "=", "║": "|",
    "▔": "-", "▀": "-", "▎": "|", "▌": "|", "▐": "|", "▊": "|", "▉": "|", "▋": "|", "▍": "|",
    "⏎": "<", "↑": "^", "↓": "v", "←": "<", "▼": "v", "▶": ">", "◀": "<", "⭘": "o", "⌕": "/",
    "\N{NO-BREAK SPACE}": " ",
}  # fmt: skip
_TABLE = (
    dict.fromkeys(range(0x2500, 0x2580), "+")  # other box drawing characters
    | dict.fromkeys(range(0x2580, 0x25A0), "#")  # and block elements
    | {ord(sign): form for sign, form in _ASCII.items()}
)
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]+")


def to_ascii(text: str, escape: Callable[[str], str]) -> str:
    """Replace signs by ASCII of the same width; ``escape`` replaces characters that are not signs."""
    return _BEYOND_ASCII.sub(lambda match: escape(match[0]), text.translate(_TABLE))


def terminal_encoding(stream: TextIO) -> str:
    """Return the encoding of the terminal behind ``stream``.

    Python also assumes UTF-8 in the C locale.  If the environment names that locale, or one that is not
    installed, its name decides.  If it names none, as in many containers, the encoding is UTF-8.
    """
    encoding = stream.encoding or "ascii"
    forced = os.environ.get("PYTHONUTF8") == "1" or os.environ.get("PYTHONIOENCODING")
    if not sys.flags.utf8_mode or forced or not is_utf8(encoding):
        return encoding
    # In this mode Python itself has set LC_CTYPE.
    name = os.environ.get("LC_ALL") or os.environ.get("LANG") or ""
    return "ascii" if name and not is_utf8(name.partition(".")[2]) else encoding


def is_utf8(encoding: str) -> bool:
    """Return whether an encoding, however it is spelled, is UTF-8."""
    return encoding.lower().replace("-", "").replace("_", "") == "utf8"


def _replacer(escape: Callable[[str], str]) -> Callable[[UnicodeError], tuple[str, int]]:
    def replace(error: UnicodeError) -> tuple[str, int]:
        if not isinstance(error, UnicodeEncodeError):
            raise error
        return to_ascii(error.object[error.start : error.end], escape), error.end

    return replace


def _question_marks(text: str) -> str:
    return "?" * cell_len(text)


def _escape(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode()


codecs.register_error(SCREEN_ERRORS, _replacer(_question_marks))
codecs.register_error(TEXT_ERRORS, _replacer(_escape))
