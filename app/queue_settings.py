"""Settings of single queues, for instance COUTURECAST_ALERT_FANOUT_RATE_LIMIT."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from app.environment import PREFIX
from app.errors import SettingsError, UsageError
from app.redis_url import check_redis_url
from storage.validation import FieldProblem, validation_problems
from workers.engine.policy import DEFAULT_POLICIES, QueuePolicy, RateLimit

_MAX_SECONDS = 86_400
_Seconds = Annotated[float, Field(gt=0, le=_MAX_SECONDS)]
_Delay = Annotated[float, Field(ge=0, le=_MAX_SECONDS)]


class _Rate(BaseModel):
    starts: Annotated[int, Field(ge=1)]
    seconds: _Seconds


def _split_rate(text: str) -> dict[str, str] | None:
    if text.lower() == "none":
        return None
    starts, _, seconds = text.partition("/")
    return {"starts": starts, "seconds": seconds}


def _to_rate_limit(rate: Any) -> RateLimit | None:
    return None if rate is None else RateLimit(rate.starts, rate.seconds)


def _split_delays(text: str) -> list[str]:
    return [] if text.lower() == "none" else text.split(",")


class QueueSettings(BaseModel):
    """The changes to a queue's policy by its variables; an unset field changes nothing."""

    model_config = ConfigDict(frozen=True, str_strip_whitespace=True, hide_input_in_errors=True)

    concurrency: Annotated[int, Field(ge=1, le=1000)] = 1
    rate_limit: Annotated[_Rate | None, BeforeValidator(_split_rate), AfterValidator(_to_rate_limit)] = None
    timeout: _Seconds = 1.0
    retry_delays: Annotated[tuple[_Delay, ...], BeforeValidator(_split_delays)] = ()
    run: Literal["process", "inline"] = "process"
    redis_url: Annotated[str, AfterValidator(check_redis_url)] = ""

    def apply_to(self, policy: QueuePolicy) -> QueuePolicy:
        """Return the policy with the fields that are set."""
        return replace(policy, **{name: getattr(self, name) for name in self.model_fields_set})


_PROBLEMS = {
    "concurrency": ("is not a whole number between 1 and 1000", "use for instance 5"),
    "rate_limit": ("is not a rate", "use starts/seconds, for instance 60/60, or none"),
    "timeout": ("is not a number of seconds between 0 and 86400", "use for instance 60"),
    "run": ("is not a place for a custom handler", "use process or inline"),
    "retry_delays": ("is not a list of seconds", "use for instance 1,5,25, or none"),
}
"""Problem and fix of each field but the URL, whatever the rule that its value breaks."""


def load_policies(variables: Mapping[str, str]) -> dict[str, QueuePolicy]:
    """Return the policy of each queue.  Raises SettingsError with all problems."""
    policies, errors = {}, []
    for queue, policy in DEFAULT_POLICIES.items():
        values = {field: variables[name] for field, name in _names(queue).items() if variables.get(name)}
        try:
            policies[queue] = QueueSettings.model_validate(values).apply_to(policy)
        except ValidationError as error:
            # A list of delays has a problem for each of its members: one line will do.
            problems = {str(problem.location[0]): problem for problem in validation_problems(error)}
            errors += [
                _to_error(_names(queue)[field], problem, values[field]) for field, problem in problems.items()
            ]
    if errors:
        raise SettingsError(errors)
    return policies


def queue_variables() -> list[str]:
    """Return the names of the variables of all queues."""
    return [name for queue in DEFAULT_POLICIES for name in _names(queue).values()]


def queue_prefix(queue: str) -> str:
    """Return what the variables of a queue begin with."""
    return f"{PREFIX}{queue.upper().replace('-', '_')}_"


def redis_variable(queue: str) -> str:
    """Return the variable that gives a queue a Redis of its own."""
    return f"{queue_prefix(queue)}REDIS_URL"


def _names(queue: str) -> dict[str, str]:
    """Return the variable of each field."""
    return {field: f"{queue_prefix(queue)}{field.upper()}" for field in QueueSettings.model_fields}


def _to_error(variable: str, field_problem: FieldProblem, value: str) -> UsageError:
    rule = _PROBLEMS.get(str(field_problem.location[0]))
    if rule is None:  # a URL, which may have a password
        return UsageError(field_problem.problem, field=variable, fix=field_problem.fix)
    problem, fix = rule
    return UsageError(f"{value!r} {problem}", field=variable, fix=fix)
