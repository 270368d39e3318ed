"""Numbers, durations and text from jobs, as the screens write them.  A missing value is ``–``, never 0."""

from __future__ import annotations

MISSING = "–"
SMALLEST_TERMINAL = (60, 16)
"""Columns and rows below which a screen cannot be read."""
_CONTROL = {code: chr(0x2400 + code) for code in range(32)} | {127: "␡"}
_CONTROL |= {code: f"\\x{code:02x}" for code in range(128, 160)}
_BLOCKS = " ▁▂▃▄▅▆▇█"


def duration(seconds: float | None) -> str:
    """``4 ms``, ``1.2 s``, ``41 s``, ``1m 58s``, ``3h 05m``, ``2d 04h``."""
    if seconds is None:
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


def sparkline(values: list[float | int | None] | tuple[float | int | None, ...], width: int) -> str:
    """The last ``width`` values as blocks, scaled to their greatest; a missing one is a space."""
    shown = list(values)[-width:]
    top = max((value for value in shown if value is not None), default=0)
    cells = [
        " " if value is None else "▁" if top <= 0 or value <= 0 else _BLOCKS[max(1, round(value / top * 8))]
        for value in shown
    ]
    return "".join(cells).rjust(width)


def bar(used: int, of: int, width: int) -> str:
    """``██░░░``."""
    full = 0 if of <= 0 else min(width, -(-used * width // of))
    return "█" * full + "░" * (width - full)


def safe(text: str) -> str:
    """Text from a job on one line: control characters are shown, never sent to the terminal."""
    return text.translate(_CONTROL).encode("utf-8", "backslashreplace").decode()


def safe_lines(text: str) -> str:
    """Like `safe`, but lines stay lines and tabs become spaces."""
    return "\n".join(safe(line) for line in text.expandtabs(4).split("\n"))
