"""Settings of alerts, for instance COUTURECAST_ALERT_BACKLOG or COUTURECAST_ALERT_BACKLOG_FOR."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

from app.errors import SettingsError, UsageError
from app.queue_settings import queue_prefix
from workers.engine.policy import DEFAULT_POLICIES
from workers.monitoring.alert_rules import RULES, AlertRule, Thresholds

_MAX_SECONDS = 86_400.0
_MIN_BASELINE_SECONDS = 0.001
_BASELINES = ("wait", "run")


class _Range(NamedTuple):
    """The values that are allowed, and the fix of others."""

    lowest: float
    highest: float
    fix: str
    whole: bool = False
    percent: bool = False


_SECONDS = _Range(1, _MAX_SECONDS, "use seconds between 1 and 86400, for instance 30")
_BASELINE = _Range(
    _MIN_BASELINE_SECONDS, _MAX_SECONDS, "use seconds between 0.001 and 86400, for instance 0.5"
)
_DURATION = _Range(0, _MAX_SECONDS, "use seconds between 0 and 86400, for instance 30")
_RANGES = {
    "jobs": _Range(1, 1e9, "use a whole number of jobs, for instance 500", whole=True),
    "share": _Range(0.001, 0.999, "use a share between 0.001 and 0.999, or for instance 10%", percent=True),
    # An alert ends at three quarters of its limit, which must not be below the baseline itself.
    "times": _Range(1.5, 1_000, "use a number between 1.5 and 1000, for instance 3"),
    "s": _SECONDS,
}
"""By the unit of the rule."""


class _Variable(NamedTuple):
    """A variable, and what it changes: of ``queue``, or of all if that is None."""

    name: str
    range: _Range
    changes: Literal["limit", "duration", "baseline"]
    of: str
    """The name of a rule, or the kind of a baseline."""
    queue: str | None = None


def load_thresholds(variables: Mapping[str, str]) -> Thresholds:
    """Return the limits in force.  Raises SettingsError with all problems."""
    limits: dict[tuple[str, str | None], float] = {}
    durations: dict[str, float] = {}
    baselines: dict[str, float] = {}
    errors = []
    for variable in _variables():
        text = variables.get(variable.name)
        if not text:
            continue
        value = _number(text.strip(), variable.range)
        if value is None:
            problem = f"{text!r} is not a {variable.changes}"
            errors.append(UsageError(problem, field=variable.name, fix=variable.range.fix))
        elif variable.changes == "baseline":
            baselines[f"{variable.queue}:{variable.of}"] = value
        elif variable.changes == "duration":
            durations[variable.of] = value
        else:
            limits[variable.of, variable.queue] = value
    if errors:
        raise SettingsError(errors)
    return Thresholds(limits, baselines, durations)


def alert_variables() -> list[str]:
    """Return the names of all variables of alerts."""
    return [variable.name for variable in _variables()]


def _variables() -> Iterator[_Variable]:
    rules = [rule for rule in RULES if rule.setting]
    for rule in rules:
        yield _Variable(rule.setting, _RANGES[rule.unit], "limit", rule.name)
    for rule in RULES:
        if rule.for_setting:
            yield _Variable(rule.for_setting, _DURATION, "duration", rule.name)
    for queue in DEFAULT_POLICIES:
        for rule in rules:
            if rule.of_queue:
                yield _Variable(queue_setting(rule, queue), _RANGES[rule.unit], "limit", rule.name, queue)
        for kind in _BASELINES:
            name = f"{queue_prefix(queue)}BASELINE_{kind.upper()}"
            yield _Variable(name, _BASELINE, "baseline", kind, queue)


def queue_setting(rule: AlertRule, queue: str) -> str:
    """Return the variable that changes a rule's limit for one queue."""
    return f"{queue_prefix(queue)}ALERT_{rule.name.upper()}"


def _number(text: str, range_: _Range) -> float | None:
    """Return the value of ``text``, None if it is not a number of the range."""
    is_percentage = range_.percent and text.endswith("%")
    try:
        value = float(text.removesuffix("%")) / 100 if is_percentage else float(text)
    except ValueError:
        return None
    if not range_.lowest <= value <= range_.highest:  # NaN is in no range
        return None
    if range_.whole:
        return int(value) if value.is_integer() else None
    return value
