"""Settings from a ``.env`` file, the environment and flags; later ones win."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    Field,
    HttpUrl,
    PrivateAttr,
    SecretStr,
    ValidationError,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.address import DEFAULT_ADDRESS, Address
from app.admin_token import MIN_LENGTH, is_valid
from app.alert_settings import alert_variables, load_thresholds
from app.environment import PREFIX, default_data_dir, environment
from app.errors import InvalidValueError, SettingsError, UsageError
from app.queue_settings import load_policies, queue_variables
from app.redis_url import at_upstash, check_redis_url
from app.version import VERSION
from storage.validation import FieldProblem, lower_first, validation_problems
from workers.engine.policy import ECONOMICAL, NORMAL, PollIntervals, QueuePolicy
from workers.handlers.processes.recycle import Recycle
from workers.monitoring.alert_rules import DEFAULTS, Thresholds
from workers.operations.secrets import DEFAULT_SECRET_FIELDS

T = TypeVar("T")

DATABASE_FILE = "couturecast.db"
"""Name of the SQLite file in the data directory, the default without DATABASE_URL."""
_MAX_RELEASE_CHARS = 100
_PROBLEMS = {
    "bool_parsing": ("is neither yes nor no", "use 1 or 0"),
    "int_parsing": ("is not a whole number", "use for instance 5"),
    "float_parsing": ("is not a number", "use for instance 30"),
}
"""Problem and fix by pydantic's name of an error, for those whose message names no fix."""


def _redis_url(value: SecretStr) -> SecretStr:
    check_redis_url(value.get_secret_value())
    return value


def _database_url(value: SecretStr) -> SecretStr:
    if not re.match(r"(postgres(ql)?://.|sqlite:///.)", value.get_secret_value()):
        raise InvalidValueError(
            "is not the URL of a database", fix="use postgresql://user:password@host/name or sqlite:///path"
        )
    return value


def _direct_url(value: SecretStr) -> SecretStr:
    if not re.match(r"postgres(ql)?://.", value.get_secret_value()):
        raise InvalidValueError(
            "is not the URL of a Postgres", fix="use postgresql://user:password@host/name"
        )
    return value


def _expand(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:
        raise InvalidValueError(
            f"{str(path)!r}: this user does not exist", fix="write the whole path"
        ) from None


def _folders(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return [_expand(Path(part)) for part in value.split(":") if part]


def _recycle(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"(\d{1,9})\s*(MB)?", value.strip(), re.IGNORECASE)
    if match is None:
        raise InvalidValueError(
            "is neither a number of jobs nor of MB", fix="use for instance 1000, or 500MB"
        )
    return Recycle(megabytes=int(match[1])) if match[2] else Recycle(jobs=int(match[1]))


def _words(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return tuple(word for part in value.split(",") if (word := part.strip()) and word.lower() != "none")


def _http(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return None if value.strip().lower() == "none" else Address.parse(value)


def _token(value: SecretStr) -> SecretStr:
    if not is_valid(value.get_secret_value()):
        raise InvalidValueError(
            "is not a token",
            fix=f"use {MIN_LENGTH} or more letters, digits and signs without spaces",
        )
    return value


def _release(value: str) -> str:
    if not (0 < len(value.strip()) <= _MAX_RELEASE_CHARS and value.isprintable()):
        raise InvalidValueError(
            "is not the name of a release",
            fix=f"use one line of 1 to {_MAX_RELEASE_CHARS} printable characters",
        )
    return value.strip()


class Settings(BaseSettings):
    """All settings but those of single queues.  Secrets do not show in ``repr``."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", env_ignore_empty=True, extra="ignore", hide_input_in_errors=True
    )

    redis_url: Annotated[SecretStr, AfterValidator(_redis_url)] | None = Field(
        default=None, validation_alias=AliasChoices("redis_url", "REDIS_URL")
    )
    cache_redis_url: Annotated[SecretStr, AfterValidator(_redis_url)] | None = Field(
        default=None, validation_alias=AliasChoices("cache_redis_url", "CACHE_REDIS_URL")
    )
    """URL of the cache's Redis; None: the cache shares the Redis of the queues."""
    database_url: Annotated[SecretStr, AfterValidator(_database_url)] | None = Field(
        default=None, validation_alias=AliasChoices("database_url", "DATABASE_URL")
    )
    direct_url: Annotated[SecretStr, AfterValidator(_direct_url)] | None = Field(
        default=None, validation_alias=AliasChoices("direct_url", "DIRECT_URL")
    )
    """URL of the same Postgres without its pooler, for notifications and migrations; Prisma's name."""
    upstash_email: str | None = Field(
        default=None, validation_alias=AliasChoices("upstash_email", "UPSTASH_EMAIL")
    )
    upstash_api_key: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("upstash_api_key", "UPSTASH_API_KEY")
    )
    upstash_api_url: HttpUrl = Field(
        default=HttpUrl("https://api.upstash.com/v2"),
        validation_alias=AliasChoices("upstash_api_url", "UPSTASH_API_URL"),
    )
    openweather_api_key: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("openweather_api_key", "OPENWEATHER_API_KEY")
    )
    openweather_base_url: HttpUrl = Field(
        default=HttpUrl("https://api.openweathermap.org"),
        validation_alias=AliasChoices("openweather_base_url", "OPENWEATHER_BASE_URL"),
    )
    environment: str = Field(default="local", min_length=1, max_length=40)
    release: Annotated[str, AfterValidator(_release)] = VERSION
    """The deployed version, such as a commit or a tag; it is on every attempt, dead letter and worker."""
    data_dir: Annotated[Path, AfterValidator(_expand)] = Field(default_factory=default_data_dir)
    handlers: str = ""
    handlers_python: Annotated[Path, AfterValidator(_expand)] | None = None
    """The interpreter of custom handlers; None: ours."""
    handlers_path: Annotated[list[Path], NoDecode, BeforeValidator(_folders)] = Field(default_factory=list)
    """Folders from which custom handlers are imported, besides the working directory."""
    handlers_recycle: Annotated[Recycle, NoDecode, BeforeValidator(_recycle)] = Recycle()
    image_dirs: Annotated[list[Path], NoDecode, BeforeValidator(_folders)] = Field(default_factory=list)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    drain_seconds: float = Field(default=30.0, ge=0, le=86_400)
    start_timeout: float = Field(default=30.0, ge=0, le=3_600, validation_alias="COUTURECAST_START_PATIENCE")
    """Seconds that a start waits for servers that do not answer."""
    db_pool_size: int = Field(default=5, ge=1, le=90)
    allow_private_addresses: bool = False
    secret_fields: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)] = DEFAULT_SECRET_FIELDS
    """Words in the names of fields whose values are not shown, separated by commas; ``none``: all are."""
    read_only: bool = False
    """Whether every verb that changes something is refused."""
    http: Annotated[Address | None, NoDecode, BeforeValidator(_http)] = DEFAULT_ADDRESS
    """Address of the HTTP server of the long-running forms; None: no HTTP."""
    admin_token: Annotated[SecretStr, AfterValidator(_token)] | None = None
    """Token of the HTTP API; None: the one in the data directory is used, or made."""
    economical: bool | None = None
    """Whether idle processes send few commands; None: if Upstash runs the Redis."""
    moderation_url: HttpUrl | None = None
    moderation_key: SecretStr | None = None
    notify_urls: SecretStr | None = None
    """URLs of the services that are notified of alerts, separated by spaces; None: no service is."""
    keymap: str = ""
    """Other keys for the dashboard, as ``app.quit=ctrl+q,jobs.abort=X``; checked when it is shown."""
    _flags: frozenset[str] = PrivateAttr(default=frozenset())
    _thresholds: Thresholds = PrivateAttr(default=DEFAULTS)

    @property
    def thresholds(self) -> Thresholds:
        """The limits of alerts."""
        return self._thresholds

    def with_thresholds(self, thresholds: Thresholds) -> Settings:
        """Set the limits of alerts, which have variables of their own; returns these settings."""
        self._thresholds = thresholds
        return self

    @property
    def pace(self) -> PollIntervals:
        """Poll intervals of an idle process at the main Redis."""
        return self.pace_at(self.redis_url.get_secret_value() if self.redis_url else "")

    def pace_at(self, url: str) -> PollIntervals:
        """Poll intervals of an idle process at a Redis; Upstash bills every command."""
        return ECONOMICAL if (at_upstash(url) if self.economical is None else self.economical) else NORMAL

    @property
    def http_was_set(self) -> bool:
        """Whether the address was set: then the program does not start without it."""
        return "http" in self.model_fields_set

    @property
    def http_source(self) -> str:
        """Name of the option or variable that sets the address."""
        return "--http" if "http" in self._flags else f"{PREFIX}HTTP"

    @classmethod
    def load(cls, **flags: Any) -> Settings:
        """Load the settings; a flag that is None counts as unset.  Raises SettingsError with all problems."""
        provided = {name: value for name, value in flags.items() if value is not None}
        try:
            settings = cls(**provided)
        except ValidationError as error:
            raise SettingsError([_to_error(problem) for problem in validation_problems(error)]) from None
        settings._flags = frozenset(provided)
        return settings


