"""Writes shares, the same on every screen, in every message and table."""

from __future__ import annotations


def percent(share: float, digits: int | None = 1) -> str:
    """Return a share from 0 to 1 as ``7.1 %``; ``digits`` None: as many as it has, at most six."""
    return f"{share * 100:g} %" if digits is None else f"{share * 100:.{digits}f} %"
