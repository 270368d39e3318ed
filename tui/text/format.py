"""Formats numbers, durations, times and text from jobs.  A missing value is ``–``, never 0."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from workers import percent as shares
from workers.words import BLOCKS

MISSING = "–"
SHORT_TIME_CHARS = 11
"""Characters of the longest time in a narrow column: that of another day, without its seconds."""
SMALLEST_TERMINAL = (60, 16)
"""Columns and rows below which a screen cannot be read."""
_DIRECTION = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_LINES = (0x2028, 0x2029)
CONTROL_CHARACTERS = (*range(32), *range(127, 160), *_DIRECTION, *_LINES)
"""Code points that a terminal obeys: those of ``_DIRECTION`` reorder the characters beside them."""
_ESCAPES = {code: f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" for code in CONTROL_CHARACTERS}
_MAX_DURATION_SECONDS = 1e10
"""Three centuries: a longer duration is a mistake in the record."""
_LOG_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
"""How the log of an attempt writes a time."""


def duration(seconds: float | None, max_chars: int | None = None) -> str:
    """Return ``4 ms``, ``1.2 s``, ``41 s``, ``1 min 58 s``, ``3 h 5 min``, ``2 d 4 h``.

    With ``max_chars`` shortened to fit: ``1m 58s``, else ``1m58s``, else ``1m``.
    """
    parts = _duration_parts(seconds)
    words = " ".join(f"{value} {unit}" for value, unit in parts) or MISSING
    if max_chars is None:
        return words
    short = [f"{value}{unit[0] if unit != 'ms' else unit}" for value, unit in parts] or [MISSING]
    if len(parts) == 2:
        short[1] = short[1].rjust(3, "0")
        return first_fitting(max_chars, words, " ".join(short), "".join(short), short[0])
    if parts and "." in parts[0][0]:
        short.append(f"{round(float(parts[0][0]))}s")
    return first_fitting(max_chars, words, *short)


def _duration_parts(seconds: float | None) -> list[tuple[str, str]]:
    """Return the two greatest units with their numbers, or one of them; empty if the duration is unknown."""
    if seconds is None or not math.isfinite(seconds) or abs(seconds) > _MAX_DURATION_SECONDS:
        return []
    if seconds < 0.9995:
        return [(str(round(seconds * 1000)), "ms")]
    if seconds < 59.5:
        return [(f"{seconds:.1f}" if seconds < 9.95 else str(round(seconds)), "s")]
    whole = round(seconds)
    sizes = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
    first = next(index for index, (_, size) in enumerate(sizes) if whole >= size)
    (unit, size), (smaller_unit, smaller) = sizes[first : first + 2]
    parts = [(str(whole // size), unit), (str(whole % size // smaller), smaller_unit)]
    return parts if parts[1][0] != "0" else parts[:1]


def long_duration(seconds: float | None) -> str:
    """Return a duration in a sentence: ``310 ms``, ``1 s``, ``31 s``, ``4 min``, ``3 h 20 min``, ``2 d``."""
    if seconds is None or not math.isfinite(seconds) or abs(seconds) > _MAX_DURATION_SECONDS:
        return MISSING
    if seconds < 59.5:
        return f"{round(seconds)} s" if seconds >= 0.9995 else duration(seconds)
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {rest} min" if rest else f"{hours} h"
    return f"{hours // 24} d"


def clock_time(time: object, now: float | None = None, max_chars: int | None = None) -> str:
    """Return ``14:32:07``, on another day than ``now`` ``2026-03-01 14:32:07`` or ``03-01 14:32``.

    ``now`` is in Unix seconds, None is this moment.  See `local_time` for times and their zone.
    """
    when = _parse_time(time)
    if when is None:
        return MISSING
    today = datetime.now().astimezone() if now is None else _parse_time(now)
    if today is not None and when.date() == today.date():
        return f"{when:%H:%M:%S}"
    whole = f"{when:%Y-%m-%d %H:%M:%S}"
    return whole if max_chars is None else first_fitting(max_chars, whole, f"{when:%m-%d %H:%M}")


def local_log(lines: Iterable[str]) -> list[str]:
    """Return log lines, which begin with a time in UTC, with it in the terminal's zone."""
    return [_local_line(line) for line in lines]


def _local_line(line: str) -> str:
    time, _, rest = line.partition(" ")
    if _LOG_TIME.fullmatch(time) is None:
        return line
    try:
        return f"{clock_time(datetime.fromisoformat(time))} {rest}"
    except ValueError:
        return line


