"""Results of checks: the state, what was found, its consequence, the fix."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from app.doctor.redaction import redact
from storage.errors import ApplianceError, one_line

State = Literal["ok", "warning", "wrong", "unknown"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check; ``consequence`` and ``fix`` are empty if all is well."""

    state: State
    text: str
    consequence: str = ""
    fix: str = ""
    is_silent: bool = False
    """Whether the server did not answer."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """A finding with the group and the name of its check."""

    group: str
    check: str
    finding: Finding

    def document(self) -> dict[str, str | None]:
        """Return the result for JSON."""
        finding = self.finding
        return {
            "check": self.check,
            "group": self.group,
            "state": finding.state,
            "finding": finding.text,
            "consequence": finding.consequence or None,
            "mend": finding.fix or None,
        }


def ok(text: str) -> Finding:
    """Return the finding of a check that passed."""
    return Finding("ok", text)


def warning(text: str, consequence: str, fix: str) -> Finding:
    """Return a finding that an operator should read, although the product works."""
    return Finding("warning", text, consequence, fix)


def wrong(text: str, consequence: str, fix: str) -> Finding:
    """Return a finding that keeps the product from working, or makes it lose jobs."""
    return Finding("wrong", text, consequence, fix)


def unknown(text: str, fix: str = "") -> Finding:
    """Return the finding of a check that was not possible, which is not a failure."""
    return Finding("unknown", text, "", fix)


def count_in_state(state: State, results: Iterable[CheckResult]) -> int:
    """Count the results in ``state``."""
    return sum(result.finding.state == state for result in results)


def describe_cause(error: BaseException) -> str:
    """Describe any error in one line without secrets; a failed SQL statement is left out."""
    line = _driver_line(error)
    return _redact_quote(line, error.__cause__) if isinstance(error, ApplianceError) else redact(line)


def describe_problem(error: ApplianceError) -> str:
    """Describe an error of ours as `describe_cause` does, without its fix."""
    return _redact_quote(": ".join(filter(None, (error.field, error.problem))), error.__cause__)


def _redact_quote(line: str, cause: BaseException | None) -> str:
    """Redact what an error of ours quotes of its cause, and leave our own words as they are."""
    if cause is None:
        return line
    quote = _driver_line(cause)
    return line.replace(quote, describe_cause(cause)) if quote in line else redact(line)


def _driver_line(error: BaseException) -> str:
    return one_line(getattr(error, "orig", None) or error)