def load(**flags: Any) -> tuple[Settings, dict[str, QueuePolicy]]:
    """Load the settings and the policies of the queues.  Raises SettingsError with all problems."""
    variables = environment()
    errors: list[UsageError] = []
    settings = _collect(errors, lambda: Settings.load(**flags))
    policies = _collect(errors, lambda: load_policies(variables))
    thresholds = _collect(errors, lambda: load_thresholds(variables))
    if settings is None or policies is None or thresholds is None:
        raise SettingsError(errors)
    return settings.with_thresholds(thresholds), policies


def _collect(errors: list[UsageError], load_part: Callable[[], T]) -> T | None:
    """Return what ``load_part`` returns; None if it raises SettingsError, whose errors are added."""
    try:
        return load_part()
    except SettingsError as error:
        errors += error.errors
        return None


def unknown_variables(variables: Iterable[str]) -> list[str]:
    """Return a line for each COUTURECAST_ variable that is not a setting."""
    known = [*map(variable_name, Settings.model_fields), *queue_variables(), *alert_variables()]
    lines = []
    for name in variables:
        if name.startswith(PREFIX) and name not in known and not name.startswith(f"{PREFIX}TEST_"):
            bare = name.removeprefix(PREFIX)
            similar = [bare] if bare in known else difflib.get_close_matches(name, known, 1)
            lines.append(f"{name} is not a setting" + (f": did you mean {similar[0]}?" if similar else ""))
    return lines


def variable_name(field: str) -> str:
    """Return the environment variable of a field."""
    alias = Settings.model_fields[field].validation_alias
    if isinstance(alias, str):
        return alias
    return PREFIX + field.upper() if alias is None else field.upper()


def _to_error(invalid: FieldProblem) -> UsageError:
    """Return a problem as an error; its cause is the error of a library that it quotes."""
    problem, fix = _PROBLEMS.get(invalid.type, (lower_first(invalid.problem), invalid.fix))
    location = str(invalid.location[0])  # a field, or the variable that is its only alias
    name = variable_name(location.lower()) if location.lower() in Settings.model_fields else location
    error = UsageError(problem, field=name, fix=fix)
    error.__cause__ = invalid.cause and invalid.cause.__cause__
    return error
