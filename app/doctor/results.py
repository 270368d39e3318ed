"""What a check found: how it stands, what follows, how to mend it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from app.doctor.redaction import concealed
from storage.errors import StorageError

State = Literal["ok", "warning", "wrong", "unknown"]


@dataclass(frozen=True, slots=True)
class Finding:
    """``finding`` is what there is; ``consequence`` and ``mend`` are empty where nothing is amiss."""

    state: State
    finding: str
    consequence: str = ""
    mend: str = ""


@dataclass(frozen=True, slots=True)
class Item:
    """What one check of a group found."""

    group: str
    check: str
    found: Finding

    def document(self) -> dict[str, str | None]:
        """For JSON."""
        found = self.found
        return {
            "check": self.check,
            "group": self.group,
            "state": found.state,
            "finding": found.finding,
            "consequence": found.consequence or None,
            "mend": found.mend or None,
        }


def ok(finding: str) -> Finding:
    """As it should be."""
    return Finding("ok", finding)


def warning(finding: str, consequence: str, mend: str) -> Finding:
    """It works; somebody should know."""
    return Finding("warning", finding, consequence, mend)


def wrong(finding: str, consequence: str, mend: str) -> Finding:
    """The product does not work so, or loses jobs."""
    return Finding("wrong", finding, consequence, mend)


def unknown(finding: str, mend: str = "") -> Finding:
    """It could not be found out, which is no failure."""
    return Finding("unknown", finding, "", mend)


def number_of(state: State, items: Iterable[Item]) -> int:
    """How many of ``items`` are in ``state``."""
    return sum(item.found.state == state for item in items)


def cause_of(error: BaseException) -> str:
    """An error in one line, without secrets; of a statement the driver's, without the statement."""
    line = _line(error) or type(error).__name__
    if not isinstance(error, StorageError):
        return concealed(line)
    cause = error.__cause__  # our own words around somebody else's
    theirs = "" if cause is None else _line(cause)
    if cause is None or theirs in line:
        return line.replace(theirs, cause_of(cause)) if cause is not None and theirs else line
    return concealed(line)


def _line(error: BaseException) -> str:
    return " ".join(str(getattr(error, "orig", None) or error).split())
