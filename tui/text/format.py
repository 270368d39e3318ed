"""Numbers, durations and text from jobs, as the screens write them.  A missing value is ``–``, never 0."""

from __future__ import annotations

import math
from datetime import UTC, datetime

MISSING = "–"
SMALLEST_TERMINAL = (60, 16)
"""Columns and rows below which a screen cannot be read."""
_CONTROL = (*range(32), *range(127, 160))
_DIRECTION = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))  # these reorder what stands after them
_ESCAPES = {code: f"\\x{code:02x}" for code in _CONTROL} | {code: f"\\u{code:04x}" for code in _DIRECTION}
_AGES = 1e10  # s: three centuries, which nobody has measured
_BLOCKS = " ▁▂▃▄▅▆▇█"


def duration(seconds: float | None) -> str:
    """``4 ms``, ``1.2 s``, ``41 s``, ``1m 58s``, ``3h 05m``, ``2d 04h``."""
    if seconds is None or not math.isfinite(seconds) or abs(seconds) > _AGES:
        return MISSING
    if seconds < 0.9995:
        return f"{round(seconds * 1000)} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 59.5:
        return f"{round(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m {rest:02d}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}h {minutes:02d}m"
    return f"{hours // 24}d {hours % 24:02d}h"


def brief(seconds: float | None, most: int) -> str:
    """`duration` on ``most`` characters: ``59m 59s``, else ``59m59s``, else ``59m``."""
    text = duration(seconds)
    return fit(most, text, text.replace(" ", ""), text.partition(" ")[0])


def instant(at: object, form: str = "%H:%M:%S") -> str:
    """A datetime, or Unix seconds from any record, in UTC; ``–`` where it is no date."""
    try:
        when = at if isinstance(at, datetime) else datetime.fromtimestamp(float(at), UTC)  # type: ignore[arg-type]
        return f"{when.astimezone(UTC):{form}}"
    except (ValueError, TypeError, OverflowError, OSError):
        return MISSING


def number(value: object) -> float | None:
    """``value`` from any record where it is a finite number, else None."""
    try:
        found = float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def percent(share: float | None) -> str:
    """A share from 0 to 1 as ``7.1 %``."""
    return MISSING if share is None else f"{share * 100:.1f} %"


def rate(per_second: float | None) -> str:
    """Jobs a second as ``4.4``, from 100 on without a fraction."""
    if per_second is None:
        return MISSING
    return f"{per_second:.1f}" if per_second < 99.95 else f"{per_second:,.0f}"


def count(number: int | None) -> str:
    """``1,234``."""
    return MISSING if number is None else f"{number:,}"


def short(number: int | None, most: int) -> str:
    """`count` where it has ``most`` characters at the most, else ``12.3k``, ``1.23M``."""
    text = count(number)
    if number is None or len(text) <= most:
        return text
    scaled = ((number / 1000**power, unit) for power, unit in enumerate("kMGT", 1))
    value, unit = next((each for each in scaled if each[0] < 999.5), (number / 1e12, "T"))
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}{unit}"


def size(number: int | None) -> str:
    """Bytes as ``212 MB``, by powers of 1024."""
    if number is None:
        return MISSING
    value = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1024 or unit == "GB":
            return f"{value:.0f} {unit}" if value >= 10 or unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("unreachable")


def sparkline(
    values: list[float | int | None] | tuple[float | int | None, ...],
    width: int,
    *,
    most: float | None = None,
) -> str:
    """The last ``width`` values as blocks, scaled to ``most`` or their greatest; a missing one is a space."""
    shown = list(values)[-width:]
    top = max((value for value in shown if value is not None), default=0) if most is None else most
    cells = [
        " " if value is None else "▁" if top <= 0 or value <= 0 else _BLOCKS[max(1, round(value / top * 8))]
        for value in shown
    ]
    return "".join(cells).rjust(width)


def bar(used: int, of: int, width: int) -> str:
    """``██░░░``."""
    full = 0 if of <= 0 else min(width, -(-used * width // of))
    return "█" * full + "░" * (width - full)


def fit(most: int, *texts: str) -> str:
    """The first of ``texts`` that has ``most`` characters at the most; where none has, the last one, cut."""
    return next((text for text in texts if len(text) <= most), clip(texts[-1], most))


def clip(text: str, most: int) -> str:
    """At most ``most`` characters of ``text``, with ``…`` where something is missing."""
    return text if len(text) <= most else text[: max(0, most - 1)] + "…"


def ends(text: str, most: int) -> str:
    """At most ``most`` characters of ``text``, with ``…`` in its middle: of a key the end matters, too."""
    if len(text) <= most:
        return text
    tail = max(0, most - 1) * 2 // 3
    return f"{text[: max(0, most - 1 - tail)]}…{text[len(text) - tail :]}"[:most]


def safe(text: str) -> str:
    """Text from anywhere on one line: control characters are shown, never sent to the terminal."""
    return text.translate(_ESCAPES).encode("utf-8", "backslashreplace").decode()


def safe_lines(text: str) -> str:
    """Like `safe`, but lines stay lines and tabs become spaces."""
    return "\n".join(safe(line) for line in text.expandtabs(4).split("\n"))