def minute_time(time: object, now: float) -> str:
    """Return ``14:32``, on another day than ``now`` ``03-01 14:32``."""
    today = local_time(time, "%F") == local_time(now, "%F")
    return local_time(time, "%H:%M" if today else "%m-%d %H:%M")


def local_time(time: object, form: str = "%H:%M:%S") -> str:
    """Write a datetime, or any Unix seconds, in the terminal's zone; ``–`` if it is not a time.

    The environment's ``TZ`` names the zone, else the system does.
    """
    when = _parse_time(time)
    return MISSING if when is None else f"{when:{form}}"


def utc_offset(time: float) -> float:
    """Return the seconds by which the terminal's zone is ahead of UTC at a Unix second."""
    when = _parse_time(time)
    offset = when.utcoffset() if when is not None else None
    return offset.total_seconds() if offset is not None else 0.0


def _parse_time(time: object) -> datetime | None:
    try:
        when = time if isinstance(time, datetime) else datetime.fromtimestamp(float(time), UTC)  # type: ignore[arg-type]
        return when.astimezone()
    except (ValueError, TypeError, OverflowError, OSError):
        return None


def number(value: object) -> float | None:
    """Return ``value`` from any record if it is a finite number, else None."""
    try:
        result = float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        return None
    return result if math.isfinite(result) else None


def percent(share: float | None, digits: int = 1) -> str:
    """Return a share from 0 to 1 as ``7.1 %``."""
    return MISSING if share is None else shares.percent(share, digits)


def rate(per_second: float | None) -> str:
    """Write jobs a second as ``4.4``, from 100 on without a fraction."""
    if per_second is None:
        return MISSING
    return f"{per_second:.1f}" if per_second < 99.95 else f"{per_second:,.0f}"


def count(number: int | None, max_chars: int | None = None) -> str:
    """Return ``1,234``; if that is longer than ``max_chars``, ``12.3k`` or ``1.23M``."""
    text = MISSING if number is None else f"{number:,}"
    if number is None or max_chars is None or len(text) <= max_chars:
        return text
    scaled = ((number / 1000**power, unit) for power, unit in enumerate("kMGT", 1))
    value, unit = next(((value, unit) for value, unit in scaled if value < 999.5), (number / 1e12, "T"))
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}{unit}"


def byte_size(number: int | None) -> str:
    """Write bytes as ``212 MB``, by powers of 1024."""
    if number is None:
        return MISSING
    value = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1024 or unit == "GB":
            return f"{value:.0f} {unit}" if value >= 10 or unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("unreachable")


def sparkline(values: Sequence[float | int | None], width: int, *, scale: float | None = None) -> str:
    """Return the last ``width`` values as blocks, scaled to ``scale`` or the greatest.

    A missing one is a space.
    """
    newest = values[-width:]
    top = max((value for value in newest if value is not None), default=0) if scale is None else scale
    cells = [
        " " if value is None else "▁" if top <= 0 or value <= 0 else BLOCKS[max(1, round(value / top * 8))]
        for value in newest
    ]
    return "".join(cells).rjust(width)


def gauge(used: int, limit: int, width: int) -> str:
    """Return ``██░░░``."""
    full = 0 if limit <= 0 else min(width, -(-used * width // limit))
    return "█" * full + "░" * (width - full)


def first_fitting(max_chars: int, *texts: str) -> str:
    """Return the first of ``texts`` with at most ``max_chars`` characters, else the last one, clipped."""
    return next((text for text in texts if len(text) <= max_chars), clip(texts[-1], max_chars))


def clip(text: str, max_chars: int) -> str:
    """Return at most ``max_chars`` characters of ``text``; ``…`` at the end stands for the rest."""
    return text if len(text) <= max_chars else text[: max(0, max_chars - 1)] + "…"


def clip_middle(text: str, max_chars: int) -> str:
    """Return at most ``max_chars`` characters of ``text``.

    ``…`` in its middle, since a key's end matters, too.
    """
    if len(text) <= max_chars:
        return text
    tail = max(0, max_chars - 1) * 2 // 3
    return f"{text[: max(0, max_chars - 1 - tail)]}…{text[len(text) - tail :]}"[:max_chars]


def escape(text: str) -> str:
    """Write text from anywhere on one line.

    Control characters are escaped, so that no terminal obeys them.
    """
    return text.translate(_ESCAPES).encode("utf-8", "backslashreplace").decode()


def escape_lines(text: str) -> str:
    """Like `escape`, but lines stay lines and tabs become spaces."""
    return "\n".join(escape(line) for line in text.expandtabs(4).split("\n"))
