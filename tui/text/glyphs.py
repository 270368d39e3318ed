"""The signs that the screens and tables draw, and what stands for them where a terminal cannot show them.

Text is made of the real signs everywhere.  What a terminal's encoding lacks is replaced on its way out, one
character for another of the same width, so that no layout depends on it.
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
"""Name of the error handler for a screen: what has no ASCII form becomes as many ``?`` as it is wide."""
TEXT_ERRORS = "couturecast-text"
"""Name of the error handler for output: what has no ASCII form is escaped, so that nothing is lost."""

_ASCII = {
    # our signs
    "●": "o", "○": ".", "▲": "!", "‖": "=", "▸": ">", "✓": "v", "✗": "x", "×": "x", "–": "-", "—": "-",
    "·": "|", "…": "~", "→": ">", "•": "*",
    # bars and sparklines
    "░": ".", "▁": "_", "▂": ".", "▃": "-", "▄": ":", "▅": "=", "▆": "+", "▇": "*", "█": "#",
    "▕": "|", "▏": "|",
    # what Textual frames, scrolls and edits with
    "╭": "+", "╮": "+", "╰": "+", "╯": "+", "─": "-", "━": "-", "│": "|", "┃": "|", "═": "=", "║": "|",
    "▔": "-", "▀": "-", "▎": "|", "▌": "|", "▐": "|", "▊": "|", "▉": "|", "▋": "|", "▍": "|", "◐": "o",
    "⏎": "<", "↑": "^", "↓": "v", "←": "<", "▼": "v", "▶": ">", "◀": "<", "⭘": "o", "⌕": "/",
    "\N{NO-BREAK SPACE}": " ",
}  # fmt: skip
_TABLE = (
    dict.fromkeys(range(0x2500, 0x2580), "+")  # what else there is to draw boxes
    | dict.fromkeys(range(0x2580, 0x25A0), "#")  # and blocks
    | {ord(sign): form for sign, form in _ASCII.items()}
)
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]+")


def to_ascii(text: str, escape: Callable[[str], str]) -> str:
    """``text`` with its signs as ASCII, of the same width; ``escape`` makes something of what is no sign."""
    return _BEYOND_ASCII.sub(lambda found: escape(found[0]), text.translate(_TABLE))


def terminal_encoding(stream: TextIO) -> str:
    """The encoding in which the terminal behind ``stream`` is written to.

    Python writes UTF-8 in the C locale too, by assumption.  Where the environment names that locale, or one
    that is not installed, its name decides.  Where it names none, as in many containers, UTF-8 is sent.
    """
    encoding = stream.encoding or "ascii"
    asked_for = os.environ.get("PYTHONUTF8") == "1" or os.environ.get("PYTHONIOENCODING")
    if not sys.flags.utf8_mode or asked_for or not is_utf8(encoding):
        return encoding
    # LC_CTYPE has been set by Python itself in this mode.
    name = os.environ.get("LC_ALL") or os.environ.get("LANG") or ""
    return "ascii" if name and not is_utf8(name.partition(".")[2]) else encoding


def is_utf8(encoding: str) -> bool:
    """Whether an encoding, however it is spelled, is UTF-8."""
    return encoding.lower().replace("-", "").replace("_", "") == "utf8"


def _replacing(escape: Callable[[str], str]) -> Callable[[UnicodeError], tuple[str, int]]:
    def replace(error: UnicodeError) -> tuple[str, int]:
        if not isinstance(error, UnicodeEncodeError):
            raise error
        return to_ascii(error.object[error.start : error.end], escape), error.end

    return replace


def _question_marks(text: str) -> str:
    return "?" * cell_len(text)


def _escaped(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode()


codecs.register_error(SCREEN_ERRORS, _replacing(_question_marks))
codecs.register_error(TEXT_ERRORS, _replacing(_escaped))
